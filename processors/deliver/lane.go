package deliver

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

const (
	// lingerAfter is the age from which a request counts as slow.
	lingerAfter = time.Second
	// parkAfter is the wait to expect from which records are parked.
	parkAfter = time.Second
	// maxQueue bounds the queue of a lane whose pace is not known yet, except where
	// its partition is paused for it. Beyond that, the expected wait is the bound.
	maxQueue = 1000
	// maxParked bounds how many bookings' parked records a lane remembers; beyond
	// it, order after a park is no longer kept.
	maxParked = 10_000
	// wayBack is what a record needs to come back once its tier has let it go.
	wayBack = time.Second
	// maxOpen bounds how long a breaker stays open before the next probe.
	maxOpen = 5 * time.Minute
	// minSamples is how many requests a breaker has to see before it opens.
	minSamples = 10
	// maxHung is how many requests in a row may hang before a breaker opens without so
	// many samples: of an endpoint that hangs, a lane gets two to four in the time of one
	// timeout.
	maxHung = 3
	// patience is how many times as long as an endpoint has been silent its records are
	// parked at most.
	patience = 3
)

// A laneKey names a lane. Tests have lanes of their own, so that they wait
// behind nothing and close nothing.
type laneKey struct {
	subscription schemas.SubscriptionID
	test         bool
}

// A job is one delivery on its way through this process. All but its first five
// members belong to the lanes' lock.
type job struct {
	item  *kafka.Item
	d     schemas.Delivery
	trace string
	lane  *lane
	// touched says that the job has changed its booking's hold. It belongs to whoever
	// has the job in hand.
	touched bool

	order   uint64 // its place in the lane's arrivals
	arrived time.Time
	begun   time.Time
	url     string // the lane's when it began
	linger  *time.Timer
	slow    bool // it holds a slot of the pool's slow half
	late    bool // it is older than lingerAfter
	ended   bool
	full    bool // the lane was at its limit when it began
	report  func(error)
}

// parkedJob is a record of a booking that waits on a tier.
type parkedJob struct {
	run, sequence int64
	due           time.Time // when its tier lets it go
}

// awayAt says that the record is not expected back yet.
func (p parkedJob) awayAt(now time.Time) bool { return p.due.Add(wayBack).After(now) }

// A lane is the work of one endpoint. It is guarded by the lanes' lock.
type lane struct {
	key     laneKey
	url     string // what all that is known here was learned of
	limit   limit
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]

	firstOpen, longestTier time.Duration // of the breaker

	// ready are jobs whose booking has none before them; chains hold the others. A
	// booking is in chains for as long as one of its jobs is ready or in flight.
	ready  []*job
	chains map[schemas.BookingID][]*job
	queued int // in ready and chains
	orders uint64

	inFlight int
	late     int
	hungry   bool // it waits for a slot of the pool

	answered bool          // something was delivered
	usual    time.Duration // moving average of how long that takes
	failing  bool          // the last answer was a failure
	lastGood time.Time     // when the last success came
	silent   time.Time     // when the first request after that began that lingered, or zero
	hung     int           // requests in a row, begun after that, that were not answered for long
	stuck    bool          // requests linger, and none has succeeded since they began
	// turned is called when the breaker opens, and when it closes again; not for each
	// probe in between.
	turned   func(open bool)
	opens    int       // how often the breaker opened in a row
	shutTill time.Time // no request before: the breaker's wait
	asked    time.Time // no request before: Retry-After
	lastUsed time.Time

	ordering  schemas.Ordering
	perMinute int           // the subscription's rate limit
	pace      *rate.Limiter // nil for no limit
	paceTimer *time.Timer
	turn      time.Time // the last that was given out to a parked record

	parked map[schemas.BookingID][]parkedJob
}

var (
	errFailed = errors.New("failed")
	// errUncounted ends a request that says nothing about the endpoint.
	errUncounted = errors.New("not counted")
)

func newLane(key laneKey, firstOpen, longestTier time.Duration) *lane {
	l := &lane{
		key: key, chains: map[schemas.BookingID][]*job{}, parked: map[schemas.BookingID][]parkedJob{},
		firstOpen: firstOpen, longestTier: longestTier, turned: func(bool) {},
	}
	l.breaker = l.newBreaker()
	return l
}

// moved forgets what was learned of another URL. Requests that are under way
// there teach nothing any more, and their breaker is not ours any more.
func (l *lane) moved(url string) {
	if url == "" || url == l.url {
		return
	}
	if l.url != "" {
		l.limit, l.breaker, l.opens = limit{}, l.newBreaker(), 0
		l.answered, l.usual, l.failing, l.hung, l.stuck = false, 0, false, 0, false
		l.lastGood, l.silent, l.shutTill, l.asked = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	}
	l.url = url
}

func (l *lane) newBreaker() *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1, // probes at a time, and successes in a row that close it
		Interval:     time.Minute,
		BucketPeriod: 10 * time.Second,
		// shutTill decides when probes go out; the breaker's own wait has to be over
		// by then.
		Timeout: l.firstOpen / 2,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			n := c.TotalSuccesses + c.TotalFailures
			return n >= minSamples && 2*c.TotalFailures >= n || l.hung >= maxHung
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errUncounted) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			switch to {
			case gobreaker.StateOpen:
				if l.opens++; l.opens == 1 {
					l.turned(true)
				}
				d := min(l.firstOpen<<min(l.opens-1, 16), maxOpen, max(l.longestTier, l.firstOpen))
				l.shut(time.Now().Add(d))
			case gobreaker.StateClosed:
				l.turned(false)
				l.opens = 0
				l.limit.forget()
			case gobreaker.StateHalfOpen:
			}
		},
	})
}

func (l *lane) shut(until time.Time) {
	if until.After(l.shutTill) {
		l.shutTill = until
	}
}

// closedFor is how long nothing should be sent, and why; zero if the lane is
// open. A half-open lane is open: what comes waits for the probe, which is quick
// or lingers, and then the lane is stuck.
func (l *lane) closedFor(now time.Time) (time.Duration, parkReason) {
	shut, asked := l.shutTill.Sub(now), l.asked.Sub(now)
	switch {
	case asked > 0:
		return max(shut, asked), parkAsked
	case shut > 0:
		return shut, parkClosed
	case l.stuck || l.breaker.State() == gobreaker.StateOpen:
		return parkAfter, parkClosed
	}
	return 0, ""
}

// silence is how long the endpoint has been hanging: since the first request began
// that lingered, if nothing was answered since. What fails quickly is not silent.
func (l *lane) silence(now time.Time) time.Duration {
	if l.silent.IsZero() {
		return 0
	}
	return now.Sub(l.silent)
}

// heard notes what came of a request that was begun at a time.
func (l *lane) heard(r result, begun, now time.Time) {
	l.failing = !r.good
	switch {
	case r.good:
		if l.usual == 0 {
			l.usual = r.took
		}
		l.usual += (r.took - l.usual) / 8
		l.answered, l.stuck, l.hung, l.lastGood, l.silent = true, false, 0, now, time.Time{}
	case !r.hung:
		l.hung, l.silent = 0, time.Time{}
	case l.lastGood.Before(begun): // else it hung before it was well
		l.hung++
		if l.silent.IsZero() {
			l.silent = begun
		}
	}
}

func (l *lane) slots() int {
	if l.key.test {
		return firstSlots // somebody waits for each
	}
	if l.stuck {
		return min(l.limit.now(), fewSlots)
	}
	return l.limit.now()
}

// healthy says that a long queue is no fault of the endpoint.
func (l *lane) healthy(now time.Time) bool {
	closed, _ := l.closedFor(now)
	return !l.failing && closed == 0
}

// answers says that the last thing heard of the endpoint was a success.
func (l *lane) answers() bool { return l.answered && !l.failing && !l.stuck }

func (l *lane) push(j *job) {
	l.orders++
	j.order, j.lane = l.orders, l
	l.queued++
	if b := j.d.BookingID; b != "" {
		if waiting, busy := l.chains[b]; busy {
			l.chains[b] = append(waiting, j)
			return
		}
		l.chains[b] = nil
	}
	l.ready = append(l.ready, j)
}

func (l *lane) pop() *job {
	j := l.ready[0]
	l.ready[0] = nil
	l.ready = l.ready[1:]
	l.queued--
	return j
}

// unchain lets the next job of j's booking be ready.
func (l *lane) unchain(j *job) {
	b := j.d.BookingID
	if b == "" {
		return
	}
	waiting := l.chains[b]
	if len(waiting) == 0 {
		delete(l.chains, b)
		return
	}
	l.ready = append(l.ready, waiting[0])
	l.chains[b] = waiting[1:]
}

// waiting are the places of all waiting jobs, the first first.
func (l *lane) waiting() []uint64 {
	orders := make([]uint64, 0, l.queued)
	for _, j := range l.ready {
		orders = append(orders, j.order)
	}
	for _, js := range l.chains {
		for _, j := range js {
			orders = append(orders, j.order)
		}
	}
	slices.Sort(orders)
	return orders
}

// takeWaiting removes the waiting jobs that pick chooses and returns them in the
// order of arrival. Of one booking it must choose none or all from some point
// on, or a later one would pass.
func (l *lane) takeWaiting(pick func(*job) bool) []*job {
	var taken []*job
	heads := map[schemas.BookingID]bool{} // bookings whose ready job was taken
	l.ready = slices.DeleteFunc(l.ready, func(j *job) bool {
		if !pick(j) {
			return false
		}
		taken = append(taken, j)
		heads[j.d.BookingID] = true
		return true
	})
	for b, waiting := range l.chains {
		left := slices.DeleteFunc(waiting, func(j *job) bool {
			if !pick(j) {
				return false
			}
			taken = append(taken, j)
			return true
		})
		l.chains[b] = left
		if !heads[b] {
			continue
		}
		delete(l.chains, b)
		if len(left) > 0 {
			l.ready, l.chains[b] = append(l.ready, left[0]), left[1:]
		}
	}
	l.queued -= len(taken)
	slices.SortFunc(taken, func(a, b *job) int { return cmp.Compare(a.order, b.order) })
	return taken
}

// parkedBefore says that the record has been parked at least once: each attempt
// and each park writes a record to a tier, and each return from one writes
// another, so a hop count above twice the attempts comes from parks.
func parkedBefore(d *schemas.Delivery) bool { return d.Hop/2 > d.Attempt }

// behind is how long j must wait because an earlier event of its booking is
// parked: until that one's tier lets it go, which makes j's tier the same one or
// a shorter one and never the next, and within wayBack of that a moment. It also
// notes that j itself is back.
func (l *lane) behind(j *job, now time.Time) time.Duration {
	b := j.d.BookingID
	ps, ok := l.parked[b]
	if b == "" || !ok {
		return 0
	}
	ps = slices.DeleteFunc(ps, func(p parkedJob) bool {
		return !p.awayAt(now) || p.run == j.d.Run && p.sequence == j.d.Sequence && parkedBefore(&j.d)
	})
	l.parked[b] = ps
	if len(ps) == 0 {
		delete(l.parked, b)
	}
	var wait time.Duration
	for _, p := range ps {
		if p.run == j.d.Run && p.sequence < j.d.Sequence && j.d.Attempt == 0 {
			wait = max(wait, p.due.Sub(now), time.Millisecond)
		}
	}
	return wait
}

// remember notes a parked record. One that has failed before is not waited for:
// it lost its place when it failed.
func (l *lane) remember(j *job, due time.Time) {
	b := j.d.BookingID
	if b == "" || j.d.Attempt > 0 || len(l.parked) >= maxParked && l.parked[b] == nil {
		return
	}
	l.parked[b] = append(l.parked[b], parkedJob{j.d.Run, j.d.Sequence, due})
}

// idle says that the lane may be forgotten.
func (l *lane) idle(now time.Time) bool {
	closed, _ := l.closedFor(now)
	if l.queued > 0 || l.inFlight > 0 || now.Sub(l.lastUsed) < 10*time.Minute || closed > 0 {
		return false
	}
	for b, ps := range l.parked {
		ps = slices.DeleteFunc(ps, func(p parkedJob) bool { return !p.awayAt(now) })
		if l.parked[b] = ps; len(ps) == 0 {
			delete(l.parked, b)
		}
	}
	return len(l.parked) == 0
}
