package kafka

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

// An Effect is what handling an item brought forth.
type Effect struct {
	// Item has begun. It is Done once Records are acknowledged, Abandoned when they
	// never will be.
	Item    *Item
	Records []*kgo.Record
	// Latest, if set, makes one record more, or nil, at each time that the effect is
	// written, in the order of Put and from one goroutine: a state, of which only the
	// last record counts. Were it made before, one that is refused and written again
	// would come after younger ones.
	Latest func() *kgo.Record
	// Settled is told which of the two it was, before the item is; it may be nil and
	// must not block.
	Settled func(durable bool)

	tries int
}

// Effects writes the records of effects in the order of Put and then marks their
// items. It is one goroutine before the client, because two would swap records
// of one key between Put and the producer.
//
// A record that is refused now (a topic that is not there yet, a lost right) is
// written again until its partition leaves: an item that is neither done nor
// handed back would hold the partition's watermark for ever. A record that is
// refused for good goes to krib.poison with its source, and the rest flows.
type Effects struct {
	reader string
	cl     *kgo.Client
	logger *slog.Logger
	failed func()

	mu      sync.Mutex
	queue   []Effect
	wake    chan struct{}
	stopped bool
}

// NewEffects makes the writer of a reader's effects. failed counts refused
// writes and may be nil.
func NewEffects(reader string, cl *kgo.Client, logger *slog.Logger, failed func()) *Effects {
	if failed == nil {
		failed = func() {}
	}
	return &Effects{reader: reader, cl: cl, logger: logger, failed: failed, wake: make(chan struct{}, 1)}
}

// Put queues an effect and never blocks.
func (e *Effects) Put(x Effect) {
	e.mu.Lock()
	if e.stopped {
		e.mu.Unlock()
		// In a goroutine of its own, for the caller may hold a lock that Settled takes.
		go abandon(x)
		return
	}
	e.queue = append(e.queue, x)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Poison writes the item's record to krib.poison and marks it. It begins the
// item itself.
func (e *Effects) Poison(it *Item, cause error) {
	if _, ok := it.Begin(); !ok {
		return
	}
	e.logger.Error("a record went to krib.poison", slog.String("reader", e.reader), slog.String("topic", it.Record.Topic),
		slog.Int("partition", int(it.Record.Partition)), slog.Int64("offset", it.Record.Offset), slog.Any("error", cause))
	e.Put(e.poisoned(Effect{Item: it}, cause))
}

func (e *Effects) poisoned(x Effect, cause error) Effect {
	r, err := PoisonOf(e.reader, x.Item.Record, cause)
	if err != nil {
		e.logger.Error("a poison record cannot be encoded", slog.String("reader", e.reader), slog.Any("error", err))
		x.Records = nil // it is lost to people, but must not stop the partition
		return x
	}
	x.Records = []*kgo.Record{r}
	return x
}

// Run writes until ctx ends, then abandons what is queued. End it after the
// Parallel whose items it marks has ended, or that one's drain waits in vain.
func (e *Effects) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			e.stop()
			return
		case <-e.wake:
		}
		e.mu.Lock()
		batch := e.queue
		e.queue = nil
		e.mu.Unlock()
		for i := range batch {
			e.write(batch[i])
		}
	}
}

func (e *Effects) stop() {
	e.mu.Lock()
	left := e.queue
	e.queue, e.stopped = nil, true
	e.mu.Unlock()
	for i := range left {
		abandon(left[i])
	}
}

func abandon(x Effect) {
	if x.Settled != nil {
		x.Settled(false)
	}
	x.Item.Abandon()
}

func (e *Effects) write(x Effect) {
	var (
		mu      sync.Mutex
		refused refusals
		records = x.Records
	)
	if x.Latest != nil {
		if refused.latest = x.Latest(); refused.latest != nil {
			records = append(slices.Clip(records), refused.latest)
		}
	}
	left := len(records)
	if left == 0 {
		e.settle(x, refused)
		return
	}
	for _, r := range records {
		// Not the item's context: a leaving partition waits for writes that are under
		// way, and closing the client ends those that no broker takes.
		e.cl.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			mu.Lock()
			refused.add(r, err)
			left--
			last := left == 0
			mu.Unlock()
			if last {
				e.settle(x, refused)
			}
		})
	}
}

// refusals are the records of one effect that were not written: those that may be
// tried again, and those that no broker will ever take.
type refusals struct {
	latest          *kgo.Record // what Latest made, which is never written again itself
	forNow, forGood []*kgo.Record
	again           bool // something may be tried again
	err             error
}

func (f *refusals) add(r *kgo.Record, err error) {
	switch {
	case err == nil:
		return
	case forGood(err):
		f.forGood = append(f.forGood, r)
	default:
		f.again = true
		if r != f.latest {
			f.forNow = append(f.forNow, r)
		}
	}
	f.err = errors.Join(f.err, err)
}

func (e *Effects) settle(x Effect, f refusals) {
	err := f.err
	if err == nil {
		if x.Settled != nil {
			x.Settled(true)
		}
		x.Item.Done()
		return
	}
	if errors.Is(err, kgo.ErrClientClosed) || x.Item.part.ctx.Err() != nil {
		abandon(x)
		return
	}
	e.failed()
	e.logger.Error("a write was refused", slog.String("reader", e.reader), slog.Int("records", len(x.Records)), slog.Int("tries", x.tries), slog.Any("error", err))
	x.Records = f.forNow
	if slices.Contains(f.forGood, f.latest) {
		x.Latest = nil
	}
	// Poison that is refused is lost to people, but must not stop the partition.
	if len(f.forGood) > 0 && f.forGood[0].Topic != string(schemas.PoisonRecords) {
		x.Records = append(x.Records, e.poisoned(x, err).Records...)
	}
	if !f.again {
		e.Put(x)
		return
	}
	x.tries++
	time.AfterFunc(min(time.Duration(x.tries)*100*time.Millisecond, 5*time.Second), func() { e.Put(x) })
}

func forGood(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord)
}
