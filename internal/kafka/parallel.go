package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// DefaultSpan is how many records of a partition may be uncommitted.
const DefaultSpan = 10_000

// ParallelOptions configure a Parallel consumer. Group, Topics or Pattern, and
// Handle are required.
type ParallelOptions struct {
	Group  string
	Topics []string
	// Pattern subscribes to every topic whose name it matches, also those created
	// later; it is a regular expression and excludes Topics.
	Pattern string
	// Handle gets each record, partition by partition in offset order, from one
	// goroutine. It must not block: it queues the item and somebody calls Begin
	// and, when the effect is durable, Done.
	Handle func(*Item)
	// Revoked is told after a partition has left and everything begun has ended;
	// queued items of it are dead (Begin says false). It may be nil.
	Revoked func(topic string, partition int32)
	// MaxRecords and MaxBytes bound the uncommitted span of one partition: what a
	// crash repeats, and what memory holds. Above either, the partition's fetching
	// is paused. Defaults: DefaultSpan records, 32 MB.
	MaxRecords int
	MaxBytes   int64
	// Drain is how long a leaving partition waits for what is in flight before it
	// cancels it. Default 5 s.
	Drain time.Duration
}

// A Parallel consumer hands records out and lets them finish in any order. It
// commits, for each partition, the offset below which everything is done; so a
// crash repeats work and never loses any.
type Parallel struct {
	opts ParallelOptions
	log  *slog.Logger
	cl   *kgo.Client

	mu    sync.Mutex
	parts map[topicPartition]*Partition

	paused pauses
}

type topicPartition struct {
	topic     string
	partition int32
}

// NewParallel makes the client, which joins the group by itself; nothing is
// handled before Run. A Parallel that was made must be run, if only with a
// context that has ended, for Run closes the client.
func NewParallel(c Config, o ParallelOptions) (*Parallel, error) {
	if o.MaxRecords == 0 {
		o.MaxRecords = DefaultSpan
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 32 << 20
	}
	if o.Drain == 0 {
		o.Drain = 5 * time.Second
	}
	p := &Parallel{opts: o, log: c.Logger, parts: map[topicPartition]*Partition{}}
	opts := append(c.Options(o.Group), c.GroupOptions(o.Group)...)
	opts = append(opts,
		// A partition that is resumed is asked for by the next fetch, and the one under
		// way waits this long at the broker for the other partitions' records. With the
		// default of 5 s, every pause would be one of up to 5 s.
		kgo.FetchMaxWait(200*time.Millisecond),
		kgo.OnPartitionsAssigned(p.assigned),
		kgo.OnPartitionsRevoked(p.revoked),
		kgo.OnPartitionsLost(p.lost),
	)
	if o.Pattern != "" {
		opts = append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics(o.Pattern),
			// A topic that the pattern matches is found when metadata is next asked for;
			// by default that is every five minutes.
			kgo.MetadataMaxAge(5*time.Second))
	} else {
		opts = append(opts, kgo.ConsumeTopics(o.Topics...))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("making the consumer %s: %w", o.Group, err)
	}
	p.cl = cl
	return p, nil
}

// Client is for producing what handling brings forth, and for admin requests.
// It is open until Run returns.
func (p *Parallel) Client() *kgo.Client { return p.cl }

// Run polls until ctx ends, then drains, commits and leaves. It returns nil when
// asked to stop, an error when the client can do no more work.
func (p *Parallel) Run(ctx context.Context) error {
	defer p.cl.Close()
	defer p.stop()
	for {
		fetches := p.cl.PollRecords(ctx, 2_000)
		if ctx.Err() != nil {
			p.cl.AllowRebalance()
			return nil
		}
		if fetches.IsClientClosed() {
			return fmt.Errorf("polling as %s: %w", p.opts.Group, kgo.ErrClientClosed)
		}
		fetches.EachError(func(topic string, n int32, err error) {
			p.log.WarnContext(ctx, "fetching failed; it is tried again",
				slog.String("group", p.opts.Group), slog.String("topic", topic), slog.Int("partition", int(n)), slog.Any("error", err))
		})
		fetches.EachPartition(p.dispatch)
		p.cl.AllowRebalance()
	}
}

func (p *Parallel) dispatch(f kgo.FetchTopicPartition) {
	p.mu.Lock()
	part := p.parts[topicPartition{f.Topic, f.Partition}]
	p.mu.Unlock()
	if part == nil {
		return // assigned is called before the first fetch, so this is a lost one
	}
	for _, r := range f.Records {
		if it := part.add(r); it != nil {
			p.opts.Handle(it)
		}
	}
}

func (p *Parallel) assigned(_ context.Context, cl *kgo.Client, as map[string][]int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for topic, parts := range as {
		for _, n := range parts {
			ctx, cancel := context.WithCancel(context.Background())
			p.parts[topicPartition{topic, n}] = &Partition{
				Topic: topic, Number: n, cl: cl, ctx: ctx, cancel: cancel,
				maxRecords: p.opts.MaxRecords, maxBytes: p.opts.MaxBytes,
				pausedAt: map[PauseReason]time.Time{}, pauses: &p.paused,
			}
		}
	}
	// A pause outlives its assignment in the client.
	cl.ResumeFetchPartitions(as)
}

func (p *Parallel) revoked(ctx context.Context, cl *kgo.Client, rs map[string][]int32) {
	p.leave(rs)
	// What was marked until now is committed before the partitions go: their next
	// owner starts there.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = cl.CommitMarkedOffsets(ctx) // it fails only where another owner has them already: it repeats a little
}

func (p *Parallel) lost(_ context.Context, _ *kgo.Client, ls map[string][]int32) { p.leave(ls) }

// cancelGrace is what cancelled work gets to end, for all partitions together.
const cancelGrace = time.Second

// leave ends the partitions: nothing new begins, what is in flight gets Drain,
// the rest is cancelled and waited for, and from then on nothing marks.
func (p *Parallel) leave(ps map[string][]int32) {
	var gone []*Partition
	p.mu.Lock()
	for topic, ns := range ps {
		for _, n := range ns {
			if part := p.parts[topicPartition{topic, n}]; part != nil {
				delete(p.parts, topicPartition{topic, n})
				gone = append(gone, part)
			}
		}
	}
	p.mu.Unlock()
	for _, part := range gone {
		part.close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.opts.Drain)
	defer cancel()
	for _, part := range gone {
		part.drain(ctx)
	}
	ctx, cancelled := context.WithTimeout(context.Background(), cancelGrace)
	defer cancelled()
	for _, part := range gone {
		part.wait(ctx)
	}
	for _, part := range gone {
		part.end()
		if p.opts.Revoked != nil {
			p.opts.Revoked(part.Topic, part.Number)
		}
	}
}

// stop is the way out: the same as a revoke of everything, then a last commit. A
// static member does not leave the group, so its partitions wait for it.
func (p *Parallel) stop() {
	all := map[string][]int32{}
	p.mu.Lock()
	for tp := range p.parts {
		all[tp.topic] = append(all[tp.topic], tp.partition)
	}
	p.mu.Unlock()
	p.leave(all)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = p.cl.CommitMarkedOffsets(ctx) // as in revoked
}

// A Partition is one assignment of one partition. Another assignment of the same
// partition is another Partition, so that late work of the first cannot touch
// the second.
type Partition struct {
	Topic  string
	Number int32

	cl         *kgo.Client
	ctx        context.Context //nolint:containedctx // the life of the assignment, which its items' work is cancelled by
	cancel     context.CancelFunc
	maxRecords int
	maxBytes   int64

	mu       sync.Mutex
	items    []*Item // in offset order; the head is the oldest not done
	bytes    int64
	inFlight int
	closed   bool // nothing new begins
	ended    bool // nothing marks
	idle     chan struct{}
	paused   PauseReason
	pausedAt map[PauseReason]time.Time
	pauses   *pauses
}

// An Item is one record on its way. Exactly one of these ways is taken: Done,
// after Begin said true; Done alone, for what needs no work that can be
// interrupted; or nothing, once Begin said false.
type Item struct {
	Record *kgo.Record

	part  *Partition
	begun bool
	done  bool
}

// Partition is the assignment that the item came with.
func (it *Item) Partition() *Partition { return it.part }

func (p *Partition) add(r *kgo.Record) *Item {
	it := &Item{Record: r, part: p}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.items = append(p.items, it)
	p.bytes += size(r)
	if len(p.items) >= p.maxRecords || p.bytes >= p.maxBytes {
		p.pauseLocked(PauseSpan)
	}
	return it
}

func size(r *kgo.Record) int64 { return int64(len(r.Key)+len(r.Value)) + 100 }

// Begin asks whether work on the item may start. False means that the partition
// has left: drop the item. The context is cancelled when the partition's drain
// is over; then call Abandon, not Done.
func (it *Item) Begin() (context.Context, bool) {
	p := it.part
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false
	}
	it.begun = true
	p.inFlight++
	return p.ctx, true
}

// Abandon ends work that had begun, without its effect: the record comes again,
// here or at the next owner.
func (it *Item) Abandon() {
	it.part.mu.Lock()
	defer it.part.mu.Unlock()
	it.finishLocked()
}

// Done says that the item's effect is durable. The offset is committed once
// everything before it is done too.
//
// Whether the partition has left and the mark are one step under one lock.
// Otherwise: the worker sees that the partition is ours; a rebalance revokes it,
// commits and forgets our offsets; the worker marks; the next autocommit writes
// our old offset over the new owner's progress.
func (it *Item) Done() {
	p := it.part
	p.mu.Lock()
	defer p.mu.Unlock()
	it.finishLocked()
	if it.done || p.ended {
		return
	}
	it.done = true
	n := 0
	for n < len(p.items) && p.items[n].done {
		p.bytes -= size(p.items[n].Record)
		n++
	}
	if n == 0 {
		return
	}
	last := p.items[n-1].Record
	clear(p.items[:n])
	p.items = p.items[n:]
	p.cl.MarkCommitOffsets(map[string]map[int32]kgo.EpochOffset{
		p.Topic: {p.Number: {Epoch: last.LeaderEpoch, Offset: last.Offset + 1}},
	})
	if len(p.items) < p.maxRecords/2 && p.bytes < p.maxBytes/2 {
		p.resumeLocked(PauseSpan)
	}
}

func (it *Item) finishLocked() {
	if !it.begun {
		return
	}
	it.begun = false
	p := it.part
	p.inFlight--
	if p.inFlight == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// Uncommitted is the number of records fetched and not yet below the watermark.
func (p *Partition) Uncommitted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.items)
}

func (p *Partition) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for why := range p.pausedAt {
		p.endLocked(why)
	}
	p.closed = true
	if p.inFlight > 0 {
		p.idle = make(chan struct{})
	}
}

// drain waits for what is in flight and cancels it when ctx ends.
func (p *Partition) drain(ctx context.Context) {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
		return
	case <-ctx.Done():
		p.cancel()
	}
}

// wait waits for what was cancelled; a worker that ignores it cannot mark anyway.
func (p *Partition) wait(ctx context.Context) {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

func (p *Partition) end() {
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.items = nil
}

// ProduceAll writes the records and calls done once, when all are acknowledged
// or one is refused. The client retries for as long as ctx lives.
func ProduceAll(ctx context.Context, cl *kgo.Client, rs []*kgo.Record, done func(error)) {
	if len(rs) == 0 {
		done(nil)
		return
	}
	var (
		mu   sync.Mutex
		left = len(rs)
		errs error
	)
	for _, r := range rs {
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			mu.Lock()
			errs = errors.Join(errs, err)
			left--
			last, out := left == 0, errs
			mu.Unlock()
			if last {
				done(out)
			}
		})
	}
}
