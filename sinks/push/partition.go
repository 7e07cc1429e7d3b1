package push

import (
	"sync"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// A partition is the hub's view of one partition of the topic: what the tail has
// read, what the sink has committed, and who listens.
//
//	ringStart <= released <= pos
//
// The ring holds every frame in [ringStart, released), held those in
// [released, pos). Offsets have holes: commit markers and aborted records have
// numbers and no frames.
type partition struct {
	place
	bound int64 // bytes, of the ring and of what is held

	mu        sync.Mutex
	live      bool  // the positions below mean something
	head      int64 // the committed end that was seen at start
	pos       int64 // the next offset that the tail will read
	end       int64 // the committed end as the last fetch or the sink saw it
	ahead     sight // a position of the sink that is still to be reached
	sink      int64 // the next offset that the sink will commit
	released  int64
	ringStart int64
	held      fifo
	ring      fifo
	conns     map[schemas.HostID]map[*conn]struct{}
	paused    bool
	pause     func(pause bool) // tells the Kafka client; nil while there is none
}

func newPartition(p place, bound int64) *partition {
	return &partition{place: p, bound: bound, conns: map[schemas.HostID]map[*conn]struct{}{}}
}

// begin sets where the tail starts. Nothing below is in memory, and nothing below
// is waited for, so pos is released whatever the sink has committed. When the
// partition was live before, the log has lost what stood at the old position:
// whoever listens is told to read its state anew.
func (p *partition) begin(pos, head, sink int64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	again := p.live
	p.live, p.head, p.end, p.sink = true, head, head, sink
	p.pos, p.released, p.ringStart = pos, pos, pos
	p.ahead = sight{}
	p.ahead.see(p.due(), pos, now)
	p.held.clear()
	p.ring.clear()
	if !again {
		return
	}
	f := resync(p.at(pos), resyncRetention, now)
	for _, cs := range p.conns {
		for c := range cs {
			c.from = pos
			c.pushAlways(f)
		}
	}
}

// position is the next offset to read.
func (p *partition) position() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pos
}

// attach gives the partition the client that reads it, which has paused nothing.
func (p *partition) attach(pause func(bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause, p.paused = pause, false
	p.flow()
}

// detach takes the client away before it closes.
func (p *partition) detach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause = nil
}

// add appends what the tail has read up to next, and releases what the sink has
// committed already.
func (p *partition) add(es []*entry, next, end int64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range es {
		if e.offset() >= p.pos {
			p.held.push(e)
		}
	}
	p.pos, p.end = max(p.pos, next), max(end, next)
	p.ahead.see(p.due(), p.pos, now)
	p.release()
}

// advance says what the sink has committed.
func (p *partition) advance(sink int64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live && sink > p.sink {
		p.sink, p.end = sink, max(p.end, sink)
		p.ahead.see(p.due(), p.pos, now)
		p.release()
	}
}

// due is the position that the tail should have: what the sink has committed, and
// so what clients may have and other replicas give them. What waits for the sink
// makes no tail late, or a sink that stands still would make every replica unready.
// A stored position may lie beyond the topic.
func (p *partition) due() int64 { return min(p.sink, p.end) }

// release publishes what both the tail and the sink have passed. Frames go to the
// queues and the position moves under one lock, so whoever reads the position
// under it finds every frame below already queued.
func (p *partition) release() {
	target := min(p.pos, p.sink)
	for !p.held.empty() && p.held.first().offset() < target {
		e := p.held.pop()
		p.publish(e)
		p.ring.push(e)
	}
	p.released = max(p.released, target)
	for p.ring.bytes > p.bound {
		p.ringStart = p.ring.pop().next
	}
	p.flow()
}

func (p *partition) publish(e *entry) {
	if e.host != "" {
		offer(p.conns[e.host], e)
		return
	}
	for _, cs := range p.conns {
		offer(cs, e)
	}
}

func offer(cs map[*conn]struct{}, e *entry) {
	for c := range cs {
		if e.next > c.from && c.filter.lets(&e.label) { // else the client was ahead of us and has seen it, or does not want it
			c.push(e.frame)
		}
	}
}

// flow stops fetching while too much is held for the sink, and goes on when half
// of it has gone. Deciding and telling the client is one step under the lock.
// Apart: the tail sees that too much is held; the sink commits everything, which
// resumes a partition that is not paused; then the tail pauses it, nothing is held
// whose release could resume it, and the partition stands still for ever.
// The client's own locks are below this one and it never calls back.
func (p *partition) flow() {
	want := p.paused
	switch {
	case p.held.bytes > p.bound:
		want = true
	case p.held.bytes <= p.bound/2:
		want = false
	}
	if want != p.paused && p.pause != nil {
		p.paused = want
		p.pause(want)
	}
}

// A snapshot is the partition at the moment in which a connection joined: what
// came before is history, what comes after is in its queue.
type snapshot struct {
	head      int64    // released; frames at and above go to the queue
	ringStart int64    // frames below are not in memory
	ring      []*entry // this host's frames from where it resumes
}

// join registers the connection first and looks at history after, both under the
// lock that releases: a frame is in the snapshot or will be in the queue, never in
// both and never in neither. next is where the client resumes, or -1.
func (p *partition) join(c *conn, next int64) snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	cs := p.conns[c.host]
	if cs == nil {
		cs = map[*conn]struct{}{}
		p.conns[c.host] = cs
	}
	cs[c] = struct{}{}
	// A client may be ahead of this replica: its cursor came with a state that this
	// one has not heard of yet. What it has seen is not sent again.
	c.from = max(next, p.released)
	s := snapshot{head: p.released, ringStart: p.ringStart}
	if next < 0 {
		return s
	}
	for _, e := range p.ring.from(next) {
		if e.isFor(c) {
			s.ring = append(s.ring, e)
		}
	}
	return s
}

func (p *partition) leave(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns[c.host], c)
	if len(p.conns[c.host]) == 0 {
		delete(p.conns, c.host)
	}
}

// beat queues a heartbeat behind the connection's frames. Its id is the released
// position: everything below that this host may see stands before it in the queue,
// and records of others have moved it on, so a quiet client does not fall out of
// retention. Without the lock: release pushes nothing yet but has moved the
// position; the heartbeat with the new position is queued; then the frame is. A
// client that loses its connection between the two resumes above the frame and
// never sees it.
func (p *partition) beat(c *conn, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.pushAlways(heartbeat(p.at(max(p.released, c.from)), now, max(p.lag(now), p.ahead.late(p.pos, now))))
}

// lag is how long the oldest record waits for the sink.
func (p *partition) lag(now time.Time) time.Duration {
	if p.held.empty() {
		return 0
	}
	return max(0, now.Sub(p.held.first().at))
}

// known is the highest position that a cursor may honestly have.
func (p *partition) known() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.released, p.sink)
}

func (p *partition) caughtUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live && (p.pos >= p.head || p.paused)
}

// A lateness is how far a partition, or the worst of many, is behind.
type lateness struct {
	offsets int64         // of the log, that the tail has to read
	due     int64         // of these, what the sink has committed
	tail    time.Duration // for which the tail has not reached a position of the sink
	sink    time.Duration // for which the oldest record waits for the sink
}

func (p *partition) lateness(now time.Time) lateness {
	p.mu.Lock()
	defer p.mu.Unlock()
	return lateness{max(0, p.end-p.pos), max(0, p.due()-p.pos), p.ahead.late(p.pos, now), p.lag(now)}
}
