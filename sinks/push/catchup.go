package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

const (
	// readTimeout bounds one reading of history, also while the brokers are away.
	readTimeout = 20 * time.Second
	// readers is how many readings go on at a time, and historyBytes what each may
	// hold: together the bound on memory.
	readers      = 4
	historyBytes = 16 << 20
)

var (
	errRetention = errors.New("the topic has forgotten what follows the cursor")
	errTooFar    = errors.New("more follows the cursor than one resume reads")
	errEnded     = errors.New("the connection ends")
	errClosed    = errors.New("the hub is closed")
)

// past are the frames between the cursor and the queue, for this host. Where they
// cannot be had for good, asked gets the reason.
func (h *Hub) past(ctx context.Context, s *stream, c *conn, p *partition, asked *request, snap snapshot) ([]*entry, error) {
	switch {
	case !asked.given:
		return nil, nil
	case asked.reason != "":
		h.metrics.resume(string(asked.reason))
		return nil, nil
	case asked.cursor.Next >= snap.ringStart:
		h.metrics.resume(resumedRing)
		return snap.ring, nil
	}
	es, err := h.history(ctx, s, c, p, asked.cursor.Next, snap.ringStart)
	switch {
	case errors.Is(err, errRetention):
		asked.reason = resyncRetention
	case errors.Is(err, errTooFar):
		asked.reason = resyncTooFar
	case err != nil:
		h.metrics.resume(resumeFailed)
		return nil, err
	default:
		h.metrics.resume(resumedKafka)
		return h.mine(c.host, es, asked.cursor.Next, snap), nil
	}
	h.metrics.resume(string(asked.reason))
	return nil, nil
}

// mine lays the host's frames of a reading before those of the ring. The reading
// was shared, so it may begin earlier and end later than this client needs.
func (h *Hub) mine(host schemas.HostID, es []*entry, next int64, snap snapshot) []*entry {
	var out []*entry
	for _, e := range es {
		if e.isFor(host) && e.offset() >= next && e.offset() < snap.ringStart {
			out = append(out, e)
		}
	}
	return append(out, snap.ring...)
}

// history waits for a reading of [next, upto). A shared one that began earlier may
// have failed for what lies before next; then this client reads for itself.
func (h *Hub) history(ctx context.Context, s *stream, c *conn, p *partition, next, upto int64) ([]*entry, error) {
	r := h.reads.join(p, next, upto, false)
	es, err := h.await(ctx, s, c, r)
	if r.from < next && (errors.Is(err, errRetention) || errors.Is(err, errTooFar)) {
		es, err = h.await(ctx, s, c, h.reads.join(p, next, upto, true))
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errRetention) && !errors.Is(err, errTooFar) && !errors.Is(err, errEnded) {
		h.log.WarnContext(ctx, "reading history was not possible", slog.Int("partition", int(p.partition)), slog.Any("error", err))
	}
	return es, err
}

// await keeps the client awake with comments, which are no events, because
// connected comes first and cannot be written before the verdict is known.
func (h *Hub) await(ctx context.Context, s *stream, c *conn, r *reading) ([]*entry, error) {
	defer h.reads.leave(r)
	tick := time.NewTicker(h.opts.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return r.entries, r.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.wake: // stay looks into the queue in any case
			if c.ended() != nil {
				return nil, errEnded
			}
		case <-tick.C:
			if err := s.raw([]byte(": reading history\n\n")); err != nil {
				return nil, err
			}
		}
	}
}

// A reading is one catch-up from Kafka that clients share.
type reading struct {
	p          *partition
	from, upto int64
	cancel     context.CancelFunc
	waiters    int // guarded by reads.mu

	done    chan struct{} // closed when what follows is set
	entries []*entry
	err     error
}

// reads are the readings that go on.
type reads struct {
	read  func(context.Context, *partition, int64, int64) ([]*entry, error)
	slots chan struct{}

	wg     sync.WaitGroup
	mu     sync.Mutex
	closed bool
	open   []*reading
}

func newReads(read func(context.Context, *partition, int64, int64) ([]*entry, error)) *reads {
	return &reads{read: read, slots: make(chan struct{}, readers)}
}

// join finds a reading that covers the range, or starts one. After a restart a
// whole partition's clients come with nearly the same cursors, and most of them
// share. Exact refuses readings that begin earlier.
func (rs *reads) join(p *partition, from, upto int64, exact bool) *reading {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.open {
		if r.p == p && r.from <= from && r.upto >= upto && (!exact || r.from == from) {
			r.waiters++
			return r
		}
	}
	r := &reading{p: p, from: from, upto: upto, waiters: 1, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background()) // it outlives the request that began it; leave and close end it
	r.cancel = cancel
	if rs.closed {
		r.err = errClosed
		close(r.done)
		return r
	}
	rs.open = append(rs.open, r)
	rs.wg.Go(func() { rs.run(ctx, r) })
	return r
}

func (rs *reads) run(ctx context.Context, r *reading) {
	defer close(r.done)
	defer rs.forget(r)
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	select {
	case rs.slots <- struct{}{}:
		defer func() { <-rs.slots }()
	case <-ctx.Done():
		r.err = fmt.Errorf("waiting to read history: %w", ctx.Err())
		return
	}
	r.entries, r.err = rs.read(ctx, r.p, r.from, r.upto)
}

// leave cancels the reading behind the last of its clients. It is taken off the
// list in the same step; else a newcomer would join a reading that is cancelled.
func (rs *reads) leave(r *reading) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.waiters--; r.waiters == 0 {
		r.cancel()
		rs.remove(r)
	}
}

func (rs *reads) forget(r *reading) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.remove(r)
}

func (rs *reads) remove(r *reading) {
	rs.open = slices.DeleteFunc(rs.open, func(o *reading) bool { return o == r })
}

// close ends all readings and waits for them.
func (rs *reads) close() {
	rs.mu.Lock()
	rs.closed = true
	for _, r := range rs.open {
		r.cancel()
	}
	rs.mu.Unlock()
	rs.wg.Wait()
}

// readKafka reads [from, upto) with a client of its own.
func (h *Hub) readKafka(ctx context.Context, p *partition, from, upto int64) ([]*entry, error) {
	conf := h.opts.Kafka
	conf.Registry = nil // many of these live at a time, and none for long
	cl, err := kgo.NewClient(append(conf.Options("push-history"), fetchFrom(map[int32]int64{p.partition: from})...)...)
	if err != nil {
		return nil, fmt.Errorf("making a reader of history: %w", err)
	}
	defer cl.Close()
	var (
		es    []*entry
		count int
		bytes int64
	)
	for pos := from; pos < upto; {
		fs := cl.PollRecords(ctx, 1000)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("reading history: %w", ctx.Err())
		}
		if err := lostHistory(fs, pos); err != nil {
			return nil, err
		}
		for r := range fs.RecordsAll() {
			if pos = r.Offset + 1; r.Offset >= upto || r.Attrs.IsControl() {
				continue
			}
			count++
			if e := h.decode(p.place, r); e != nil {
				es, bytes = append(es, e), bytes+e.size()
			}
		}
		if count > h.opts.CatchUp || bytes > historyBytes {
			return nil, errTooFar
		}
	}
	return es, nil
}

// lostHistory looks for what the log no longer has. The client moves a position
// below the start of the log up to it without a word in some cases; the start that
// came with the records tells.
func lostHistory(fs kgo.Fetches, pos int64) error {
	var err error
	fs.EachPartition(func(f kgo.FetchTopicPartition) {
		switch {
		case errors.Is(f.Err, kerr.OffsetOutOfRange), f.Err == nil && f.LogStartOffset > pos:
			err = errRetention
		case f.Err != nil && err == nil && !kerr.IsRetriable(f.Err):
			err = fmt.Errorf("reading history: %w", f.Err)
		}
	})
	return err
}
