package deliver

import (
	"time"

	"github.com/krib-ai/krib/schemas"
)

const (
	// pausedWait is the wait up to which records join a queue for which their
	// partition is paused: what was fetched before still comes, and a pause should
	// end soon.
	pausedWait = 5 * time.Second
	// maxTests bounds the tests that wait for one endpoint.
	maxTests = 32
	// testGrace is how long a test's caller waits beyond the timeout of the request,
	// and a second for the way here.
	testGrace = 2 * time.Second
	// maxWait is how long a record waits in its lane at most where no tier could take
	// it: until the head of a partition is done, nothing behind it is committed.
	maxWait = time.Minute
)

// A parkReason is why a record was parked.
type parkReason string

// The reasons: a closed set, for it labels a metric.
const (
	parkFlood     parkReason = "flood"      // more than the endpoint takes
	parkClosed    parkReason = "closed"     // breaker, no answer
	parkAsked     parkReason = "asked"      // the endpoint's own Retry-After
	parkBehind    parkReason = "behind"     // an earlier event of the booking is parked
	parkNotBefore parkReason = "not_before" // it came back before its time
	parkOurs      parkReason = "ours"       // our own fault
	parkHeld      parkReason = "held"       // an earlier event of the booking is outstanding
	parkTurn      parkReason = "rate_limit" // the subscription's rate limit
)

// parkFor is how long a record must be parked, and why; zero if it may wait in
// the lane.
func (s *lanes) parkFor(l *lane, j *job, now time.Time) (time.Duration, parkReason) {
	if len(s.ladder) == 0 || l.key.test {
		return 0, "" // there is no tier, or nobody to wait for one
	}
	if nb := j.d.NotBefore; nb != nil && nb.After(now) {
		l.behind(j, now)
		return nb.Sub(now), parkNotBefore
	}
	behind, held := l.behind(j, now), s.heldFor(l, j, now)
	if l.ordering == schemas.OrderLatest {
		behind = 0 // an earlier event that comes back after this one is superseded
	}
	closed, why := l.closedFor(now)
	switch {
	case held > closed:
		return held, parkHeld
	case closed > 0:
		if why == parkClosed && held == 0 {
			closed = s.awayFor(l, j, closed, now)
		}
		if behind <= closed {
			return closed, why
		}
		return behind, parkBehind
	case behind > 0:
		return behind, parkBehind
	}
	if wait := s.turnFor(l, j, now); wait > 0 {
		return wait, parkTurn
	}
	healthy := l.healthy(now)
	if s.fits(l, parkedBefore(&j.d) && healthy) {
		return 0, ""
	}
	if healthy && s.waitsPaused(l, j.item.Partition()) {
		return 0, ""
	}
	return max(l.limit.wait(l.queued), parkAfter), parkFlood
}

// awayFor is for how long a record is parked while its lane is closed. The longer the
// endpoint has been silent, the longer it stays away: a record that comes back while it
// still hangs takes a place behind a head that hangs, in the uncommitted span that all
// endpoints of its partition share, and all that has come since the silence began
// would come back with every turn of the shortest tier. So what is added is at most a
// few times as long as the silence was, at most the longest that a breaker stays open,
// and never so long that the record would be too old when it comes back.
func (s *lanes) awayFor(l *lane, j *job, closed time.Duration, now time.Time) time.Duration {
	most := min(patience*l.silence(now), maxOpen)
	if since := clockOf(&j.d); !since.IsZero() {
		most = min(most, since.Add(s.holds.bound).Sub(now)-wayBack)
	}
	for _, tier := range s.ladder.Tiers() {
		if tier <= most {
			closed = max(closed, tier)
		}
	}
	return closed
}

// heldFor is how long a record waits because its subscription wants each booking's
// events in order and an earlier one is outstanding.
func (s *lanes) heldFor(l *lane, j *job, now time.Time) time.Duration {
	if l.ordering != schemas.OrderBooking || len(s.ladder) == 0 {
		return 0
	}
	return s.holds.behind(j, now)
}

// isSuperseded says that a record's subscription wants the latest of a booking
// only, and that it is not.
func (s *lanes) isSuperseded(l *lane, j *job) bool {
	return l.ordering == schemas.OrderLatest && s.holds.superseded(j)
}

// fits says whether one more record may wait in the lane. One that has been
// parked before may wait for as long as the shortest tier: a flood comes back
// from there in one piece, and if the lane took only a second's worth of it each
// time, it would stand idle until the next return.
func (s *lanes) fits(l *lane, returned bool) bool {
	if l.limit.mean == 0 {
		return l.queued < maxQueue
	}
	longest := parkAfter
	if returned {
		longest = max(longest, s.ladder.Tiers()[0])
	}
	return l.limit.wait(l.queued) <= longest
}

// keeps is how long a wait an open lane's queue may come to, and how much of it
// stays when it has come to more. The second is a multiple of the first, so that
// what was let in is not thrown out by the next sample.
func (s *lanes) keeps(l *lane) (keep, most time.Duration) {
	if s.pausedFor(l) {
		return pausedWait, 3 * pausedWait
	}
	keep = max(parkAfter, s.ladder.Tiers()[0])
	return keep, 2 * keep
}

// The texts of what is buried without a request because it cannot be parked.
const (
	textTests     = "more tests of this endpoint wait than can be made in time"
	textOutwaited = "nobody waits for this test any more"
	textSurplus   = "more deliveries wait than the endpoint takes, and there are no retries"
)

// surplus says why a record that no tier takes must not wait in its lane either:
// what waits there is part of its partition's uncommitted span, and when that is
// full, the partition stops for everybody. No class means that it may wait.
func (s *lanes) surplus(l *lane, j *job, now time.Time) (schemas.ErrorClass, string) {
	if class, text := s.outwaited(j, now); class != "" {
		return class, text
	}
	switch {
	case l.key.test && l.queued >= maxTests:
		return schemas.ErrorOutOfTime, textTests
	case l.key.test || len(s.ladder) > 0 || l.queued < maxQueue:
		return "", ""
	case l.healthy(now) && s.waitsPaused(l, j.item.Partition()):
		return "", ""
	}
	return schemas.ErrorOutOfTries, textSurplus
}

// outwaited says why it is too late for a request: the caller of a test has given
// up, or a record that no tier takes has waited for too long.
func (s *lanes) outwaited(j *job, now time.Time) (schemas.ErrorClass, string) {
	switch {
	case j.d.Trigger == schemas.TriggerTest && !j.d.CreatedAt.IsZero() && now.Sub(j.d.CreatedAt) > s.testAge:
		return schemas.ErrorOutOfTime, textOutwaited
	case len(s.ladder) == 0 && !j.arrived.IsZero() && now.Sub(j.arrived) > maxWait:
		return schemas.ErrorOutOfTries, textSurplus
	}
	return "", ""
}

func (s *lanes) buryLocked(j *job, class schemas.ErrorClass, text string) {
	if _, ok := j.item.Begin(); !ok {
		s.letGo(j)
		return
	}
	s.bury(j, class, text)
}

func (s *lanes) repeatedLocked(j *job) {
	if _, ok := j.item.Begin(); !ok {
		s.letGo(j)
		return
	}
	s.repeated(j)
}

func (s *lanes) supersedeLocked(j *job) {
	if _, ok := j.item.Begin(); !ok {
		s.letGo(j)
		return
	}
	s.supersede(j)
}

// tierFor is the tier for a wait. Where the receiver named the moment, the rest
// is approached from below: rounding up once more on each return would make 27 h
// of 24. So is the wait behind a flood, which is a guess at the pace of a busy
// moment: six seconds that turn out to be one must not become thirty. And so is a
// turn under a rate limit.
func tierFor(ladder schemas.Ladder, wait time.Duration, why parkReason) time.Duration {
	if why == parkTurn {
		wait = min(wait, maxTurn)
	}
	tier, _ := ladder.Covering(wait)
	if why != parkNotBefore && why != parkFlood && why != parkTurn {
		return tier
	}
	for _, t := range ladder.Tiers() {
		if t <= wait {
			tier = t
		}
	}
	return tier
}

// heldTier is the tier for a record that waits for an earlier event of its booking,
// or stays behind one:
// the longest that does not bring it back much after that one. Behind one that has
// just been put on a tier that is the same tier, and it comes back right behind it.
func heldTier(ladder schemas.Ladder, d *schemas.Delivery, wait time.Duration) time.Duration {
	tiers := ladder.Tiers()
	tier := tiers[0]
	late := min(tier, wayBack)
	for _, t := range tiers {
		if schemas.HoldsFor(t, d.SubscriptionID) <= wait+late {
			tier = t
		}
	}
	return tier
}

// backAt is when a record is expected back from a tier, and not to be put on one
// again.
func backAt(d *schemas.Delivery, tier time.Duration, now time.Time) time.Time {
	t := now.Add(schemas.HoldsFor(tier, d.SubscriptionID))
	for _, at := range []*time.Time{d.NotBefore, d.TurnAt} {
		if at != nil && at.After(t) {
			t = *at
		}
	}
	return t
}

// parkLocked hands the job to a tier, and notes it so that later events of the
// booking stay behind.
func (s *lanes) parkLocked(j *job, wait time.Duration, why parkReason, now time.Time) {
	if _, ok := j.item.Begin(); !ok {
		s.letGo(j)
		return
	}
	tier := tierFor(s.ladder, wait, why)
	if why == parkHeld || why == parkBehind {
		tier = heldTier(s.ladder, &j.d, wait)
	}
	if why == parkTurn {
		turn := schemas.Stamp(now.Add(wait))
		j.d.TurnAt = &turn
	}
	if why != parkHeld { // else a hold remembers it, for as long as its ordering is asked for
		j.lane.remember(j, now.Add(tier))
	}
	d := j.d
	if why != parkTurn {
		d.TurnAt = nil // a turn of another limit, or one that it will ask for again
	}
	s.holds.stays(j, j.lane.ordering, backAt(&d, tier, now))
	s.park(j, tier, why)
}

// evict parks all but the first keep waiting jobs.
func (s *lanes) evict(l *lane, keep int, wait time.Duration, why parkReason, now time.Time) {
	var from uint64
	if keep > 0 {
		orders := l.waiting()
		if keep >= len(orders) {
			return
		}
		from = orders[keep]
	}
	for _, j := range l.takeWaiting(func(j *job) bool { return j.order >= from }) {
		s.leave(j)
		away := wait
		switch why {
		case parkTurn:
			away = l.nextTurn(now)
		case parkClosed:
			away = s.awayFor(l, j, wait, now)
		case parkFlood, parkAsked, parkBehind, parkNotBefore, parkOurs, parkHeld:
		}
		s.parkLocked(j, away, why, now)
	}
}
