package producers

import (
	"fmt"
	"slices"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// How far from the wanted day, in days, other dates are looked for, and how many
// are named. With the longest stay they bound the work of one answer.
const (
	reach           = 90
	maxAlternatives = 5
)

// An Inquiry is a question after a stay, judged by the home's rules and not yet
// by its bookings. From and To are the days whose bookings Answer needs.
type Inquiry struct {
	From, To schemas.Date

	stay    Stay
	reasons []string
	// Alternatives begin on one of these days; the first is empty if there can be
	// none.
	first, last schemas.Date
}

// An Availability says whether a stay can be booked. If not, Reasons say why, and
// Alternatives are free stays of the same length, the nearest first.
type Availability struct {
	Reasons      []string
	Alternatives []store.Span
}

// Inquire refuses a stay that has begun already or ends before it begins;
// whatever else stands against it becomes a reason of the answer.
func Inquire(p *store.Property, s Stay, now time.Time) (Inquiry, error) {
	if err := onMarket(p); err != nil {
		return Inquiry{}, err
	}
	today := todayAt(p, now)
	q := Inquiry{From: s.CheckIn, To: s.CheckOut, stay: s, reasons: []string{}}
	for _, e := range refusals(p, s, todayAt(p, now)) {
		if e.Code == "check_in_past" || e.Code == "invalid_dates" {
			return Inquiry{}, e
		}
		q.reasons = append(q.reasons, e.Detail)
	}
	if n := s.nights(); n >= p.MinimumNights && n <= p.MaximumNights && s.Guests <= p.MaxGuests {
		q.look(p, today)
	}
	return q, nil
}

// look sets the days around the wanted one on which another stay may begin.
func (q *Inquiry) look(p *store.Property, today schemas.Date) {
	nights := q.stay.nights()
	first, last := today, today.AddDays(maxAhead)
	if p.AvailableFrom != nil {
		first = max(first, *p.AvailableFrom)
	}
	if p.AvailableTo != nil {
		last = min(last, p.AvailableTo.AddDays(-nights))
	}
	if last < first {
		return
	}
	// A wanted day outside of the window is nearest to the window's end.
	near := min(max(q.stay.CheckIn, first), last)
	q.first, q.last = max(first, near.AddDays(-reach)), min(last, near.AddDays(reach))
	q.From, q.To = min(q.From, q.first), max(q.To, q.last.AddDays(nights))
}

// Answer judges the stay by the nights that are taken between From and To.
func (q *Inquiry) Answer(taken []store.Span) Availability {
	a := Availability{Reasons: q.reasons, Alternatives: []store.Span{}}
	for _, t := range taken {
		if t.CheckIn < q.stay.CheckOut && t.CheckOut > q.stay.CheckIn {
			a.Reasons = append(slices.Clip(a.Reasons), fmt.Sprintf("the property is booked from %s to %s", t.CheckIn, t.CheckOut))
			break
		}
	}
	if len(a.Reasons) > 0 && q.first != "" {
		a.Alternatives = q.alternatives(taken)
	}
	return a
}

// alternatives goes outwards from the day that is nearest to the wanted one, the
// earlier of two before the later.
func (q *Inquiry) alternatives(taken []store.Span) []store.Span {
	nights := q.stay.nights()
	starts := q.first.NightsUntil(q.last) + 1
	busy := calendar(q.first, starts+nights-1, taken)
	near := q.first.NightsUntil(min(max(q.stay.CheckIn, q.first), q.last))
	found := []store.Span{}
	for d := 0; d < starts && len(found) < maxAlternatives; d++ {
		for _, at := range slices.Compact([]int{near - d, near + d}) {
			if at >= 0 && at < starts && len(found) < maxAlternatives && !slices.Contains(busy[at:at+nights], true) {
				in := q.first.AddDays(at)
				found = append(found, store.Span{CheckIn: in, CheckOut: in.AddDays(nights)})
			}
		}
	}
	return found
}

// calendar says of each night from a day on whether it is taken.
func calendar(from schemas.Date, nights int, taken []store.Span) []bool {
	busy := make([]bool, nights)
	for _, t := range taken {
		for n := max(0, from.NightsUntil(t.CheckIn)); n < min(nights, from.NightsUntil(t.CheckOut)); n++ {
			busy[n] = true
		}
	}
	return busy
}
