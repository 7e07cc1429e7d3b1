package replay

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/schemas"
)

const (
	// produceTimeout bounds the wait for acknowledgements. It leaves of the lease what
	// saving needs. stopGrace is what is left of it when the process is to stop.
	produceTimeout = 8 * time.Second
	stopGrace      = time.Second
)

// produce writes the deliveries and waits until all are acknowledged.
func (w *work) produce(ctx context.Context, sub *schemas.Subscription, found []occurrence) ([]schemas.DeliveryID, error) {
	if len(found) == 0 {
		return nil, nil
	}
	out, ids := make([]*kgo.Record, len(found)), make([]schemas.DeliveryID, len(found))
	for i := range found {
		ids[i] = found[i].id
	}
	before, err := w.r.o.Jobs.AttemptsBefore(ctx, w.job.Run, sub.ID, ids)
	if err != nil {
		return nil, err
	}
	for i := range found {
		if out[i], err = w.render(&found[i], sub, before[ids[i]]); err != nil {
			return nil, err
		}
	}
	if err := w.write(ctx, out); err != nil {
		return nil, w.r.errorf(w.job, "writing %d deliveries: %w", len(out), err)
	}
	w.r.m.sent.Add(float64(len(out)))
	if w.repeated -= len(out); w.repeated <= 0 {
		w.stamp = time.Time{}
	}
	return ids, nil
}

func (w *work) write(ctx context.Context, out []*kgo.Record) error {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), produceTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	produced := make(chan error, 1)
	kafka.ProduceAll(own, w.cl, out, func(err error) { produced <- err })
	select {
	case err := <-produced:
		return err
	case <-own.Done():
		return own.Err()
	}
}

// render makes the delivery that fan-out makes of the event, of the job's run; before
// is how often it was attempted in others.
func (w *work) render(o *occurrence, sub *schemas.Subscription, before int) (*kgo.Record, error) {
	body, err := schemas.BodyOf(&o.event)
	if err != nil {
		return nil, err
	}
	to := *sub
	to.URL = webhook.Shown(to.URL) // an earlier version may have stored another form
	d, err := schemas.DeliveryOf(&o.event, &to, body)
	if err != nil {
		return nil, err
	}
	d.Run, d.Trigger, d.CreatedAt, d.AttemptsBefore = w.job.Run, w.job.Trigger, w.job.SavedAt, before
	if !w.stamp.IsZero() {
		d.CreatedAt = w.stamp
	}
	meta := d.Meta(d.CreatedAt)
	meta.TraceParent = o.trace
	return kafka.Encode(string(schemas.Deliveries), string(sub.ID), meta, &d)
}
