package pull

import (
	"sync"
	"time"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// A code says why a stream ends, or why a reader is refused.
type code string

// The codes. The first five are told to the client; the others are ends that
// nobody is there to hear of.
const (
	codeDrain      code = "drain"
	codeSlow       code = "slow_consumer"
	codeOverloaded code = "overloaded"
	codeKey        code = "key_ended"
	codeHistory    code = "history_unavailable"
	codeGone       code = "gone"
	codeStalled    code = "stalled" // it took nothing for as long as a write may last
)

func codes() []code {
	return []code{codeDrain, codeSlow, codeOverloaded, codeKey, codeHistory, codeGone, codeStalled}
}

// An ending is why the log lets a reader go.
type ending struct {
	code   code
	reason string
}

var (
	endDrain      = &ending{codeDrain, "this server is going down; another one takes over"}
	endOverloaded = &ending{codeOverloaded, "this server has as many readers as it may have"}
	endShare      = &ending{codeOverloaded, "this agent has its share of this server's streams and polls"}
	endKey        = &ending{codeOverloaded, "this key has as many streams and polls as it may have"}
)

// A reader is a stream or a poll that goes on.
type reader struct {
	key   schemas.KeyID
	owner schemas.AgentID // that it counts for
	agent schemas.AgentID // under which it listens; guarded by Log.mu
	wake  chan struct{}   // capacity 1: there is something for it, or its end
	// drained is closed when the log lets it go.
	drained chan struct{}
}

func (r *reader) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// ended says whether the log has let the reader go.
func (r *reader) ended() bool {
	select {
	case <-r.drained:
		return true
	default:
		return false
	}
}

// An admission counts the readers of one process.
type admission struct {
	max, maxPerKey int

	gate     sync.Mutex
	draining bool
	readers  map[*reader]struct{}
	keys     map[schemas.KeyID]int
	agents   map[schemas.AgentID]int
	empty    chan struct{} // closed when draining has let the last reader go
}

// admit takes a slot for a reader, or says why there is none.
func (a *admission) admit(key schemas.KeyID, agent schemas.AgentID) (*reader, *ending) {
	a.gate.Lock()
	defer a.gate.Unlock()
	switch {
	case a.draining:
		return nil, endDrain
	case len(a.readers) >= a.max:
		return nil, endOverloaded
	case a.keys[key] >= a.maxPerKey:
		return nil, endKey
	case a.agents[agent] > 0 && a.agents[agent] >= a.max-len(a.readers):
		// An agent may have any number of keys. The fuller the process, the less one
		// agent may have of it, so that some room is left for those that have none.
		return nil, endShare
	}
	r := &reader{key: key, owner: agent, wake: make(chan struct{}, 1), drained: make(chan struct{})}
	a.readers[r] = struct{}{}
	a.keys[key]++
	a.agents[agent]++
	return r, nil
}

// release gives the slot back.
func (a *admission) release(r *reader) {
	a.gate.Lock()
	defer a.gate.Unlock()
	delete(a.readers, r)
	if a.keys[r.key]--; a.keys[r.key] <= 0 {
		delete(a.keys, r.key) // the map must not remember every key that ever came
	}
	if a.agents[r.owner]--; a.agents[r.owner] <= 0 {
		delete(a.agents, r.owner)
	}
	if a.draining && len(a.readers) == 0 {
		close(a.empty) // once: nobody is admitted while draining
	}
}

// drain lets the readers go one by one over the window, so that they do not all
// knock at the next process in the same instant, and waits a little for the last.
func (a *admission) drain(window time.Duration) {
	a.gate.Lock()
	a.draining = true
	rs := make([]*reader, 0, len(a.readers))
	for r := range a.readers {
		rs = append(rs, r)
	}
	if len(rs) == 0 {
		close(a.empty)
	}
	a.gate.Unlock()

	tick := time.NewTimer(0)
	defer tick.Stop()
	each := window / time.Duration(len(rs)+1)
	for _, r := range rs {
		if each >= time.Millisecond { // a timer for each of thousands costs more than it spreads
			tick.Reset(each)
			select {
			case <-tick.C:
			case <-a.empty:
			}
		}
		close(r.drained)
	}
	// Whoever is in the middle of a write that nobody reads ends with the server.
	tick.Reset(2 * sse.LastTimeout)
	select {
	case <-a.empty:
	case <-tick.C:
	}
}

func (a *admission) open() int {
	a.gate.Lock()
	defer a.gate.Unlock()
	return len(a.readers)
}
