package deliver

import "time"

// A parkReason is why a record was parked.
type parkReason string

// The reasons: a closed set, for it labels a metric.
const (
	parkFlood     parkReason = "flood"      // more than the endpoint takes
	parkClosed    parkReason = "closed"     // breaker, Retry-After, no answer
	parkBehind    parkReason = "behind"     // an earlier event of the booking is parked
	parkNotBefore parkReason = "not_before" // it came back before its time
	parkOurs      parkReason = "ours"       // our own fault
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
	behind := l.behind(j, now)
	if closed := l.closedFor(now); closed > 0 {
		return max(closed, behind), parkClosed
	}
	if behind > 0 {
		return behind, parkBehind
	}
	healthy := l.healthy(now)
	if s.fits(l, parkedBefore(&j.d) && healthy) {
		return 0, ""
	}
	if healthy && s.mayPause(l, j.item.Partition()) {
		s.pause(l, j.item.Partition())
		return 0, ""
	}
	return max(l.limit.wait(l.queued), parkAfter), parkFlood
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

// parkLocked hands the job to a tier. The wait is also noted, with a second for
// the way back, so that later events of the booking stay behind.
func (s *lanes) parkLocked(j *job, wait time.Duration, why parkReason, now time.Time) {
	if _, ok := j.item.Begin(); !ok {
		s.letGo(j)
		return
	}
	tier, _ := s.ladder.Covering(wait)
	j.lane.remember(j, now.Add(tier+time.Second))
	s.park(j, wait, why)
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
		s.parkLocked(j, wait, why, now)
	}
}
