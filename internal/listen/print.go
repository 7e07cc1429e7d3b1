package listen

import (
	"fmt"
	"io"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/schemas"
)

// A printer tells a person, or a program, what happens.
type printer struct {
	json       bool
	out, notes io.Writer

	events, failed int
}

// A line is an event as --json tells it.
type line struct {
	Time      time.Time         `json:"time"`
	ID        schemas.EventID   `json:"id"`
	Type      schemas.EventType `json:"type"`
	BookingID *string           `json:"booking_id"`
	Sequence  int64             `json:"sequence"`
	Status    int               `json:"status,omitempty"`
	LatencyMS float64           `json:"latency_ms,omitempty"`
	Error     string            `json:"error,omitempty"`
	Event     json.RawMessage   `json:"event"`
}

func (p *printer) event(e *schemas.WebhookBody, raw string, forwarded bool, a answer) {
	p.events++
	if forwarded && !a.good() {
		p.failed++
	}
	now := time.Now()
	if p.json {
		l := line{Time: now.UTC(), ID: e.ID, Type: e.Type, BookingID: e.BookingID, Sequence: e.Sequence, Event: json.RawMessage(raw)}
		if forwarded {
			l.Status, l.LatencyMS = a.status, float64(a.took.Microseconds())/1000
		}
		if a.err != nil {
			l.Error = a.err.Error()
		}
		b, err := schemas.Encode(l)
		if err != nil {
			p.note("an event could not be printed: %v", err)
			return
		}
		fmt.Fprintf(p.out, "%s\n", b)
		return
	}
	booking := ""
	if e.BookingID != nil {
		booking = *e.BookingID
	}
	fmt.Fprintf(p.out, "%s  %-20s  %s%s\n", now.Format(time.TimeOnly), e.Type, booking, ending(forwarded, a))
}

// ending is what came of an event, for the end of its line.
func ending(forwarded bool, a answer) string {
	switch took := a.took.Round(time.Millisecond); {
	case !forwarded:
		return ""
	case a.err != nil:
		return fmt.Sprintf("  failed after %s: %v", took, a.err)
	default:
		return fmt.Sprintf("  %d  %s", a.status, took)
	}
}

func (p *printer) note(format string, args ...any) {
	fmt.Fprintf(p.notes, format+"\n", args...)
}

// summary is the last word.
func (p *printer) summary(forwarded bool) {
	if !forwarded {
		p.note("events: %d", p.events)
		return
	}
	p.note("events: %d, delivered: %d, failed: %d", p.events, p.events-p.failed, p.failed)
}
