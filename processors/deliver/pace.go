package deliver

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/krib-ai/krib/schemas"
)

// maxTurn bounds the tier on which a record waits for its turn under a rate limit:
// when the limit is lifted, what waits hears of it when it comes back.
const maxTurn = 5 * time.Minute

// choices are what a subscription says about its lane. Those of a subscription
// that the table does not hold have no URL.
type choices struct {
	url       string
	ordering  schemas.Ordering
	perMinute int
}

// choose takes a subscription's choices. Tests are neither ordered nor limited.
func (l *lane) choose(c choices, now time.Time) {
	if c.url == "" { // deleted, or not known yet: nothing is sent, and what waits shall hear of it
		l.setPace(0, now)
		return
	}
	l.moved(c.url)
	if l.key.test {
		return
	}
	l.ordering = c.ordering
	l.setPace(c.perMinute, now)
}

// setPace limits the lane to so many requests a minute; 0 lifts the limit. What
// may begin at once after a rest is a second's worth and one more, so no minute
// sees more than that above the limit. Turns that were given out under another
// limit are not kept.
func (l *lane) setPace(perMinute int, now time.Time) {
	if perMinute == l.perMinute {
		return
	}
	l.perMinute, l.turn = perMinute, time.Time{}
	limit, burst := rate.Limit(float64(perMinute)/60), perMinute/60+1
	switch {
	case perMinute <= 0:
		l.pace = nil
	case l.pace == nil:
		l.pace = rate.NewLimiter(limit, burst)
	default:
		l.pace.SetLimitAt(now, limit)
		l.pace.SetBurstAt(now, burst)
	}
}

// paceWait is how long it takes until n requests may have begun.
func (l *lane) paceWait(n int, now time.Time) time.Duration {
	if l.pace == nil {
		return 0
	}
	missing := float64(n) - l.pace.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing / float64(l.pace.Limit()) * float64(time.Second))
}

// turnFor is how long a record must be parked for the limit's sake; zero if it may
// wait in the lane.
//
// Whoever is parked gets a turn, one after the other, and comes back for it: were
// each told only how long the queue is, all of a flood would come back at once, and
// nearly all of it be parked again. A turn beyond the last one that this lane gave
// out is of another limit or another process and means nothing.
func (s *lanes) turnFor(l *lane, j *job, now time.Time) time.Duration {
	if l.pace == nil {
		return 0
	}
	longest := parkAfter
	if t := j.d.TurnAt; t != nil {
		if t.After(now) && !t.After(l.turn) {
			return t.Sub(now)
		}
		longest = max(longest, s.ladder.Tiers()[0])
	}
	if l.paceWait(l.queued+1, now) <= longest {
		return 0
	}
	return l.nextTurn(now)
}

// nextTurn gives out a turn behind all that wait, here and on the tiers.
func (l *lane) nextTurn(now time.Time) time.Duration {
	interval := time.Duration(float64(time.Second) / float64(l.pace.Limit()))
	next := now.Add(l.paceWait(l.queued+1, now))
	if after := l.turn.Add(interval); after.After(next) {
		next = after
	}
	l.turn = next
	return next.Sub(now)
}

// evictPaced parks what a limit that was lowered leaves no room for.
func (s *lanes) evictPaced(l *lane, now time.Time) {
	if l.pace == nil {
		return
	}
	keep := max(parkAfter, s.ladder.Tiers()[0])
	if l.paceWait(l.queued, now) <= 2*keep {
		return
	}
	n := int(l.pace.TokensAt(now) + keep.Seconds()*float64(l.pace.Limit()))
	s.evict(l, max(n, 1), parkAfter, parkTurn, now)
}

// pumpAfter pumps a lane again when its limit lets the next request begin.
func (s *lanes) pumpAfter(l *lane, wait time.Duration) {
	if l.paceTimer == nil {
		l.paceTimer = time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.pump(l)
		})
		return
	}
	l.paceTimer.Reset(wait)
}

// changed brings a subscription's lane in line with what it says now.
func (s *lanes) changed(id schemas.SubscriptionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.byKey[laneKey{subscription: id}]
	if l == nil {
		return
	}
	now := time.Now()
	l.choose(s.choicesOf(id), now)
	s.settleLane(l, now)
}
