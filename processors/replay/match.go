package replay

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/krib-ai/krib/internal/filter"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// A wish is a subscription's own filter, as it was last compiled.
type wish struct {
	text   string
	filter *filter.Filter // nil for every event
}

// of follows the subscription, which may be changed while a replay runs. What this
// version cannot compile, or an event that it cannot be asked about, counts as
// wanted, as in fan-out: too much is better than too little.
func (w *wish) of(sub *schemas.Subscription) {
	if sub.Filter == w.text {
		return
	}
	*w = wish{text: sub.Filter}
	if sub.Filter != "" {
		w.filter, _ = filter.Load(sub.Filter) // fan-out reports it
	}
}

func (w *wish) wants(e *schemas.Event) bool {
	if w.filter == nil {
		return true
	}
	yes, err := w.filter.Matches(context.Background(), e)
	return yes || err != nil
}

// An occurrence is an event of the log that the job is about.
type occurrence struct {
	event schemas.Event
	id    schemas.DeliveryID
	trace string
}

// match takes from pending up to room events that the job is about, and moves p
// over everything that it has looked at.
func (w *work) match(p *schemas.ReplayProgress, sub *schemas.Subscription, room int) []occurrence {
	var found []occurrence
	i := 0
	for ; i < len(w.pending) && len(found) < room; i++ {
		rec := w.pending[i]
		s := slices.IndexFunc(p.Spans, func(s schemas.ReplaySpan) bool { return s.Partition == rec.Partition })
		if s < 0 || rec.Offset < p.Spans[s].Next {
			continue
		}
		span := &p.Spans[s]
		inRange := rec.Offset < span.End
		if span.Next = min(rec.Offset+1, span.End); span.Next == span.End {
			w.cl.PauseFetchPartitions(map[string][]int32{rec.Topic: {rec.Partition}}) // what follows is none of the job's
		}
		if !inRange || rec.Attrs.IsControl() {
			continue
		}
		w.r.m.read.Inc()
		e, err := schemas.Decode[schemas.Event](rec.Value)
		if err != nil || !e.Complete() {
			w.r.m.unreadable.Inc()
			w.r.o.Logger.Warn("a replay has left an event out that cannot be decoded", slog.String("replay", string(w.job.ID)),
				slog.Int("partition", int(rec.Partition)), slog.Int64("offset", rec.Offset), slog.Any("error", err))
			continue
		}
		if w.job.Range.Matches(&e, sub) && (w.job.Range.Single() || w.wish.wants(&e)) {
			found = append(found, occurrence{e, schemas.DeliveryFor(e.ID, sub.ID), kafka.HeaderOf(rec, "traceparent")})
		}
	}
	w.pending = w.pending[i:]
	return found
}

// What is young may be on its way to the log of attempts: an event that occurred
// less than fresh before the job was made, and of which nothing is known, is asked
// for again for as long as grace.
const (
	fresh = time.Minute
	grace = 5 * time.Second
)

// failed leaves those whose delivery has ended without being delivered. What is
// under way comes by itself.
func (w *work) failed(ctx context.Context, found []occurrence) ([]occurrence, error) {
	if len(found) == 0 {
		return nil, nil
	}
	ids := make([]schemas.DeliveryID, len(found))
	for i := range found {
		ids[i] = found[i].id
	}
	began := time.Now()
	for idle := minIdle; ; idle = wait(ctx, idle) {
		last, err := w.r.o.Jobs.LastAttempts(ctx, w.job.SubscriptionID, ids)
		if err != nil {
			return nil, err
		}
		unknown := slices.ContainsFunc(found, func(o occurrence) bool {
			_, known := last[o.id]
			return !known && o.event.OccurredAt.After(w.job.CreatedAt.Add(-fresh))
		})
		if unknown && time.Since(began) < grace && ctx.Err() == nil {
			continue
		}
		return slices.DeleteFunc(found, func(o occurrence) bool { return !undelivered(last, o.id) }), ctx.Err()
	}
}

func undelivered(last map[schemas.DeliveryID]schemas.Attempt, id schemas.DeliveryID) bool {
	a, known := last[id]
	return known && a.Final && (a.Outcome == schemas.Dead || a.Outcome == schemas.Gone || a.Outcome == schemas.Withheld)
}
