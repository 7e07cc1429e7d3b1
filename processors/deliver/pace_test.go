package deliver

import (
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

func pacedLane(perMinute int, now time.Time) *lane {
	l := newLane(laneKey{}, time.Second, time.Minute)
	l.choose(choices{url: "https://a.example", perMinute: perMinute}, now)
	return l
}

// take makes requests for as long as the limit lets them begin at once.
func take(l *lane, now time.Time) int {
	n := 0
	for l.paceWait(1, now) == 0 {
		l.pace.AllowN(now, 1)
		n++
	}
	return n
}

func TestNoMinuteSeesMoreThanTheLimitAndASecondsWorth(t *testing.T) {
	t.Parallel()
	for _, perMinute := range []int{1, 7, 60, 90, 6000} {
		now := time.Now()
		l := pacedLane(perMinute, now)
		burst := perMinute/60 + 1
		if n := take(l, now); n != burst {
			t.Errorf("%d a minute: %d at once, want %d", perMinute, n, burst)
		}
		n := 0
		for end := now.Add(time.Minute); now.Before(end); now = now.Add(l.paceWait(1, now)) {
			n += take(l, now)
		}
		if n > perMinute+1 || n < perMinute-1 {
			t.Errorf("%d a minute: %d in the minute after", perMinute, n)
		}
	}
}

func TestTurnsFollowOneAnotherAndAreKept(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newLanes(schemas.Ladder{5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour}, 16)
	l := pacedLane(60, now)
	take(l, now)
	job := func(turn *time.Time) *job { return &job{d: schemas.Delivery{TurnAt: turn}} }
	if wait := s.turnFor(l, job(nil), now); wait != 0 {
		t.Errorf("one that waits a second is parked for %v", wait)
	}
	l.queued = 1
	var turns []time.Duration
	for range 100 {
		wait := s.turnFor(l, job(nil), now)
		turns = append(turns, wait.Round(time.Millisecond))
	}
	for i, got := range turns {
		if want := time.Duration(i+2) * time.Second; got != want {
			t.Fatalf("turn %d is in %v, want %v", i, got, want)
		}
	}
	turn := now.Add(90 * time.Second)
	if wait := s.turnFor(l, job(&turn), now.Add(30*time.Second)); wait != time.Minute {
		t.Errorf("a turn in a minute is %v away", wait)
	}
	if wait := s.turnFor(l, job(&turn), turn); wait != 0 {
		t.Errorf("whose turn it is waits for %v", wait)
	}
	beyond := now.Add(time.Hour)
	if wait := s.turnFor(l, job(&beyond), now.Add(10*time.Second)); wait != 0 {
		t.Errorf("a turn that another lane gave is believed for %v", wait)
	}
	l.setPace(600, now)
	if wait := s.turnFor(l, job(&turn), now.Add(time.Second)); wait != 0 {
		t.Errorf("a turn under another limit is kept for %v", wait)
	}
	l.setPace(0, now)
	if wait := s.turnFor(l, job(&turn), now); wait != 0 {
		t.Errorf("without a limit it waits for %v", wait)
	}
	for wait, want := range map[time.Duration]time.Duration{
		2 * time.Second: 5 * time.Second, 29 * time.Second: 5 * time.Second, 40 * time.Second: 30 * time.Second, 10 * time.Hour: 5 * time.Minute,
	} {
		if got := tierFor(s.ladder, wait, parkTurn); got != want {
			t.Errorf("a turn in %v: %v, want %v", wait, got, want)
		}
	}
}

func TestTheClockOfALimitedDeliveryBeginsWithItsTurn(t *testing.T) {
	t.Parallel()
	made := time.Now()
	turn := made.Add(40 * time.Hour)
	if got := clockOf(&schemas.Delivery{CreatedAt: made}); !got.Equal(made) {
		t.Errorf("without a turn it began at %v", got)
	}
	if got := clockOf(&schemas.Delivery{CreatedAt: made, TurnAt: &turn}); !got.Equal(turn) {
		t.Errorf("with a turn it began at %v", got)
	}
}

func TestWhatIsHeldComesBackRightAfterWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	ladder := schemas.DefaultLadder()
	d := &schemas.Delivery{SubscriptionID: "sub_1"}
	for _, tier := range ladder.Tiers() {
		away := schemas.HoldsFor(tier, d.SubscriptionID)
		if got := heldTier(ladder, d, away-3*time.Millisecond); got != tier {
			t.Errorf("behind one that was just put on %v: %v", tier, got)
		}
		// One that comes later makes its way in shorter steps.
		for _, part := range []time.Duration{10, 3, 2} {
			left, hops := away-away/part, 0
			for left > 0 {
				left -= schemas.HoldsFor(heldTier(ladder, d, left), d.SubscriptionID)
				hops++
			}
			if -left > 5*time.Second || hops > 40 {
				t.Errorf("%v of %v later: %v late, in %d hops", away/part, tier, -left, hops)
			}
		}
	}
}

func TestWhatIsOverdueIsAskedForLessAndLessOften(t *testing.T) {
	t.Parallel()
	due := time.Now()
	for now, want := range map[time.Duration]time.Duration{
		-time.Minute: time.Minute, 0: time.Millisecond, 10 * time.Second: 5 * time.Second, 4 * time.Minute: 2 * time.Minute, time.Hour: maxTurn,
	} {
		if got := awayFor(due, due.Add(now)); got != want {
			t.Errorf("%v after it was due: %v, want %v", now, got, want)
		}
	}
}

func TestHeadersThatAreNotTheSubscribersToSet(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"Host": true, "webhook-id": true, "X-WEBHOOK-Signature": true, "Transfer-Encoding": true, "Accept-Encoding": true, "User-Agent": true,
		"Authorization": false, "X-Token": false, "X-Webhooks": false,
	} {
		if got := reserved(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, want := range map[string]bool{"X-Token": true, "": false, "X Token": false, "X-Tökén": false, "X:": false} {
		if got := headerName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	for value, want := range map[string]bool{"Bearer a": true, "": true, "ü": true, "a\tb": true, "a\r\nX-Evil: b": false, "\x00": false, "\x7f": false} {
		if got := headerValue(value); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}
