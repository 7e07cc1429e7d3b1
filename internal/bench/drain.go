package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

const (
	// posters is what one lane of deliver has in flight at most.
	posters = 64

	// drainWithin bounds one backlog; a healthy one takes seconds.
	drainWithin = 5 * time.Minute
)

func drained(fanOut int) string { return fmt.Sprintf("fan-out %d", fanOut) }

// drain measures how fast a backlog of events becomes deliveries.
func (b *bench) drain(ctx context.Context, m *Measurement) error {
	m.Title = "a backlog of events becomes signed POSTs"
	if b.sample == nil {
		var err error
		if b.sample, err = b.sampleEvent(ctx); err != nil {
			return err
		}
	}
	for _, fanOut := range []int{1, 10} {
		err := b.subscribed(ctx, fanOut, func(hooks []*hook) error { return b.drainTo(ctx, m, hooks) })
		if err != nil {
			return fmt.Errorf("at fan-out %d: %w", fanOut, err)
		}
	}
	m.note("%d events at fan-out 1 and a tenth of them at fan-out 10, produced in one burst; from the first of them to the arrival of the last "+
		"delivery. Every signature is verified. The raw limit is as many signed POSTs of the same body by %d goroutines to the same receiver. "+
		"Processor time is until everything rests again: the log of attempts and the host's inbox are in it.", b.o.Events, posters)
	return nil
}

func markDrain(m *Measurement) {
	v := m.median(drained(1))
	m.mark(v >= 3000, number(v)+" /s", "3,000 deliveries a second at fan-out 1")
}

func (b *bench) drainTo(ctx context.Context, m *Measurement, hooks []*hook) error {
	events := max(b.o.Events/len(hooks), 1)
	n := events * len(hooks)
	records, err := copies(b.sample, events)
	if err != nil {
		return err
	}
	const parked = "krib_deliver_parked_total"
	parkedBefore, err := b.counter(ctx, parked)
	if err != nil {
		return err
	}
	var took time.Duration
	used, err := b.spend(ctx, func() error {
		took, err = b.burst(ctx, records, hooks)
		return err
	})
	if err != nil {
		return err
	}
	parkedAfter, err := b.counter(ctx, parked)
	if err != nil {
		return err
	}
	raw, err := bareLoop(ctx, hooks[0], n)
	if err != nil {
		return err
	}
	name := drained(len(hooks))
	m.add(name, "/s", float64(n)/took.Seconds()).beside("bare signed POSTs", raw)
	b.addUse(m, name+", ", "deliveries", used, n)
	m.add(name+", deliveries that waited on a tier", "", parkedAfter-parkedBefore)
	return nil
}

// spend runs something, waits for all that follows from it, and says what it took
// of the processors.
func (b *bench) spend(ctx context.Context, run func() error) (use, error) {
	before, err := b.meter.cpu()
	if err != nil {
		return use{}, err
	}
	if err := run(); err != nil {
		return use{}, err
	}
	if err := b.rest(ctx); err != nil {
		return use{}, err
	}
	after, err := b.meter.cpu()
	return after.minus(before), err
}

// addUse notes what a thousand of something took of the processors. It returns
// Postgres's figure; nil where Postgres is not ours to count.
func (b *bench) addUse(m *Measurement, prefix, of string, u use, n int) *Figure {
	per := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(n) }
	m.add(prefix+"processor time of Krib for 1,000 "+of, "s", per(u.krib))
	if b.meter.postgres == 0 {
		return nil
	}
	return m.add(prefix+"processor time of its Postgres for 1,000 "+of, "s", per(u.postgres))
}

// burst produces the records, waits for every hook to have got them all, and says
// how long that took from the first record to the last delivery.
func (b *bench) burst(ctx context.Context, records []*kgo.Record, hooks []*hook) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	cl, err := kafka.NewProducer(b.kafka, "bench")
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	if err := cl.Ping(ctx); err != nil { // connecting is not part of it
		return 0, fmt.Errorf("connecting to the broker: %w", err)
	}
	begun := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	produced := make(chan error, 1)
	kafka.ProduceAll(gctx, cl, records, func(err error) { produced <- err })
	g.Go(func() error {
		select {
		case err := <-produced:
			if err != nil {
				return fmt.Errorf("producing the backlog: %w", err)
			}
			return nil
		case <-gctx.Done(): // a broker that does not answer keeps its records
			return gctx.Err()
		}
	})
	for _, h := range hooks {
		g.Go(func() error { return h.await(gctx, len(records)) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	end := begun
	for _, h := range hooks {
		if at := last(h.clear()); at.After(end) {
			end = at
		}
	}
	return end.Sub(begun), nil
}

// bareLoop is how many signed POSTs a second the same receiver takes from a loop
// that does nothing else.
func bareLoop(ctx context.Context, h *hook, n int) (float64, error) {
	p := h.bare(posters)
	defer p.close()
	defer h.clear()
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	begun := time.Now()
	for range posters {
		g.Go(func() error {
			for next.Add(1) <= int64(n) {
				if err := p.post(ctx, time.Now()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return float64(n) / time.Since(begun).Seconds(), err
}

// sampleEvent books once and reads the event back from the topic, so that what
// the backlogs are made of is what Krib itself writes.
func (b *bench) sampleEvent(ctx context.Context) (*schemas.Event, error) {
	topic := string(schemas.BookingEvents)
	cl, err := kgo.NewClient(b.kafka.Options("bench-reader")...)
	if err != nil {
		return nil, fmt.Errorf("making a reader: %w", err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the end of %s: %w", topic, err)
	}
	cl.AddConsumePartitions(ends.Offsets().KOffsets())
	n, err := b.homes.take()
	if err != nil {
		return nil, err
	}
	id, err := b.api.book(ctx, n)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("waiting for a booking's event: %w", ctx.Err())
		}
		for _, r := range fetches.Records() {
			if e, err := schemas.Decode[schemas.Event](r.Value); err == nil && e.Booking.ID == id && e.Type == schemas.BookingCreated {
				return &e, nil
			}
		}
	}
}

// copies are records of n events like e, each of a booking of its own.
func copies(e *schemas.Event, n int) ([]*kgo.Record, error) {
	out := make([]*kgo.Record, n)
	for i := range out {
		c := *e
		c.ID, c.Booking.ID, c.OccurredAt = schemas.NewEventID(), schemas.NewBookingID(), schemas.Stamp(time.Now())
		meta := c.Meta()
		meta.TraceParent = schemas.NewTraceParent()
		var err error
		if out[i], err = kafka.Encode(string(schemas.BookingEvents), string(c.Booking.ID), meta, &c); err != nil {
			return nil, err
		}
	}
	return out, nil
}
