package audit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/krib-ai/krib/schemas"
)

func (a *auditor) report() *Report {
	r := &Report{Since: a.o.Since.UTC(), Until: a.o.Until.UTC(), Events: len(a.events), Missing: []Missing{}, Notes: []string{}, Subscriptions: []Line{}}
	for _, t := range a.trails {
		if why := a.subs[t.sub].line.conclude(t, a.forgotten(a.events[t.event].at)); why != "" {
			r.Missing = append(r.Missing, a.missing(t.event, t.sub, why))
		}
	}
	for key, w := range a.wanted {
		if a.trails[key] == nil && a.neverMade(w) {
			r.Missing = append(r.Missing, a.missing(w.event, w.sub, "no delivery was made of it"))
		}
	}
	for _, s := range a.subs {
		if l := s.line; l.Matched+l.Unknown > 0 || l.Subscription == a.o.Subscription {
			r.Subscriptions = append(r.Subscriptions, l)
		}
	}
	slices.SortFunc(r.Subscriptions, func(x, y Line) int { return cmp.Compare(x.Subscription, y.Subscription) })
	slices.SortFunc(r.Missing, func(x, y Missing) int {
		return cmp.Or(cmp.Compare(x.Subscription, y.Subscription), x.At.Compare(y.At), cmp.Compare(x.Event, y.Event))
	})
	return r
}

func (a *auditor) missing(e, s int32, why string) Missing {
	ev, sub := &a.events[e], a.subs[s].line.Subscription
	return Missing{ev.id, ev.kind, ev.at.UTC(), sub, schemas.DeliveryFor(ev.id, sub), why}
}

// conclude counts a delivery of which there is something, and says why it is
// missing if it is. One that is so old that some of its records may be gone is
// missing never.
func (l *Line) conclude(t *trail, forgotten bool) (why string) {
	switch {
	case t.ended == schemas.Delivered:
		l.Delivered++
	case t.ended == schemas.Withheld:
		l.Withheld++
	case t.ended == schemas.Superseded:
		l.Superseded++
	case t.ended != "", t.dead:
		l.Dead++
	case t.there && !t.taken:
		l.Waiting++
	case forgotten:
		l.Unknown++
		return ""
	case t.there:
		l.Missing++
		why = "it was read from " + t.where + " and nothing came of it"
	default:
		l.Missing++
		why = "an attempt failed, and it is on no topic that would bring the next one"
	}
	l.Matched++
	return why
}

// neverMade counts a delivery of which there is nothing at all, and says whether it
// is missing.
func (a *auditor) neverMade(w *want) bool {
	l, e := &a.subs[w.sub].line, &a.events[w.event]
	if !w.sure || a.forgotten(e.at) {
		l.Unknown++
		return false
	}
	l.Matched++
	switch {
	case w.filtered:
		l.Filtered++
	case !e.taken, a.began.Sub(e.at) < a.o.Grace:
		l.InFlight++
	default:
		l.Missing++
		return true
	}
	return false
}

// forgotten says that a delivery of that moment may have left its topic.
func (a *auditor) forgotten(at time.Time) bool {
	return a.kept > 0 && a.began.Sub(at) > a.kept-clockSkew
}

// limits notes what keeps the account from being a proof.
func (a *auditor) limits(ctx context.Context, r *Report) error {
	if a.forgotten(a.o.Since) {
		r.Notes = append(r.Notes, fmt.Sprintf("not provable before %s: webhook.deliveries is kept for %s; what has no attempt from before then counts as unknown",
			a.began.Add(-a.kept).UTC().Format(time.RFC3339), a.kept))
	}
	window, compacts, err := a.scan.Setting(ctx, string(schemas.BookingEvents), "min.compaction.lag.ms")
	if err != nil {
		return err
	}
	if compacts && a.began.Sub(a.o.Since) > window {
		r.Notes = append(r.Notes, fmt.Sprintf("before %s booking.events keeps the last event of each booking only", a.began.Add(-window).UTC().Format(time.RFC3339)))
	}
	for _, topic := range slices.Sorted(maps.Keys(a.spoiled)) {
		r.Notes = append(r.Notes, fmt.Sprintf("%d records of %s could not be decoded and are not accounted for; krib.poison has what their readers said", a.spoiled[topic], topic))
	}
	if unknown := a.unknown(); unknown > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d events came before the last change of a subscription that now matches them, or too long ago: whether they matched is unknown", unknown))
	}
	return nil
}

func (a *auditor) unknown() (n int) {
	for _, s := range a.subs {
		n += s.line.Unknown
	}
	return n
}

// Problem is a sentence about what is missing on the topics or stays in the outbox, or
// empty. A row of the outbox that is younger than the grace is on its way.
func (r *Report) Problem() string {
	var found []string
	if n := len(r.Missing); n > 0 {
		found = append(found, fmt.Sprintf("%d of the deliveries that had to be made are missing", n))
	}
	if o := r.Outbox; o != nil && o.Rows > 0 && o.Age >= r.grace {
		found = append(found, fmt.Sprintf("%s in the outbox, the oldest since %s: the relay does not publish them", rows(o.Rows), o.Age.Round(time.Second)))
	}
	if o := r.Outbox; o != nil && o.SetAside > 0 {
		found = append(found, fmt.Sprintf("%s refused by Kafka and set aside in outbox_stuck", rows(o.SetAside)))
	}
	return strings.Join(found, "; ")
}

func rows(n int) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

// verdict is the account in one line.
func (r *Report) verdict() string {
	if problem := r.Problem(); problem != "" {
		return "incomplete: " + problem
	}
	var all Line
	for i := range r.Subscriptions {
		l := &r.Subscriptions[i]
		all.Matched += l.Matched
		all.Waiting += l.Waiting
		all.InFlight += l.InFlight
		all.Dead += l.Dead
		all.Unknown += l.Unknown
	}
	var text strings.Builder
	fmt.Fprintf(&text, "complete: %d deliveries of %d events are accounted for", all.Matched, r.Events)
	for _, part := range []struct {
		n    int
		what string
	}{{all.Waiting, "wait"}, {all.InFlight, "are in flight"}, {all.Dead, "are dead"}, {all.Unknown, "more are unknown"}} {
		if part.n > 0 {
			fmt.Fprintf(&text, ", %d %s", part.n, part.what)
		}
	}
	switch o := r.Outbox; {
	case o == nil:
		return text.String() + "; the outbox was not counted"
	case o.Rows == 0:
		return text.String() + "; the outbox is empty"
	default:
		return text.String() + fmt.Sprintf("; the outbox has %s of the last %s", rows(o.Rows), r.grace)
	}
}
