package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

const (
	// historyReaders is how many readings of Kafka go on at a time; others wait this
	// long for their turn.
	historyReaders = 4
	turnTimeout    = 10 * time.Second
	// One reading ends after so much time or so many bytes, also when it has found
	// nothing: its reader goes on from where it ended, and others have a turn before.
	readTimeout  = 4 * time.Second
	historyBytes = 16 << 20
)

var errBusy = schemas.Errorf(schemas.Unavailable, "history_unavailable", "what follows the cursor cannot be read now; try again with the same cursor")

// next is what follows the positions, from Kafka as far as memory does not reach
// back, and then from memory. It moves the positions.
func (l *Log) next(ctx context.Context, pos []int64, want *schemas.Subscription, most limit) (page, error) {
	if l.behind(pos) {
		p, err := l.history(ctx, pos, want, most)
		if err != nil || len(p.entries) > 0 || l.behind(pos) {
			p.more = true
			return p, err
		}
	}
	return l.take(pos, want, most), nil
}

// history reads from Kafka up to where memory begins, in a bounded time. What the
// log has compacted away is not there, and the reading goes on behind it.
func (l *Log) history(ctx context.Context, pos []int64, want *schemas.Subscription, most limit) (page, error) {
	leave, err := l.turns.wait(ctx, want.AgentID)
	if err != nil {
		return page{}, err
	}
	defer leave()
	h := reading{l: l, want: want, most: most, pos: pos, upto: map[int32]int64{}}
	from := h.missing()
	cl, err := l.client("pull-history", append(kafka.FromPositions(topic, from),
		// Below the start of the log: it goes on with what is there. A position above
		// its end does not come here.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// A page is small beside what the tail fetches.
		kgo.FetchMaxBytes(2<<20), kgo.FetchMaxPartitionBytes(512<<10))...)
	if err != nil {
		return page{}, err
	}
	defer cl.Close()
	err = h.read(ctx, cl)
	l.metrics.history.Inc()
	switch {
	case ctx.Err() != nil:
		return page{}, fmt.Errorf("reading history: %w", ctx.Err())
	case err == nil:
		return h.page, nil
	}
	l.log.WarnContext(ctx, "reading history was not possible", slog.Any("error", err))
	return page{}, fmt.Errorf("%w: %w", errBusy, err)
}

// turns share out the few readings that may go on at a time. An agent has half of
// them at most, however many streams it opens.
type turns struct {
	slots chan struct{}

	mu     sync.Mutex
	agents map[schemas.AgentID]*share
}

type share struct {
	slots chan struct{}
	users int // who wait or read
}

func newTurns() *turns {
	return &turns{slots: make(chan struct{}, historyReaders), agents: map[schemas.AgentID]*share{}}
}

// wait blocks until this reading may go on, for turnTimeout at most. What it returns
// ends the reading.
func (s *turns) wait(ctx context.Context, agent schemas.AgentID) (leave func(), err error) {
	own := s.join(agent)
	t := time.NewTimer(turnTimeout)
	defer t.Stop()
	var held []chan struct{}
	leave = func() {
		for _, c := range held {
			<-c
		}
		s.part(agent, own)
	}
	for _, c := range []chan struct{}{own.slots, s.slots} { // its own first: it waits for itself before it waits with others
		select {
		case c <- struct{}{}:
			held = append(held, c)
		case <-ctx.Done():
			leave()
			return nil, fmt.Errorf("waiting to read history: %w", ctx.Err())
		case <-t.C:
			leave()
			return nil, errBusy
		}
	}
	return leave, nil
}

func (s *turns) join(agent schemas.AgentID) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.agents[agent]
	if own == nil {
		own = &share{slots: make(chan struct{}, historyReaders/2)}
		s.agents[agent] = own
	}
	own.users++
	return own
}

func (s *turns) part(agent schemas.AgentID, own *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(s.agents, agent)
	}
}

// A reading fills one page from Kafka.
type reading struct {
	l     *Log
	want  *schemas.Subscription
	most  limit
	pos   []int64
	upto  map[int32]int64 // of the partitions that are not there yet
	bytes int             // looked at
	moved bool
	page  page
}

// missing are the positions of the partitions of which memory lacks something.
func (h *reading) missing() map[int32]int64 {
	from := map[int32]int64{}
	h.l.mu.RLock()
	defer h.l.mu.RUnlock()
	for i := range h.l.parts {
		if start := h.l.parts[i].start; h.pos[i] < start {
			from[int32(i)], h.upto[int32(i)] = h.pos[i], start
		}
	}
	return from
}

var errStill = errors.New("nothing came in time")

func (h *reading) read(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for len(h.upto) > 0 && !h.page.full(h.most) && h.bytes < historyBytes {
		fs := cl.PollRecords(ctx, 1000)
		if ctx.Err() != nil {
			if h.moved {
				return nil
			}
			return errStill
		}
		if err := fault(fs); err != nil {
			return err
		}
		for r := range fs.RecordsAll() {
			h.see(r)
		}
	}
	return nil
}

// see looks at a record, unless the page is full: then it is for the next one.
func (h *reading) see(r *kgo.Record) {
	upto, ok := h.upto[r.Partition]
	if !ok || r.Offset < h.pos[r.Partition] || h.page.full(h.most) {
		return
	}
	h.moved = true
	h.bytes += len(r.Value)
	if r.Offset < upto {
		if e := h.l.decode(r); e != nil && h.want.Matches(e.agent, e.kind) {
			h.page.add(e)
		}
	}
	// A record at or above upto says that nothing is between.
	h.pos[r.Partition] = min(r.Offset+1, upto)
	if h.pos[r.Partition] == upto {
		delete(h.upto, r.Partition)
	}
}

// begin is where a pull starts.
func (l *Log) begin(ctx context.Context, ask *schemas.Pull) ([]int64, error) {
	if err := l.awaitStart(ctx); err != nil {
		return nil, err
	}
	switch {
	case ask.After != "":
		pos, err := l.positions(ask.After)
		if err != nil {
			return nil, err
		}
		return pos, l.checkFuture(ctx, pos)
	case !ask.Since.IsZero():
		return l.seek(ctx, ask.Since)
	}
	return l.heads(), nil
}

func (l *Log) awaitStart(ctx context.Context) error {
	t := time.NewTimer(turnTimeout)
	defer t.Stop()
	select {
	case <-l.started:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return schemas.Errorf(schemas.Unavailable, "starting", "the log of events is being opened; try again")
	}
}

// seek finds the first records that were published at a time or after it.
func (l *Log) seek(ctx context.Context, since time.Time) ([]int64, error) {
	pos := make([]int64, len(l.parts))
	err := l.bounds(ctx, func(ctx context.Context, cl *kgo.Client, _, ends kadm.ListedOffsets) error {
		found, err := kadm.NewClient(cl).ListOffsetsAfterMilli(ctx, since.UnixMilli(), topic)
		if err == nil {
			err = found.Error()
		}
		for i := range pos {
			// Where nothing is that young, the answer is the end of what was written, which
			// may lie behind what is committed.
			end, _ := ends.Lookup(topic, int32(i))
			pos[i] = end.Offset
			if f, ok := found.Lookup(topic, int32(i)); ok && f.Offset >= 0 {
				pos[i] = min(f.Offset, end.Offset)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: asking for offsets: %w", errBusy, err)
	}
	return pos, nil
}

var errBeyond = schemas.Errorf(schemas.Rule, "cursor_beyond_the_end",
	"the log ends before this cursor; go on with since, the time of the last event that you have, and leave out the ids that you know")

// checkFuture refuses a cursor from beyond the end of the log. One that is merely
// ahead of this process was given by another one. It asks more than once: a broker
// that has just become a leader may not know the end for a moment.
func (l *Log) checkFuture(ctx context.Context, pos []int64) error {
	for range 3 {
		if !ahead(pos, l.heads()) {
			return nil
		}
		ends, err := l.ends(ctx)
		if err != nil || !ahead(pos, ends) {
			return nil //nolint:nilerr // where nobody can say, it waits for its position, which loses nothing
		}
		if !sleep(ctx, askAgain) {
			return ctx.Err()
		}
	}
	return errBeyond
}

// ends are the positions behind all that is committed.
func (l *Log) ends(ctx context.Context) ([]int64, error) {
	out := make([]int64, len(l.parts))
	err := l.bounds(ctx, func(_ context.Context, _ *kgo.Client, _, ends kadm.ListedOffsets) error {
		for i := range out {
			end, _ := ends.Lookup(topic, int32(i))
			out[i] = end.Offset
		}
		return nil
	})
	return out, err
}

func ahead(pos, of []int64) bool {
	for i := range pos {
		if pos[i] > of[i] {
			return true
		}
	}
	return false
}
