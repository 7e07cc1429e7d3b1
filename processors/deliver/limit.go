package deliver

import "time"

const (
	firstSlots = 8
	maxSlots   = 64
	// longSlots is what a lane may hold of slots and seconds together: one whose
	// answers take four seconds gets a quarter of maxSlots.
	longSlots = maxSlots * time.Second
	// fewSlots is the least of that, and what a lane gets that does not answer.
	fewSlots = 2
)

// A limit is how many requests a lane may have in flight. It grows by doubling
// until the first sign of a queue at the receiver, then by one for each round;
// it shrinks when answers get slower than the lane's own best, and halves on
// failures. The zero value is ready.
type limit struct {
	slots   float64
	best    time.Duration // the shortest answer, slowly forgotten
	mean    time.Duration // moving average of all answers; zero: none yet
	crowded bool          // a queue was seen, so doubling is over
	cutAt   time.Time     // one cut for each round: all of a round see the same queue
}

// now is the limit in whole slots.
func (l *limit) now() int {
	n := firstSlots
	if l.slots > 0 {
		n = int(l.slots)
	}
	if l.mean > time.Second {
		n = min(n, max(fewSlots, int(longSlots/l.mean)))
	}
	return max(n, 1)
}

// took takes the duration of an answer; full says that the lane used its whole
// limit, for what was not used need not grow.
func (l *limit) took(d time.Duration, ok, full bool, at time.Time) {
	if l.slots == 0 {
		l.slots = firstSlots
	}
	if l.mean == 0 {
		l.mean = d
	}
	l.mean += (d - l.mean) / 8
	if !ok {
		l.cut(0.5, d, at)
		return
	}
	if l.best == 0 || d < l.best {
		l.best = d
	}
	l.best += l.best / 500 // a receiver that became slower for good is taken as it is
	switch {
	case d > 4*l.best+50*time.Millisecond:
		l.cut(0.8, d, at)
	case full && !l.crowded:
		l.slots++
	case full:
		l.slots += 1 / l.slots
	}
	l.slots = min(l.slots, maxSlots)
}

func (l *limit) cut(by float64, d time.Duration, at time.Time) {
	l.crowded = true
	if at.Sub(l.cutAt) < d {
		return
	}
	l.cutAt = at
	l.slots = max(1, l.slots*by)
}

// wait is how long n queued requests will take, by Little's law. Nothing is
// known before the first answer.
func (l *limit) wait(n int) time.Duration {
	return time.Duration(n) * l.mean / time.Duration(l.now())
}

// forget drops what was measured while the endpoint was down.
func (l *limit) forget() { *l = limit{slots: firstSlots} }

// A pool is the bound over all lanes. Half of it is for requests younger than
// lingerAfter, half for those that linger: an endpoint that hangs soon holds only
// slots that no quick request needs.
//
// A lane's share shrinks as the quick half fills (a dynamic threshold, as memory
// is shared between the ports of a switch), to a sixteenth of what is free for a
// lane that has not answered well of late. So a hundred endpoints that hang at
// once leave room, and the last eighth is for those that do answer.
type pool struct {
	quick, slow       int
	quickMax, slowMax int
}

func newPool(n int) pool {
	half := max(1, n/2)
	return pool{quickMax: half, slowMax: max(0, n-half)}
}

// room is how many requests a lane may have in flight, given what is free.
func (p *pool) room(answers bool) int {
	free, share := p.quickMax-p.quick, 2
	if !answers {
		free, share = free-p.quickMax/8, 16
	}
	if free <= 0 {
		return 0
	}
	return max(1, free/share)
}

func (p *pool) take() { p.quick++ }

// slowDown moves a request to the slow half; false when that is full.
func (p *pool) slowDown() bool {
	if p.slow >= p.slowMax {
		return false
	}
	p.quick--
	p.slow++
	return true
}

func (p *pool) give(slow bool) {
	if slow {
		p.slow--
		return
	}
	p.quick--
}
