package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sample() *Report {
	m := &Measurement{Name: Create, Title: "bookings accepted"}
	for i, v := range []float64{1500, 2500.4, 2100} {
		m.add(accepted, "/s", v).beside("one-row commits", []float64{5000, 5000, 7000}[i])
		m.add("processor time", "s", 0.5)
		m.note("said once")
	}
	markCreate(m)
	return &Report{
		At: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC), Command: "krib bench --runs 3", Runs: 3, Measurements: []*Measurement{m},
		Machine: Machine{
			CPU: "Some CPU", Cores: 2, Memory: 8 << 30, Kernel: "6.1", Go: "go1.26", Postgres: "16.1, started by Krib", Kafka: "kfake", Load: "0.02",
		},
	}
}

func TestTheReportIsMarkdown(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := sample().WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	want := `# krib bench, 2026-03-02

| | |
|---|---|
| command | ` + "`krib bench --runs 3`" + ` |
| processor | Some CPU, 2 cores |
| memory | 8.0 GiB |
| kernel | 6.1 |
| Go | go1.26 |
| Postgres | 16.1, started by Krib |
| Kafka | kfake |
| load before | 0.02 |

Each figure is the median of 3 runs; the raw limit beside it is the median of the same runs, and the ratio is the
median of the runs' own ratios. The load generator and the receivers are one process on the same machine, and
everything is on loopback: they take processor time from Krib.

## create: bookings accepted

| figure | unit | median | min | max | raw limit | its median | ratio |
|---|---|--:|--:|--:|---|--:|--:|
| accepted over HTTP | /s | 2,100 | 1,500 | 2,500 | one-row commits | 5,000 | 0.30 |
| processor time | s | 0.50 | 0.50 | 0.50 |  |  |  |

- Mark, 2,000 accepted a second over HTTP: **met**, 2,100 /s.
- said once
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheReportIsJSONWithEveryValue(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	want := sample()
	if err := want.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMarksAreJudgedByMedians(t *testing.T) {
	t.Parallel()
	figure := func(name string, values, raw []float64) *Measurement {
		return &Measurement{Figures: []*Figure{{Name: name, Values: values, Limit: "raw", Raw: raw}}}
	}
	fiveHang := func(m *Measurement) { markHangOf(m, 5) }
	for name, c := range map[string]struct {
		m    *Measurement
		mark func(*Measurement)
		met  bool
	}{
		"create, one bad run":         {figure(accepted, []float64{100, 2000, 3000}, nil), markCreate, true},
		"create, too slow":            {figure(accepted, []float64{1999, 1999, 9000}, nil), markCreate, false},
		"create, not measured":        {&Measurement{}, markCreate, false},
		"drain":                       {figure(drained(1), []float64{3000}, nil), markDrain, true},
		"drain, too slow":             {figure(drained(1), []float64{2999}, nil), markDrain, false},
		"latency":                     {figure(fromEvent(300, 99), []float64{49, 400, 12}, nil), markLatency, true},
		"latency, too slow":           {figure(fromEvent(300, 99), []float64{50}, nil), markLatency, false},
		"latency, not measured":       {&Measurement{}, markLatency, false},
		"hang, a small ratio":         {figure(whileHanging(5, 99), []float64{110}, []float64{100}), fiveHang, true},
		"hang, a small difference":    {figure(whileHanging(5, 99), []float64{6}, []float64{2}), fiveHang, true},
		"hang, neither":               {figure(whileHanging(5, 99), []float64{20}, []float64{10}), fiveHang, false},
		"hang, ratio of the same run": {figure(whileHanging(5, 99), []float64{10, 100, 1000}, []float64{10, 100, 1000}), fiveHang, true},
		"hang, not measured":          {&Measurement{}, fiveHang, false},
	} {
		c.mark(c.m)
		if len(c.m.Marks) != 1 || c.m.Marks[0].Met != c.met {
			t.Errorf("%s: %+v, want met %t", name, c.m.Marks, c.met)
		}
	}
}

func TestMemoryIsJudgedByTheMost(t *testing.T) {
	t.Parallel()
	m := memory{wanted: true, fresh: []size{{10 << 20, 20 << 20}, {12 << 20, 20 << 20}}, after: []size{{100 << 20, 200 << 20}, {250 << 20, 200 << 20}}}
	out := m.report(&Options{})
	if got := out.median("in all, after a start"); got != 31 {
		t.Errorf("a fresh start has %v MiB, want 31", got)
	}
	if out.Marks[0].Met || !strings.Contains(out.Marks[0].Is, "450") {
		t.Errorf("%+v", out.Marks)
	}
	if f := m.report(&Options{GivenPostgres: true}).figure("its Postgres, after a start"); f != nil {
		t.Errorf("a given Postgres is counted: %+v", f)
	}
}

func TestNumbersHaveThreeDigitsThatCount(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 0.042: "0.04", 9.876: "9.88", 12.34: "12.3", 123.4: "123", 1234: "1,234", 1234567: "1,234,567", -1234: "-1,234", -123: "-123",
	} {
		if got := number(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}
