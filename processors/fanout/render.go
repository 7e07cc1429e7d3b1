package fanout

import (
	"context"
	"log/slog"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// rendered is what a batch of events becomes.
type rendered struct {
	out                              []*kgo.Record
	bytes                            int64
	events, deliveries, feed, poison int
	asked                            asked
}

func (b *rendered) add(r *kgo.Record) {
	b.out = append(b.out, r)
	b.bytes += int64(len(r.Value))
}

func (p *Processor) render(in []*kgo.Record) *rendered {
	b := &rendered{}
	p.budget.begin()
	defer p.budget.end()
	for _, r := range in {
		e, err := schemas.Decode[schemas.Event](r.Value)
		if err == nil {
			err = p.event(b, &e, kafka.HeaderOf(r, "traceparent"))
		}
		if err != nil {
			p.poisoned(b, r, err)
		}
	}
	return b
}

// event appends an event's records, or nothing and an error.
func (p *Processor) event(b *rendered, e *schemas.Event, trace string) error {
	if !e.Complete() {
		return errIncomplete
	}
	feed, err := feedOf(e, trace)
	if err != nil {
		return err
	}
	var subs []subscriber
	var answers asked
	if e.HostWebhooks {
		subs, answers = p.budget.wanted(p.table.matching(e.Booking.AgentID, e.Type), e)
	}
	deliveries, err := deliveriesOf(e, subs, trace)
	if err != nil {
		return err
	}
	for _, r := range feed {
		b.add(r)
	}
	for _, r := range deliveries {
		b.add(r)
	}
	b.events++
	b.feed += len(feed)
	b.deliveries += len(deliveries)
	b.asked.add(answers)
	return nil
}

// deliveriesOf renders the event's data once and a body for each subscription
// that it matches. A disabled one gets its delivery too: deliver withholds it and
// says so, and the accounting of matched events adds up.
func deliveriesOf(e *schemas.Event, subs []subscriber, trace string) ([]*kgo.Record, error) {
	if len(subs) == 0 {
		return nil, nil
	}
	common, err := schemas.BodyOf(e)
	if err != nil {
		return nil, err
	}
	out := make([]*kgo.Record, len(subs))
	for i, s := range subs {
		d, err := schemas.DeliveryOf(e, s.Subscription, common)
		if err != nil {
			return nil, err
		}
		d.FilterNotAsked = s.notAsked
		meta := d.Meta(e.OccurredAt)
		meta.TraceParent = trace
		if out[i], err = kafka.Encode(string(schemas.Deliveries), string(s.ID), meta, &d); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// feedOf are the event's records for its host: what the booking is now, and the
// notification that it creates, if any and if the host wants to hear of its kind.
func feedOf(e *schemas.Event, trace string) ([]*kgo.Record, error) {
	fs := []schemas.FeedRecord{{Kind: schemas.FeedBooking, HostID: e.Booking.HostID, At: e.OccurredAt, EventID: e.ID, Booking: schemas.UpdateOf(e)}}
	if n := schemas.NotificationOf(e); n != nil && !slices.Contains(e.HostMuted, n.Type) {
		fs = append(fs, schemas.FeedRecord{Kind: schemas.FeedNotification, HostID: e.Booking.HostID, At: e.OccurredAt, EventID: e.ID, Notification: n})
	}
	out := make([]*kgo.Record, len(fs))
	for i := range fs {
		meta := fs[i].Meta()
		meta.TraceParent = trace
		var err error
		if out[i], err = kafka.Encode(string(schemas.HostNotifications), string(fs[i].HostID), meta, &fs[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *Processor) poisoned(b *rendered, r *kgo.Record, cause error) {
	p.o.Logger.Error("a booking event could not be decoded; it is on krib.poison",
		slog.Int("partition", int(r.Partition)), slog.Int64("offset", r.Offset), slog.Any("error", cause))
	rec, err := kafka.PoisonOf(Group, r, cause)
	if err != nil {
		p.o.Logger.ErrorContext(context.Background(), "a poison record could not be written", slog.Any("error", err))
		return
	}
	b.poison++
	b.add(rec)
}
