package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Report is everything that was measured, every run's value among it.
type Report struct {
	At           time.Time      `json:"at"`
	Command      string         `json:"command"`
	Runs         int            `json:"runs"`
	Machine      Machine        `json:"machine"`
	Measurements []*Measurement `json:"measurements"`
}

// A Measurement is one of [Names].
type Measurement struct {
	Name    string    `json:"name"`
	Title   string    `json:"title"`
	Figures []*Figure `json:"figures"`
	Marks   []Mark    `json:"marks"`
	Notes   []string  `json:"notes"`
}

// A Figure is one number of every run. Raw are those of what Limit names, of the
// same runs; a figure without a Limit has none.
type Figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Limit  string    `json:"limit,omitempty"`
	Raw    []float64 `json:"raw,omitempty"`
}

// A Mark is a figure that was aimed at.
type Mark struct {
	Text string `json:"text"`
	Is   string `json:"is"`
	Met  bool   `json:"met"`
}

// add notes one run's value of a figure, which is made when it is new.
func (m *Measurement) add(name, unit string, value float64) *Figure {
	f := m.figure(name)
	if f == nil {
		f = &Figure{Name: name, Unit: unit}
		m.Figures = append(m.Figures, f)
	}
	f.Values = append(f.Values, value)
	return f
}

// beside notes the same run's raw limit.
func (f *Figure) beside(limit string, raw float64) {
	f.Limit, f.Raw = limit, append(f.Raw, raw)
}

func (m *Measurement) figure(name string) *Figure {
	i := slices.IndexFunc(m.Figures, func(f *Figure) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return m.Figures[i]
}

// median is a figure's; not a number if it was never measured, which meets no
// mark.
func (m *Measurement) median(name string) float64 {
	if f := m.figure(name); f != nil {
		return median(f.Values)
	}
	return math.NaN()
}

// note says something once, in however many runs it is true.
func (m *Measurement) note(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(m.Notes, s) {
		m.Notes = append(m.Notes, s)
	}
}

func (m *Measurement) mark(met bool, is, text string) {
	m.Marks = append(m.Marks, Mark{Text: text, Is: is, Met: met})
}

// WriteJSON writes the report with every single value.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// WriteMarkdown writes the report for people.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# krib bench, %s\n\n", r.At.Format(time.DateOnly))
	r.Machine.write(&b, r.Command)
	fmt.Fprintf(&b, "\nEach figure is the median of %d runs; the raw limit beside it is the median of the same runs, and the ratio is the\n"+
		"median of the runs' own ratios. The load generator and the receivers are one process on the same machine, and\n"+
		"everything is on loopback: they take processor time from Krib.\n", r.Runs)
	for _, m := range r.Measurements {
		m.write(&b)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func (m *Measurement) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s: %s\n\n", m.Name, m.Title)
	b.WriteString("| figure | unit | median | min | max | raw limit | its median | ratio |\n|---|---|--:|--:|--:|---|--:|--:|\n")
	for _, f := range m.Figures {
		raw, ratio := "", ""
		if f.Limit != "" {
			raw, ratio = number(median(f.Raw)), number(median(ratios(f.Values, f.Raw)))
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", f.Name, f.Unit, number(median(f.Values)), number(slices.Min(f.Values)),
			number(slices.Max(f.Values)), f.Limit, raw, ratio)
	}
	b.WriteString("\n")
	for _, k := range m.Marks {
		verdict := "missed"
		if k.Met {
			verdict = "met"
		}
		fmt.Fprintf(b, "- Mark, %s: **%s**, %s.\n", k.Text, verdict, k.Is)
	}
	for _, n := range m.Notes {
		fmt.Fprintf(b, "- %s\n", n)
	}
}

// number has three digits that count, and commas between thousands.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case v == 0:
		return "0"
	case a < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case a < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
