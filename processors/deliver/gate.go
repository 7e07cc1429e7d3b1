package deliver

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// A gate keeps the jobs of a partition that has just become ours until its holds
// and its last attempts have been read: the first of them may have to wait for one
// that its former owner put on a tier, or may have been made by it. Other partitions go on meanwhile. How many jobs wait is bounded by
// the partition's span.
type gate struct {
	// load reads what a partition's jobs need, the first of which was written at
	// since. It is called again after an error.
	load func(ctx context.Context, p *kafka.Partition, since time.Time) error
	pass func(*job)
	warn func(error)

	mu    sync.Mutex
	parts map[*kafka.Partition]*doorway
}

// A doorway is one partition's.
type doorway struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing passes through load any more
	open   bool
	queue  []*job
}

// come passes a job on, now or later, and never blocks.
func (g *gate) come(j *job) {
	p := j.item.Partition()
	g.mu.Lock()
	d := g.parts[p]
	if d != nil && d.open {
		g.mu.Unlock()
		g.pass(j)
		return
	}
	defer g.mu.Unlock()
	if d == nil {
		ctx, cancel := context.WithCancel(context.Background())
		d = &doorway{cancel: cancel, done: make(chan struct{})}
		g.parts[p] = d
		go g.unlock(ctx, p, d, j.item.Record.Timestamp)
	}
	d.queue = append(d.queue, j)
}

// unlock loads what the partition needs and lets its jobs pass. Those that come
// meanwhile go behind those that wait.
func (g *gate) unlock(ctx context.Context, p *kafka.Partition, d *doorway, since time.Time) {
	defer close(d.done)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := g.load(ctx, p, since)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			g.warn(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
	for {
		g.mu.Lock()
		jobs := d.queue
		d.queue = nil
		d.open = len(jobs) == 0
		g.mu.Unlock()
		if len(jobs) == 0 {
			return
		}
		for _, j := range jobs {
			if ctx.Err() != nil {
				return
			}
			g.pass(j)
		}
	}
}

// leave forgets a partition; none of its jobs passes afterwards.
func (g *gate) leave(topic string, partition int32) {
	var gone []*doorway
	g.mu.Lock()
	for p, d := range g.parts {
		if p.Topic == topic && p.Number == partition {
			delete(g.parts, p)
			gone = append(gone, d)
		}
	}
	g.mu.Unlock()
	for _, d := range gone {
		d.cancel()
		<-d.done
	}
}

func (w *Worker) load(ctx context.Context, p *kafka.Partition, since time.Time) error {
	if err := w.loadHolds(ctx, p); err != nil {
		return err
	}
	w.recall(ctx, p, since)
	return nil
}

// loadHolds reads what webhook.holds says of a partition. Its former owner has
// ended all of its work there, so nothing is written while it is read.
func (w *Worker) loadHolds(ctx context.Context, p *kafka.Partition) error {
	found := map[string]schemas.Hold{}
	err := kafka.ReadPartition(ctx, w.in.Client(), w.kafka, "krib-deliver-holds", string(schemas.Holds), p.Number, func(r *kgo.Record) {
		if len(r.Value) == 0 {
			delete(found, string(r.Key))
			return
		}
		v, err := schemas.Decode[schemas.Hold](r.Value)
		if err == nil && v.Key() != string(r.Key) {
			err = fmt.Errorf("the key is %q and should be %q", r.Key, v.Key())
		}
		if err != nil {
			w.poisonedRecord(r, err)
			return
		}
		found[string(r.Key)] = v
	})
	if err != nil {
		return err
	}
	m := map[holdKey]*hold{}
	for _, v := range found {
		if h := w.holds.believed(&v, time.Now()); h != nil && len(m) < maxHolds {
			m[holdKey{v.SubscriptionID, v.BookingID, v.Run}] = h
		} else if h == nil {
			w.forgetHold(&v, p.Number)
		}
	}
	w.holds.set(p, m)
	return nil
}

// believed is what of a hold is not older than records are believed in; nil for
// nothing.
func (s *holds) believed(v *schemas.Hold, now time.Time) *hold {
	h := &hold{newest: v.Newest}
	for _, o := range v.Outstanding {
		if !o.DueAt.Add(s.bound).Before(now) {
			h.out = append(h.out, outstanding{id: o.DeliveryID, sequence: o.Sequence, due: o.DueAt})
		}
	}
	if len(h.out) == 0 {
		return nil
	}
	return h
}

// forgetHold writes a tombstone for a hold whose records were lost: nobody else
// ever would.
func (w *Worker) forgetHold(v *schemas.Hold, partition int32) {
	v.Outstanding = nil
	w.in.Client().TryProduce(context.Background(), holdRecord(v, partition, ""), func(_ *kgo.Record, err error) {
		if err != nil {
			w.logger.Warn("a hold that is over was not removed; the next owner tries again", slog.Any("error", err))
		}
	})
}
