package deliver

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/krib-ai/krib/schemas"
)

func TestLimitGrowsOnQuickAnswersAndShrinksOnSlowAndBadOnes(t *testing.T) {
	t.Parallel()
	var l limit
	if l.now() != firstSlots {
		t.Errorf("it starts at %d", l.now())
	}
	at := time.Unix(0, 0)
	for range 200 {
		at = at.Add(10 * time.Millisecond)
		l.took(10*time.Millisecond, true, true, at)
	}
	if l.now() != maxSlots {
		t.Errorf("after quick answers it is %d", l.now())
	}
	for range 50 {
		at = at.Add(time.Second)
		l.took(800*time.Millisecond, true, true, at)
	}
	if l.now() > maxSlots/4 {
		t.Errorf("after slow answers it is %d", l.now())
	}
	for range 20 {
		at = at.Add(20 * time.Second)
		l.took(15*time.Second, false, true, at)
	}
	if l.now() != 1 {
		t.Errorf("after failures it is %d", l.now())
	}
}

func TestLimitOfASlowLaneIsSmallAlsoWhereNothingQueues(t *testing.T) {
	t.Parallel()
	var l limit
	at := time.Unix(0, 0)
	for range 1000 {
		at = at.Add(4 * time.Second)
		l.took(4*time.Second, true, true, at)
	}
	if n := l.now(); n > maxSlots/4 {
		t.Errorf("a lane of four-second answers holds %d slots", n)
	}
}

// Lanes that hang take what they get and give nothing back; lanes that answer
// must find room all the same.
func TestHangingLanesCannotExhaustThePool(t *testing.T) {
	t.Parallel()
	p := newPool(DefaultMaxInFlight)
	held := 0
	for range 400 {
		for n := 0; n < firstSlots && n < p.room(false); n++ {
			p.take()
			held++
		}
	}
	if p.room(false) != 0 || p.room(true) == 0 {
		t.Fatalf("%d held: room for others %d, for those that answer %d", held, p.room(false), p.room(true))
	}
	for range held {
		p.slowDown()
	}
	if p.room(false) == 0 {
		t.Errorf("%d held, all slow: no room", held)
	}
}

func TestParkedIsToldFromRetried(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		attempt, hop int
		parked       bool
	}{{0, 0, false}, {1, 2, false}, {2, 4, false}, {0, 2, true}, {1, 4, true}, {3, 8, true}} {
		if got := parkedBefore(&schemas.Delivery{Attempt: c.attempt, Hop: c.hop}); got != c.parked {
			t.Errorf("attempt %d, hop %d: %v", c.attempt, c.hop, got)
		}
	}
}

func TestLaneKeepsABookingsOrderWhenItsTailIsTaken(t *testing.T) {
	t.Parallel()
	l := newLane(laneKey{}, time.Second, time.Second)
	for _, b := range []schemas.BookingID{"a", "b", "a", "", "b", "a"} {
		l.push(&job{d: schemas.Delivery{BookingID: b}})
	}
	first := l.pop() // a, order 1, in flight
	var got []uint64
	for _, j := range l.takeWaiting(func(j *job) bool { return j.order >= 3 }) {
		got = append(got, j.order)
	}
	if len(got) != 4 || got[0] != 3 || got[3] != 6 || l.queued != 1 {
		t.Errorf("took %v, left %d", got, l.queued)
	}
	l.unchain(first)
	if len(l.chains) != 1 || len(l.ready) != 1 || l.ready[0].order != 2 {
		t.Errorf("%d chains, %d ready", len(l.chains), len(l.ready))
	}
}

func TestLaterEventsStayBehindAParkedOne(t *testing.T) {
	t.Parallel()
	l := newLane(laneKey{}, time.Second, time.Second)
	now := time.Now()
	event := func(sequence int64, hop int) *job {
		return &job{d: schemas.Delivery{BookingID: "b", Sequence: sequence, Hop: hop}}
	}
	l.remember(event(2, 0), now.Add(5*time.Second))
	if l.behind(event(1, 0), now) != 0 {
		t.Error("an earlier event waits for a later one")
	}
	if d := l.behind(event(3, 0), now); d != 5*time.Second {
		t.Errorf("a later event waits %v", d)
	}
	if d := l.behind(event(3, 0), now.Add(5*time.Second+wayBack/2)); d <= 0 || d > wayBack {
		t.Errorf("a later event waits %v for one that is on its way back", d)
	}
	if l.behind(event(2, 2), now) != 0 {
		t.Error("the parked event waits for itself")
	}
	if l.behind(event(3, 0), now) != 0 || len(l.parked) != 0 {
		t.Error("it came back and is still waited for")
	}
}

func TestSeenTellsARepeatOfFinishedWorkFromOneOfWorkInHand(t *testing.T) {
	t.Parallel()
	s := newSeen()
	a, b, c := &job{d: schemas.Delivery{ID: "d"}}, &job{d: schemas.Delivery{ID: "d"}}, &job{d: schemas.Delivery{ID: "d", Hop: 2}}
	if s.claim(a) != fresh || s.claim(b) != follows || s.claim(c) != fresh {
		t.Fatal("a repeat of work in hand must follow it, and another hop is no repeat")
	}
	if f := s.release(keyOf(&a.d)); len(f) != 1 || f[0] != b || s.claim(b) != fresh {
		t.Error("the follower does not take the place of what was let go")
	}
	s.finish(keyOf(&b.d))
	if s.claim(a) != finished {
		t.Error("a repeat of finished work is not known")
	}
	for i := range 2 * seenSize {
		s.finish(hopKey{id: "x", run: int64(i)})
	}
	if s.claim(a) == finished || len(s.recent)+len(s.older) > 2*seenSize {
		t.Errorf("nothing is forgotten: %d and %d", len(s.recent), len(s.older))
	}
}

func FuzzSafe(f *testing.F) {
	f.Add([]byte("a\x00\xff\xc3\xa9"), 3)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		limit = max(0, min(limit, 4096))
		s := safe(b, limit)
		if len(s) > limit || !utf8.ValidString(s) || strings.Contains(s, "\x00") {
			t.Errorf("%q", s)
		}
	})
}
