package pull

import (
	"math/rand/v2"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

// A limit bounds a page. A single event may be larger than the bytes.
type limit struct {
	events int
	bytes  int64
}

// pollBytes bounds the events of one answer, and streamPage what a stream holds
// while it writes.
const pollBytes = 4 << 20

var streamPage = limit{200, 256 << 10}

// An entry is an event of the log. Its body is rendered when it is first wanted,
// once for all who want it.
type entry struct {
	partition int32
	offset    int64
	agent     schemas.AgentID
	kind      schemas.EventType
	size      int64
	render    func() ([]byte, error)
}

// entryOf is nil for an event that nobody may pull: its host has switched webhooks
// off.
func entryOf(r *kgo.Record) (*entry, error) {
	e, err := schemas.Decode[schemas.Event](r.Value)
	switch {
	case err != nil:
		return nil, err
	case !e.Complete():
		return nil, errIncomplete
	case !e.HostWebhooks:
		return nil, nil // nothing is an answer
	}
	return &entry{
		partition: r.Partition, offset: r.Offset, agent: e.Booking.AgentID, kind: e.Type,
		size: int64(len(r.Value)) + 512, // what the value takes is about what its body does
		render: sync.OnceValues(func() ([]byte, error) {
			body, err := schemas.BodyOf(&e)
			if err != nil {
				return nil, err
			}
			return schemas.Encode(body)
		}),
	}, nil
}

// A partition is what memory holds of one: every event in [start, next). Offsets
// have holes, since commit markers, what was aborted and what nobody may pull have
// numbers and no entries.
type partition struct {
	live        bool // the positions mean something
	start, next int64
	head        int64 // the committed end that was seen when reading began
	entries     []*entry
	bytes       int64
	since       int64 // bytes that came since everybody was woken
}

// begin forgets what memory holds and reads on from next.
func (p *partition) begin(next, head int64) {
	*p = partition{live: true, start: next, next: next, head: head}
}

func (p *partition) add(es []*entry, next, bound int64) {
	for _, e := range es {
		p.entries = append(p.entries, e)
		p.bytes += e.size
		p.since += e.size
	}
	p.next = max(p.next, next)
	for p.bytes > bound {
		e := p.entries[0]
		p.entries[0] = nil // the array lives on until append grows into another one
		p.entries = p.entries[1:]
		p.bytes -= e.size
		p.start = e.offset + 1
	}
}

// from are the entries at and above an offset.
func (p *partition) from(offset int64) []*entry {
	i := sort.Search(len(p.entries), func(i int) bool { return p.entries[i].offset >= offset })
	return p.entries[i:]
}

// A page is what one look at the log found, in the order of each partition.
type page struct {
	entries []*entry
	bytes   int64
	more    bool // behind the positions that it left there is something to read
}

func (p *page) full(most limit) bool {
	return len(p.entries) >= most.events || p.bytes >= most.bytes
}

func (p *page) add(e *entry) {
	p.entries = append(p.entries, e)
	p.bytes += e.size
}

// take looks for what matches in memory and moves the positions over all that it
// has seen. Partitions of which memory does not hold the position are left alone,
// and so are those where the positions are ahead: another process has read more.
func (l *Log) take(pos []int64, want *schemas.Subscription, most limit) page {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out page
	first := rand.IntN(len(l.parts)) //nolint:gosec // fairness: a busy partition must not always come first
	for i := range l.parts {
		n := (first + i) % len(l.parts)
		p := &l.parts[n]
		if pos[n] < p.start {
			out.more = true
			continue
		}
		pos[n] = p.take(&out, pos[n], want, most)
		out.more = out.more || pos[n] < p.next
	}
	return out
}

// take fills the page and returns how far it has seen.
func (p *partition) take(out *page, pos int64, want *schemas.Subscription, most limit) int64 {
	for _, e := range p.from(pos) {
		if out.full(most) {
			return pos
		}
		if want.Matches(e.agent, e.kind) {
			out.add(e)
		}
		pos = e.offset + 1
	}
	if out.full(most) {
		return pos
	}
	return max(pos, p.next)
}

// behind says whether memory does not hold some of the positions any more.
func (l *Log) behind(pos []int64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := range l.parts {
		if pos[i] < l.parts[i].start {
			return true
		}
	}
	return false
}

// heads are the positions behind all that was read.
func (l *Log) heads() []int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make([]int64, len(l.parts))
	for i := range l.parts {
		out[i] = l.parts[i].next
	}
	return out
}

// add takes what the tail has read of a partition, and wakes those for whom there
// is something. The others move when they look, and are made to look before memory
// has passed them: a stream with nothing to write must not be taken for a slow one.
func (l *Log) add(n int32, es []*entry, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.parts[n]
	p.add(es, next, l.opts.RingBytes)
	if p.since > l.opts.RingBytes/4 {
		p.since = 0
		for _, rs := range l.byAgent {
			for r := range rs {
				r.signal()
			}
		}
	}
	for _, e := range es {
		for r := range l.byAgent[e.agent] {
			r.signal()
		}
	}
	if len(es) > 0 {
		for r := range l.platform {
			r.signal()
		}
	}
}

// listen makes the reader be woken for what it wants from now on.
func (l *Log) listen(r *reader, want *schemas.Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deafen(r)
	r.agent = want.AgentID
	if want.Platform {
		l.platform[r] = struct{}{}
		return
	}
	if l.byAgent[r.agent] == nil {
		l.byAgent[r.agent] = map[*reader]struct{}{}
	}
	l.byAgent[r.agent][r] = struct{}{}
}

// unlisten is the end of listen.
func (l *Log) unlisten(r *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deafen(r)
}

func (l *Log) deafen(r *reader) {
	delete(l.platform, r)
	delete(l.byAgent[r.agent], r)
	if len(l.byAgent[r.agent]) == 0 {
		delete(l.byAgent, r.agent)
	}
}

// completeSince is from when on every event is there.
func (l *Log) completeSince() time.Time {
	return schemas.Stamp(time.Now().Add(-l.opts.ReplayWindow))
}
