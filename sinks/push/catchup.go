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

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/sse"
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
	what := stretch{p, next, upto}
	r, err := h.read(ctx, s, c, what, false)
	if err == nil && r.from < next && (errors.Is(r.err, errRetention) || errors.Is(r.err, errTooFar)) {
		r, err = h.read(ctx, s, c, what, true)
	}
	if err == nil {
		err = r.err
	}
	switch {
	case err == nil:
		return r.entries, nil
	case ctx.Err() != nil, errors.Is(err, sse.ErrWrite), errors.Is(err, errRetention), errors.Is(err, errTooFar), errors.Is(err, errEnded):
	default:
		h.log.WarnContext(ctx, "reading history was not possible", slog.Int("partition", int(p.partition)), slog.Any("error", err))
	}
	return nil, err
}

// read joins a reading and returns it when it is done. While another one of the
// same host goes on that does not cover the stretch, it waits for its turn.
func (h *Hub) read(ctx context.Context, s *stream, c *conn, what stretch, exact bool) (*reading, error) {
	turn, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		r, joined := h.reads.join(c.host, what, exact)
		if joined {
			defer h.reads.leave(r)
			return r, h.await(ctx, s, c, r)
		}
		if err := h.await(turn, s, c, r); err != nil {
			return nil, err
		}
	}
}

// await keeps the client awake with comments, which are no events, because
// connected comes first and cannot be written before the verdict is known.
func (h *Hub) await(ctx context.Context, s *stream, c *conn, r *reading) error {
	tick := time.NewTicker(h.opts.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("waiting for history: %w", ctx.Err())
		case <-c.wake: // stay looks into the queue in any case
			if c.ended() != nil {
				return errEnded
			}
		case <-tick.C:
			if err := s.Write([]byte(": reading history\n\n")); err != nil {
				return err
			}
		}
	}
}

// A stretch is a part of a partition, upto not included.
type stretch struct {
	p          *partition
	from, upto int64
}

func (s stretch) covers(o stretch) bool { return s.p == o.p && s.from <= o.from && s.upto >= o.upto }

// A reading is one catch-up from Kafka that clients share.
type reading struct {
	stretch
	host    schemas.HostID // whose client began it
	cancel  context.CancelFunc
	waiters int // guarded by reads.mu

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
	open   []*reading                  // those that can be joined
	busy   map[schemas.HostID]*reading // by who began them, until they have ended
}

func newReads(read func(context.Context, *partition, int64, int64) ([]*entry, error)) *reads {
	return &reads{read: read, slots: make(chan struct{}, readers), busy: map[schemas.HostID]*reading{}}
}

// join finds a reading that covers the stretch, or starts one. After a restart a
// whole partition's clients come with nearly the same cursors, and most of them
// share. Exact refuses readings that begin earlier.
//
// A host has one reading of its own at a time, or a single one with many cursors
// would keep everybody else from reading. While it goes on and does not serve, it
// is what join returns, not joined, to be waited for.
func (rs *reads) join(host schemas.HostID, what stretch, exact bool) (r *reading, joined bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.open {
		if r.covers(what) && (!exact || r.from == what.from) {
			r.waiters++
			return r, true
		}
	}
	if own := rs.busy[host]; own != nil {
		return own, false
	}
	r = &reading{stretch: what, host: host, waiters: 1, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background()) // it outlives the request that began it; leave and close end it
	r.cancel = cancel
	if rs.closed {
		r.err = errClosed
		close(r.done)
		return r, true
	}
	rs.open, rs.busy[host] = append(rs.open, r), r
	rs.wg.Go(func() { rs.run(ctx, r) })
	return r, true
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
	delete(rs.busy, r.host)
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
	cl, err := kgo.NewClient(append(conf.Options("push-history"), kafka.FromPositions(topic, map[int32]int64{p.partition: from})...)...)
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
