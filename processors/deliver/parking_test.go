package deliver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

func TestTierOfAWait(t *testing.T) {
	t.Parallel()
	ladder := schemas.DefaultLadder()
	for _, c := range []struct {
		wait time.Duration
		why  parkReason
		want time.Duration
	}{
		{time.Second, parkClosed, 5 * time.Second},
		{20 * time.Hour, parkAsked, 10 * time.Hour},
		{14 * time.Hour, parkNotBefore, 10 * time.Hour},
		{4 * time.Hour, parkNotBefore, 2 * time.Hour},
		{29 * time.Minute, parkNotBefore, 5 * time.Minute},
		{5 * time.Second, parkNotBefore, 5 * time.Second},
		{time.Millisecond, parkNotBefore, 5 * time.Second},
		{6 * time.Second, parkFlood, 5 * time.Second},
		{time.Millisecond, parkFlood, 5 * time.Second},
		{6 * time.Second, parkClosed, 30 * time.Second},
	} {
		if got := tierFor(ladder, c.wait, c.why); got != c.want {
			t.Errorf("%v, %s: %v, want %v", c.wait, c.why, got, c.want)
		}
	}
}

// Events of one booking that arrive one after another while the lane is closed
// must not each take the next tier up.
func TestEventsBehindAParkedOneStayOnItsTier(t *testing.T) {
	t.Parallel()
	s := newLanes(schemas.Ladder{time.Second, 5 * time.Second, time.Minute}, 16)
	l := newLane(laneKey{}, time.Second, time.Minute)
	now := time.Now()
	l.shut(now.Add(900 * time.Millisecond))
	for n := range int64(5) {
		j := &job{d: schemas.Delivery{BookingID: "b", Sequence: n + 1}}
		at := now.Add(time.Duration(n) * time.Millisecond)
		wait, why := s.parkFor(l, j, at)
		tier := tierFor(s.ladder, wait, why)
		if tier != time.Second {
			t.Errorf("event %d goes to the tier %v", n+1, tier)
		}
		l.remember(j, at.Add(tier))
	}
}

func TestTestsAndWhatHasNoTierDoNotWaitForEver(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newLanes(nil, 16)
	s.testAge = 17 * time.Second
	test := &lane{key: laneKey{test: true}, queued: maxTests - 1}
	job := &job{item: &kafka.Item{}, arrived: now, d: schemas.Delivery{Trigger: schemas.TriggerTest, CreatedAt: now}}
	if c, _ := s.surplus(test, job, now); c != "" {
		t.Errorf("a test that has room is %s", c)
	}
	if c, _ := s.outwaited(job, now.Add(18*time.Second)); c != schemas.ErrorOutOfTime {
		t.Errorf("a test that nobody waits for is %q", c)
	}
	test.queued = maxTests
	if c, _ := s.surplus(test, job, now); c != schemas.ErrorOutOfTime {
		t.Errorf("one test too many is %q", c)
	}
	l := newLane(laneKey{}, time.Second, time.Second)
	l.queued, l.failing = maxQueue, true
	job.d.Trigger = schemas.TriggerEvent
	if c, _ := s.surplus(l, job, now); c != schemas.ErrorOutOfTries {
		t.Errorf("a record beyond the queue, without a ladder, is %q", c)
	}
	if c, _ := s.outwaited(job, now.Add(maxWait+1)); c != schemas.ErrorOutOfTries {
		t.Errorf("a record that waited too long, without a ladder, is %q", c)
	}
	s.ladder = schemas.Ladder{time.Second}
	if c, _ := s.surplus(l, job, now.Add(time.Hour)); c != "" {
		t.Errorf("with a ladder it is %q", c)
	}
}

func TestRecordsJoinAPausedLaneOnlyWhileThePauseIsShort(t *testing.T) {
	t.Parallel()
	s := newLanes(schemas.Ladder{time.Second}, 16)
	l := newLane(laneKey{}, time.Second, time.Second)
	l.limit = limit{slots: 8, mean: time.Second}
	p := &kafka.Partition{}
	s.parts[p] = &presence{jobs: map[*lane]int{l: 1}, paused: l}
	l.queued = 30
	if !s.waitsPaused(l, p) {
		t.Error("a wait of four seconds is too long")
	}
	s.joined(l, p)
	l.queued = 40
	s.joined(l, p)
	if got := s.parts[p].resumeAt; got != 20 {
		t.Errorf("it ends at a queue of %d, want 20", got)
	}
	l.queued = 50
	if s.waitsPaused(l, p) {
		t.Error("a wait of six seconds is not too long")
	}
	if _, most := s.keeps(l); most >= time.Minute {
		t.Errorf("while it is paused, a queue may take %v", most)
	}
}

// slowly is what is learned of a success that took long.
func slowly(now time.Time) result {
	w := &Worker{timeout: DefaultTimeout}
	return w.lesson(verdict{outcome: schemas.Delivered}, answer{took: 12 * time.Second}, now)
}

func TestSlowSuccessesKeepTheLaneOpen(t *testing.T) {
	t.Parallel()
	s := newLanes(schemas.Ladder{time.Second}, 16)
	l := newLane(laneKey{}, time.Second, time.Second)
	for range 5 * minSamples {
		report, ok := s.allow(l)
		if !ok {
			t.Fatal("the breaker is open")
		}
		s.learn(l, &job{report: report}, slowly(time.Now()), time.Now())
	}
	if !l.answers() || l.lastGood.IsZero() || !l.healthy(time.Now()) {
		t.Errorf("answered %v, failing %v, stuck %v", l.answered, l.failing, l.stuck)
	}
	if n := l.limit.now(); n > maxSlots/4 {
		t.Errorf("it holds %d slots", n)
	}
}

func TestSlowProbesCloseTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLanes(schemas.Ladder{time.Second}, 16)
		l := newLane(laneKey{}, time.Second, time.Second)
		for range minSamples {
			report, _ := s.allow(l)
			s.learn(l, &job{report: report}, result{counted: true}, time.Now())
		}
		if wait, why := l.closedFor(time.Now()); wait != time.Second || why != parkClosed {
			t.Fatalf("it is closed for %v, %s", wait, why)
		}
		<-time.After(time.Second)
		report, ok := s.allow(l)
		if !ok {
			t.Fatal("no probe is allowed")
		}
		s.learn(l, &job{report: report}, slowly(time.Now()), time.Now())
		if st := l.breaker.State(); st != gobreaker.StateClosed {
			t.Errorf("it is %v", st)
		}
	})
}

// A lane gets few requests of an endpoint that hangs, and each tells for as long as
// its timeout is. Three must do, and its probes must not let the queue fill again.
func TestAnEndpointThatHangsIsKnownByFewRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLanes(schemas.DefaultLadder(), 16)
		l := newLane(laneKey{}, 5*time.Second, time.Hour)
		ask := func(took time.Duration, good bool) {
			t.Helper()
			<-time.After(time.Millisecond)
			report, ok := s.allow(l)
			if !ok {
				t.Fatal("the breaker is open")
			}
			j := &job{item: &kafka.Item{}, report: report, lane: l, begun: time.Now(), linger: time.NewTimer(time.Hour)}
			if took > lingerAfter {
				<-time.After(lingerAfter)
				s.lingers(j)
				if wait, why := s.parkFor(l, &job{}, time.Now()); wait == 0 || why != parkClosed {
					t.Errorf("while a request lingers, what comes is parked for %v, %q", wait, why)
				}
				took -= lingerAfter
			}
			<-time.After(took)
			s.ended(j, result{counted: true, good: good, hung: !good, took: time.Since(j.begun)})
		}
		for range 3 * minSamples {
			ask(10*time.Millisecond, true)
		}
		for range maxHung {
			ask(DefaultTimeout, false)
		}
		if st := l.breaker.State(); st != gobreaker.StateOpen {
			t.Fatalf("after %d timeouts it is %v", maxHung, st)
		}
		<-time.After(5 * time.Second)
		ask(DefaultTimeout, false)
		if st := l.breaker.State(); st != gobreaker.StateOpen {
			t.Errorf("after a probe that hung it is %v", st)
		}
		<-time.After(10 * time.Second)
		ask(10*time.Millisecond, true)
		if wait, _ := s.parkFor(l, &job{}, time.Now()); wait != 0 {
			t.Errorf("after a probe that was answered, what comes is parked for %v", wait)
		}
	})
}

func TestTheLongerAnEndpointIsSilentTheLongerItsRecordsStayAway(t *testing.T) {
	t.Parallel()
	s := newLanes(schemas.DefaultLadder(), 16)
	l := newLane(laneKey{}, 5*time.Second, time.Hour)
	now := time.Now()
	for _, c := range []struct{ silent, tier time.Duration }{
		{0, 5 * time.Second},
		{9 * time.Second, 5 * time.Second},
		{10 * time.Second, 30 * time.Second},
		{99 * time.Second, 30 * time.Second},
		{100 * time.Second, 5 * time.Minute},
		{24 * time.Hour, 5 * time.Minute},
	} {
		l.stuck, l.silent = true, now.Add(-c.silent)
		wait, why := s.parkFor(l, &job{}, now)
		if tier := tierFor(s.ladder, wait, why); tier != c.tier || why != parkClosed {
			t.Errorf("after %v the tier is %v, %s, want %v", c.silent, tier, why, c.tier)
		}
	}
	// What would be too old when it comes back is asked for before.
	s.holds.bound = time.Minute
	old := &job{d: schemas.Delivery{CreatedAt: now.Add(-20 * time.Second)}}
	if wait, _ := s.parkFor(l, old, now); wait != 30*time.Second {
		t.Errorf("a record with 40 s left is parked for %v", wait)
	}
	s.holds.bound = 30 * time.Second
	if wait, _ := s.parkFor(l, old, now); tierFor(s.ladder, wait, parkClosed) != 5*time.Second {
		t.Errorf("a record with 10 s left is parked for %v", wait)
	}
	for name, r := range map[string]result{"a success": {good: true}, "a quick failure": {}} {
		l.silent, l.hung, l.stuck = now.Add(-time.Hour), 2, false
		l.heard(r, now, now)
		l.shut(now.Add(time.Second))
		if wait, why := s.parkFor(l, &job{}, now); wait != time.Second || why != parkClosed || l.hung != 0 {
			t.Errorf("right after %s it is parked for %v, %s", name, wait, why)
		}
	}
	l.lastGood = now
	if l.heard(result{hung: true}, now.Add(-time.Second), now); l.hung != 0 || !l.silent.IsZero() {
		t.Error("what hung before the last success counts after it")
	}
}

// What stays behind an earlier event of its booking must not come back long after it,
// or the next one stays behind that, and so on.
func TestWhatStaysBehindComesBackWithWhatItIsBehind(t *testing.T) {
	t.Parallel()
	s := newLanes(schemas.DefaultLadder(), 16)
	l := newLane(laneKey{}, 5*time.Second, time.Hour)
	now := time.Now()
	l.remember(&job{d: schemas.Delivery{BookingID: "b", Sequence: 1}}, now.Add(40*time.Second))
	second := &job{lane: l, d: schemas.Delivery{BookingID: "b", Sequence: 2}}
	for _, shut := range []time.Duration{0, 10 * time.Second} {
		l.shutTill = now.Add(shut)
		wait, why := s.parkFor(l, second, now)
		if tier := heldTier(s.ladder, &second.d, wait); why != parkBehind || tier != 30*time.Second {
			t.Errorf("shut for %v it is parked for %v, %s, on the tier %v", shut, wait, why, tier)
		}
	}
	l.shutTill, l.ordering = time.Time{}, schemas.OrderLatest
	if wait, why := s.parkFor(l, second, now); wait != 0 {
		t.Errorf("where only the latest is wanted it is parked for %v, %s", wait, why)
	}
}

// One that used to be slow is not stuck by being slow, but by a probe that hangs.
func TestAProbeThatLingersSaysThatASlowEndpointHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLanes(schemas.DefaultLadder(), 16)
		l := newLane(laneKey{}, 5*time.Second, time.Hour)
		linger := func() {
			t.Helper()
			report, ok := s.allow(l)
			if !ok {
				t.Fatal("the breaker is open")
			}
			j := &job{item: &kafka.Item{}, report: report, lane: l, begun: time.Now(), linger: time.NewTimer(time.Hour)}
			<-time.After(lingerAfter)
			s.lingers(j)
			stuck := l.stuck
			if half := l.breaker.State() == gobreaker.StateHalfOpen; stuck != half {
				t.Errorf("half open %v, stuck %v", half, stuck)
			}
			<-time.After(DefaultTimeout - lingerAfter)
			s.ended(j, result{counted: true, hung: true, took: DefaultTimeout})
		}
		l.heard(result{good: true, took: 4 * time.Second}, time.Now(), time.Now())
		<-time.After(time.Millisecond)
		for range maxHung {
			linger()
		}
		<-time.After(5 * time.Second)
		linger()
	})
}

func TestRetryAfterIsToldFromTheBreaker(t *testing.T) {
	t.Parallel()
	s := newLanes(schemas.Ladder{time.Second, time.Minute}, 16)
	l := newLane(laneKey{}, time.Second, time.Minute)
	now := time.Now()
	report, _ := s.allow(l)
	w := &Worker{timeout: DefaultTimeout}
	s.learn(l, &job{report: report}, w.lesson(verdict{outcome: schemas.Retry, shut: true, after: time.Hour}, answer{}, now), now)
	l.shut(now.Add(2 * time.Hour))
	if wait, why := s.parkFor(l, &job{}, now); wait != 2*time.Hour || why != parkAsked {
		t.Errorf("parked for %v, %s", wait, why)
	}
	if _, why := s.parkFor(l, &job{}, now.Add(90*time.Minute)); why != parkClosed {
		t.Errorf("later it is parked as %s", why)
	}
}

func TestLaneForgetsWhatItLearnedOfAnotherURL(t *testing.T) {
	t.Parallel()
	url := "https://old.example"
	s := newLanes(schemas.Ladder{time.Second}, 16)
	s.choicesOf = func(schemas.SubscriptionID) choices { return choices{url: url} }
	now := time.Now()
	j := &job{d: schemas.Delivery{SubscriptionID: "sub_1"}}
	l := s.lane(j, now)
	old := l.url
	for range maxHung {
		report, _ := s.allow(l)
		s.learn(l, &job{report: report, url: old}, result{counted: true, askedFor: time.Hour, took: 10 * time.Second}, now)
	}
	if closed, _ := s.lane(j, now).closedFor(now); closed == 0 {
		t.Fatal("it is open")
	}
	url = "https://new.example"
	if s.lane(j, now) != l || !l.healthy(now) || l.limit.now() != firstSlots {
		t.Errorf("after the move: failing %v, shut till %v, asked till %v, %d slots", l.failing, l.shutTill, l.asked, l.limit.now())
	}
	s.learn(l, &job{url: old}, result{counted: true, askedFor: time.Hour}, now)
	if !l.healthy(now) {
		t.Error("an answer of the old URL closed the lane of the new one")
	}
	url = "" // the table has forgotten it
	if s.lane(j, now); l.url != "https://new.example" {
		t.Errorf("the lane's URL is %q", l.url)
	}
}
