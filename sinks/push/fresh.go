package push

import (
	"sync"
	"time"
)

// What a heartbeat says is exact and quick, whether a replica is ready is slow
// both ways: each change of that moves thousands of connections.
const (
	// saysBehind is the lag from which on a heartbeat says so.
	saysBehind = 3 * time.Second
	// tooLate and tooMany make a replica unready: for so long its tail has not reached
	// a position of the sink, or so many offsets below that it has to read.
	tooLate = 10 * time.Second
	tooMany = 100_000
	// fineAgain and fewAgain are what it must come back below, and steady is how long
	// it must stay there.
	fineAgain = time.Second
	fewAgain  = 1_000
	steady    = 3 * time.Second
)

// A sight is a position that the tail has still to reach, and when it was seen.
// Only one is kept, and the next is taken when that is reached: a tail that follows
// a busy log closely is never at its end and not late either.
type sight struct {
	offset int64
	at     time.Time
}

// see takes the position where none is waited for.
func (s *sight) see(due, pos int64, now time.Time) {
	switch {
	case pos >= due:
		*s = sight{}
	case s.offset <= pos:
		*s = sight{due, now}
	}
}

// late is for how long the position has not been reached.
func (s *sight) late(pos int64, now time.Time) time.Duration {
	if pos >= s.offset {
		return 0
	}
	return max(0, now.Sub(s.at))
}

// A freshness is the verdict on whether the tail keeps up.
type freshness struct {
	mu    sync.Mutex
	stale bool
	since time.Time // of stale: since when it has been fine; zero while it is not
}

// judge looks at the worst partition's lag and at all offsets to read.
func (f *freshness) judge(lag time.Duration, offsets int64, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case lag > tooLate || offsets > tooMany:
		f.stale, f.since = true, time.Time{}
	case !f.stale:
	case lag >= fineAgain || offsets >= fewAgain:
		f.since = time.Time{}
	case f.since.IsZero():
		f.since = now
	case now.Sub(f.since) >= steady:
		f.stale = false
	}
}

func (f *freshness) behind() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stale
}
