package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// A result is what a request taught about its endpoint.
type result struct {
	counted bool // false: it was not made, or the fault is ours
	good    bool // delivered
	hung    bool // nothing was answered, and that took long
	took    time.Duration
	// shutFor and askedFor close the whole lane; the latter is Retry-After.
	shutFor, askedFor time.Duration
}

// A presence is the work of one partition, by lane.
type presence struct {
	jobs     map[*lane]int // waiting or in flight
	paused   *lane         // for whom it is paused
	resumeAt int           // the queue's length at which that ends
}

// lanes decides for every record whether it waits, goes or is parked.
//
// There is one lock. Decisions take microseconds, and one request touches its
// lane, the pool, its partition and maybe other lanes, which a lock each would
// have to take in some order. Under the lock nothing waits and no record is
// written: requests are goroutines, and effects are queued. The order is
// lanes.mu, then a partition's own lock (Begin, Pause, Done), never back.
type lanes struct {
	ladder  schemas.Ladder
	attempt func(context.Context, *job)
	// park and bury get a begun job, in the order in which records must reach their
	// tier.
	park func(j *job, tier time.Duration, why parkReason)
	bury func(j *job, class schemas.ErrorClass, text string)
	// supersede ends a begun job that a later event has made needless.
	supersede func(*job)
	// repeated ends a begun job whose request was made before.
	repeated func(*job)
	// choicesOf are what a subscription says now.
	choicesOf func(schemas.SubscriptionID) choices
	// turned is called when an endpoint's breaker opens or closes, under the lock.
	turned  func(to schemas.SubscriptionID, open bool)
	holds   *holds
	testAge time.Duration // the age at which nobody waits for a test any more

	wg sync.WaitGroup

	mu     sync.Mutex
	byKey  map[laneKey]*lane
	parts  map[*kafka.Partition]*presence
	pool   pool
	hungry []*lane // have ready jobs and found the pool full, in turn
	seen   seen
	repeat func()

	recalled recalled
}

func newLanes(ladder schemas.Ladder, maxInFlight int) *lanes {
	return &lanes{
		ladder: ladder, byKey: map[laneKey]*lane{}, parts: map[*kafka.Partition]*presence{},
		pool: newPool(maxInFlight), seen: newSeen(), repeat: func() {},
		choicesOf: func(schemas.SubscriptionID) choices { return choices{} },
		holds:     newHolds(ladder.Total()), recalled: recalled{}, turned: func(schemas.SubscriptionID, bool) {},
	}
}

// arrive takes a record from the topic and never blocks.
func (s *lanes) arrive(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arriveLocked(j)
}

func (s *lanes) arriveLocked(j *job) {
	switch s.seen.claim(j) {
	case finished:
		s.repeat()
		j.item.Done()
		return
	case follows:
		s.repeat()
		return
	case fresh:
	}
	now := time.Now()
	l := s.lane(j, now)
	j.lane, j.arrived = l, now
	s.holds.note(j)
	if s.recalled.has(j) {
		s.repeatedLocked(j)
		return
	}
	if s.isSuperseded(l, j) {
		s.supersedeLocked(j)
		return
	}
	if wait, why := s.parkFor(l, j, now); wait > 0 {
		s.parkLocked(j, wait, why, now)
		return
	}
	if class, text := s.surplus(l, j, now); class != "" {
		s.buryLocked(j, class, text)
		return
	}
	l.push(j)
	s.enter(j)
	s.joined(l, j.item.Partition())
	s.pump(l)
}

func (s *lanes) lane(j *job, now time.Time) *lane {
	key := laneKey{j.d.SubscriptionID, j.d.Trigger == schemas.TriggerTest}
	l := s.byKey[key]
	if l == nil {
		firstOpen, longest := 5*time.Second, 5*time.Second
		if t := s.ladder.Tiers(); len(t) > 0 {
			firstOpen, longest = min(t[0], 10*time.Second), t[len(t)-1]
		}
		l = newLane(key, firstOpen, longest)
		s.byKey[key] = l
		if !key.test { // a test's lane closes nothing
			l.turned = func(open bool) { s.turned(key.subscription, open) }
		}
	}
	l.lastUsed = now
	l.choose(s.choicesOf(j.d.SubscriptionID), now)
	return l
}

// remember takes what is known of a partition that has become ours.
func (s *lanes) remember(p *kafka.Partition, t taken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(t.ways) > 0 {
		s.recalled[p] = t
	}
}

// settled ends the claim of a job: its effect is durable, or it was let go.
func (s *lanes) settled(j *job, durable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !durable {
		s.letGo(j)
		return
	}
	for _, f := range s.seen.finish(keyOf(&j.d)) {
		f.item.Done()
	}
}

func (s *lanes) letGo(j *job) {
	for _, f := range s.seen.release(keyOf(&j.d)) {
		s.arriveLocked(f)
	}
}

// pump begins what may begin.
func (s *lanes) pump(l *lane) {
	for len(l.ready) > 0 && l.inFlight < l.slots() {
		if wait := l.paceWait(1, time.Now()); wait > 0 {
			s.pumpAfter(l, wait)
			return
		}
		if l.inFlight >= s.pool.room(l.answers()) {
			if !l.hungry {
				l.hungry = true
				s.hungry = append(s.hungry, l)
			}
			return
		}
		report, ok := s.allow(l)
		if !ok {
			return // its probes are out; the end of one pumps again
		}
		s.begin(l, report)
	}
}

func (s *lanes) allow(l *lane) (report func(error), ok bool) {
	if len(s.ladder) == 0 || l.key.test {
		return func(error) {}, true // what cannot be parked is not held back
	}
	report, err := l.breaker.Allow()
	return report, err == nil
}

func (s *lanes) begin(l *lane, report func(error)) {
	j, now := l.pop(), time.Now()
	if !s.goes(l, j, now) {
		report(errUncounted)
		return
	}
	ctx, ok := j.item.Begin()
	if !ok {
		report(errUncounted)
		s.leave(j)
		l.unchain(j)
		s.letGo(j)
		return
	}
	j.report, j.begun, j.url = report, now, l.url
	if l.pace != nil {
		l.pace.AllowN(now, 1) // it does: pump has looked
	}
	l.inFlight++
	j.full = l.inFlight >= l.slots()
	s.pool.take()
	j.linger = time.AfterFunc(lingerAfter, func() { s.lingers(j) })
	s.wg.Go(func() { s.attempt(ctx, j) })
}

// goes says whether a job whose turn has come is still to be made, and settles it
// if not: since it arrived, the one before it may have failed, or a later one come.
func (s *lanes) goes(l *lane, j *job, now time.Time) bool {
	s.holds.note(j)
	class, text := s.outwaited(j, now)
	superseded, held := s.isSuperseded(l, j), s.heldFor(l, j, now)
	if class == "" && !superseded && held == 0 {
		return true
	}
	s.leave(j)
	l.unchain(j)
	switch {
	case class != "":
		s.buryLocked(j, class, text)
	case superseded:
		s.supersedeLocked(j)
	default:
		s.parkLocked(j, held, parkHeld, now)
	}
	return false
}

// lingers is called when a request is older than lingerAfter. An endpoint that
// has been answering slowly all along is merely slow; one of which nothing good
// was heard since the request began hangs, and its queue is parked now and not
// when the first request times out.
func (s *lanes) lingers(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.ended {
		return
	}
	l := j.lane
	j.late, j.slow = true, s.pool.slowDown()
	l.late++
	if j.url == l.url && l.lastGood.Before(j.begun) {
		if l.silent.IsZero() {
			l.silent = j.begun
		}
		// A probe that lingers tells of what hung before, however slow it used to be.
		l.stuck = l.stuck || !l.answered || l.usual < lingerAfter/2 || l.breaker.State() == gobreaker.StateHalfOpen
	}
	s.settleLane(l, time.Now())
}

// ended takes the result of a request, frees its slots and begins what waited.
func (s *lanes) ended(j *job, r result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, l := time.Now(), j.lane
	j.ended = true
	j.linger.Stop()
	s.pool.give(j.slow)
	l.inFlight--
	if j.late {
		l.late--
	}
	l.stuck = l.stuck && l.late > 0 // whatever the late ones' ends say, they ended
	s.leave(j)
	l.unchain(j)
	s.learn(l, j, r, now)
	s.settleLane(l, now)
}

func (s *lanes) learn(l *lane, j *job, r result, now time.Time) {
	if j.url != l.url {
		return // another URL's answer, and a breaker that is no more
	}
	if !r.counted {
		j.report(errUncounted)
		return
	}
	l.limit.took(r.took, r.good, j.full, now)
	l.heard(r, j.begun, now)
	if r.good {
		j.report(nil)
	} else {
		j.report(errFailed)
	}
	if r.shutFor > 0 {
		l.shut(now.Add(r.shutFor))
	}
	if until := now.Add(r.askedFor); r.askedFor > 0 && until.After(l.asked) {
		l.asked = until
	}
}

// settleLane brings a lane in line with what was just learned of it: it parks
// what would wait too long, lets its partition go on, and begins what may begin,
// here and in the lanes that waited for a slot.
func (s *lanes) settleLane(l *lane, now time.Time) {
	if l.queued > 0 && len(s.ladder) > 0 && !l.key.test {
		s.shed(l, now)
	}
	s.unpause(l, now)
	s.pump(l)
	s.feed()
}

// shed parks what would wait too long in a lane.
func (s *lanes) shed(l *lane, now time.Time) {
	if closed, why := l.closedFor(now); closed > 0 {
		s.evict(l, 0, closed, why, now)
		return
	}
	s.evictPaced(l, now)
	if keep, most := s.keeps(l); l.limit.wait(l.queued) > most {
		s.evict(l, int(keep/max(l.limit.mean/time.Duration(l.limit.now()), 1)), parkAfter, parkFlood, now)
	}
}

// feed gives free slots to the lanes that wait for one, each in its turn.
func (s *lanes) feed() {
	for range len(s.hungry) {
		if s.pool.room(true) == 0 {
			return
		}
		l := s.hungry[0]
		s.hungry = s.hungry[1:]
		l.hungry = false
		s.pump(l)
	}
}

// dropped forgets the queued jobs of a partition that has left. Those in flight
// have ended before.
func (s *lanes) dropped(topic string, partition int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.recalled {
		if p.Topic == topic && p.Number == partition {
			delete(s.recalled, p)
		}
	}
	for _, l := range s.byKey {
		gone := l.takeWaiting(func(j *job) bool {
			p := j.item.Partition()
			return p.Topic == topic && p.Number == partition
		})
		for _, j := range gone {
			s.leave(j)
			s.letGo(j)
		}
	}
}

// sweep forgets idle lanes, so that memory follows the endpoints in use.
func (s *lanes) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, l := range s.byKey {
		if !l.hungry && l.idle(now) {
			delete(s.byKey, k)
		}
	}
}

// counts are for the metrics.
func (s *lanes) counts() (lanes, inFlight, queued, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.byKey {
		inFlight += l.inFlight
		queued += l.queued
		if l.breaker.State() != gobreaker.StateClosed {
			open++
		}
	}
	return len(s.byKey), inFlight, queued, open
}
