package deliver

import "github.com/krib-ai/krib/schemas"

// A hopKey names one record of a delivery's way.
type hopKey struct {
	id           schemas.DeliveryID
	run          int64
	attempt, hop int
}

func keyOf(d *schemas.Delivery) hopKey { return hopKey{d.ID, d.Run, d.Attempt, d.Hop} }

// seenSize is how many finished records each of two generations remembers: more
// than a partition's uncommitted span, which is what a rebalance repeats.
const seenSize = 1 << 16

// seen drops repeats. A record in work and a record that is finished are two
// things: if a repeat of the former were dropped at once, and marked, then the
// work could still be abandoned, and nobody would have the record any more. That
// happens when a partition leaves and comes back while a request ignores its
// cancellation. So such a repeat follows the one in work and shares its fate.
type seen struct {
	active        map[hopKey][]*job // in work, with the repeats that follow
	recent, older map[hopKey]struct{}
}

func newSeen() seen {
	return seen{active: map[hopKey][]*job{}, recent: map[hopKey]struct{}{}, older: map[hopKey]struct{}{}}
}

type claim int

const (
	fresh    claim = iota // do it
	finished              // it was done: mark it
	follows               // it is being done: the job was kept
)

func (s *seen) claim(j *job) claim {
	k := keyOf(&j.d)
	if f, ok := s.active[k]; ok {
		s.active[k] = append(f, j)
		return follows
	}
	if _, ok := s.recent[k]; ok {
		return finished
	}
	if _, ok := s.older[k]; ok {
		return finished
	}
	s.active[k] = nil
	return fresh
}

// finish says that the record's effect is durable, and returns its followers.
func (s *seen) finish(k hopKey) []*job {
	if len(s.recent) >= seenSize {
		s.recent, s.older = make(map[hopKey]struct{}, seenSize), s.recent
	}
	s.recent[k] = struct{}{}
	return s.release(k)
}

// release says that the record was let go, and returns its followers, the first
// of which takes its place.
func (s *seen) release(k hopKey) []*job {
	f := s.active[k]
	delete(s.active, k)
	return f
}
