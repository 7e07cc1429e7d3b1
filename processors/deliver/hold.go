package deliver

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// maxHolds bounds how many bookings of one partition are held in memory; of those
// beyond it the order is not kept.
const maxHolds = 200_000

// A holdKey names what waits for one another: the events of one booking, for one
// subscription, of one run.
type holdKey struct {
	subscription schemas.SubscriptionID
	booking      schemas.BookingID
	run          int64
}

func holdKeyOf(d *schemas.Delivery) holdKey { return holdKey{d.SubscriptionID, d.BookingID, d.Run} }

// outstanding is a delivery that has failed, or waits on a tier.
type outstanding struct {
	id       schemas.DeliveryID
	sequence int64
	due      time.Time // when its tier lets it go
	here     bool      // it is back: it waits in its lane, or is in flight
}

// A hold is what schemas.Hold says, and where each of it is.
type hold struct {
	newest int64
	out    []outstanding // the lowest sequence first
}

func (h *hold) find(id schemas.DeliveryID) *outstanding {
	for i := range h.out {
		if h.out[i].id == id {
			return &h.out[i]
		}
	}
	return nil
}

// holds is the topic webhook.holds in memory, for the partitions that are ours.
// Its lock is taken inside the lanes' lock, never the other way round.
//
// What it says of a job is written with the job's other records, and the job is
// marked when all of them are acknowledged. So a crash leaves one of these. None
// of them is there: the record comes again and finds what it found before. The
// record on the tier is there and the hold is not: the record comes again too,
// before any later event of its booking, is attempted once more and leaves its
// hold; the one on the tier is its duplicate. The hold is there and the record on
// the tier is not: the record that comes again is itself the one that is held, and
// nothing waits for itself.
//
// A former owner of the partition that was paused and wakes up may write a hold
// that is out of date. It loses nothing either: an entry too many lets go when its
// time is over, and with one too few the next failure writes it again.
type holds struct {
	// bound is how long after its due time an outstanding delivery is still believed
	// in: its record may be lost.
	bound time.Duration
	full  func() // counts what is not held for want of room

	mu    sync.Mutex
	parts map[*kafka.Partition]map[holdKey]*hold
}

func newHolds(bound time.Duration) *holds {
	return &holds{bound: bound, full: func() {}, parts: map[*kafka.Partition]map[holdKey]*hold{}}
}

// set takes what the topic says of a partition that has become ours.
func (s *holds) set(p *kafka.Partition, m map[holdKey]*hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[p] = m
}

// drop forgets a partition that has left.
func (s *holds) drop(topic string, partition int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.parts {
		if p.Topic == topic && p.Number == partition {
			delete(s.parts, p)
		}
	}
}

// count is the number of bookings with something outstanding.
func (s *holds) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, m := range s.parts {
		n += len(m)
	}
	return n
}

// of is the hold of a job's booking, nil for none. For nearly all traffic its
// partition has none at all.
func (s *holds) of(j *job) *hold {
	if j.d.BookingID == "" {
		return nil
	}
	m := s.parts[j.item.Partition()]
	if len(m) == 0 {
		return nil
	}
	return m[holdKeyOf(&j.d)]
}

// note says that a job is here: what was outstanding is back, and later ones may
// supersede earlier ones.
func (s *holds) note(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.of(j)
	if h == nil {
		return
	}
	if j.d.Sequence > h.newest {
		h.newest, j.touched = j.d.Sequence, true
	}
	if o := h.find(j.d.ID); o != nil {
		o.here = true
	}
}

// superseded says that a job is no first attempt, and a later event is there.
func (s *holds) superseded(j *job) bool {
	if j.d.Attempt == 0 && !parkedBefore(&j.d) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.of(j)
	return h != nil && h.newest > j.d.Sequence
}

// behind is how long a job must wait because an earlier event of its booking is
// outstanding and away; zero if none is. One that is here has its place before j
// in the lane.
func (s *holds) behind(j *job, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.of(j)
	if h == nil {
		return 0
	}
	before := len(h.out)
	h.out = slices.DeleteFunc(h.out, func(o outstanding) bool { return !o.here && o.due.Add(s.bound).Before(now) })
	if len(h.out) < before {
		j.touched = true
		s.tidy(j, h)
	}
	var wait time.Duration
	for _, o := range h.out {
		if o.sequence < j.d.Sequence && !o.here {
			wait = max(wait, awayFor(o.due, now))
		}
	}
	return wait
}

// awayFor is how long to wait for what is due at a moment. What is overdue is
// asked for less and less often, to a bound: the mover or this reader may be behind,
// and what is waited for stand a few records further; or it is lost.
func awayFor(due, now time.Time) time.Duration {
	if d := due.Sub(now); d > 0 {
		return d
	}
	return min(max(now.Sub(due)/2, time.Millisecond), maxTurn)
}

// stays says that a job is undecided and comes back from its tier when it is due.
// It must be said before the lane lets the next job of the booking begin. Without
// an ordering there is nothing to hold, also where there was one before.
func (s *holds) stays(j *job, o schemas.Ordering, due time.Time) {
	if o != schemas.OrderBooking && o != schemas.OrderLatest {
		s.leaves(j)
		return
	}
	if j.d.BookingID == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.parts[j.item.Partition()]
	if m == nil {
		return // the partition has left: its next owner does this work again
	}
	h := m[holdKeyOf(&j.d)]
	if h == nil {
		if len(m) >= maxHolds {
			s.full()
			return
		}
		h = &hold{}
		m[holdKeyOf(&j.d)] = h
	}
	j.touched = true
	h.newest = max(h.newest, j.d.Sequence)
	if x := h.find(j.d.ID); x != nil {
		x.due, x.here = due, false
		return
	}
	h.out = append(h.out, outstanding{id: j.d.ID, sequence: j.d.Sequence, due: due})
	slices.SortStableFunc(h.out, func(a, b outstanding) int { return cmp.Compare(a.sequence, b.sequence) })
}

// leaves says that a job is decided: delivered, dead, gone, withheld, superseded.
func (s *holds) leaves(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.of(j)
	if h == nil {
		return
	}
	h.out = slices.DeleteFunc(h.out, func(o outstanding) bool { return o.id == j.d.ID })
	j.touched = true
	s.tidy(j, h)
}

// tidy forgets a hold that holds nothing.
func (s *holds) tidy(j *job, h *hold) {
	if len(h.out) == 0 {
		delete(s.parts[j.item.Partition()], holdKeyOf(&j.d))
	}
}

// latest makes the record of a job's hold as it is when it is written, a tombstone
// if there is none. It makes none once the partition has left.
func (s *holds) latest(j *job) func() *kgo.Record {
	p, key, trace := j.item.Partition(), holdKeyOf(&j.d), j.trace
	return func() *kgo.Record {
		v := schemas.Hold{SubscriptionID: key.subscription, BookingID: key.booking, Run: key.run}
		s.mu.Lock()
		m := s.parts[p]
		h := m[key]
		if h != nil {
			v.Newest = h.newest
			for _, o := range h.out {
				v.Outstanding = append(v.Outstanding, schemas.Outstanding{DeliveryID: o.id, Sequence: o.sequence, DueAt: schemas.Stamp(o.due)})
			}
		}
		s.mu.Unlock()
		if m == nil {
			return nil
		}
		return holdRecord(&v, p.Number, trace)
	}
}

// holdRecord is a hold's record, in the partition of its deliveries.
func holdRecord(v *schemas.Hold, partition int32, trace string) *kgo.Record {
	meta := v.Meta(time.Now())
	meta.TraceParent = trace
	var value []byte
	if len(v.Outstanding) > 0 {
		value, _ = schemas.Encode(v) // values of package schemas always encode
	}
	return kafka.ToPartition(kafka.Record(string(schemas.Holds), v.Key(), meta, value), partition)
}
