package deliver_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/schemas"
)

// Two workers come and go while events are delivered and some fail.
func TestOrderIsKeptWhileWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	const bookings, events = 24, 8
	w := newWorld(t, 6, 200*ms, 400*ms, 10*time.Second)
	log := &journal{begun: map[string][]int64{}, taken: map[string]int64{}, steady: make(chan struct{}, 3*bookings*events)}
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response { return log.answer(t, r) })
	orderings := schemas.Orderings()
	for _, o := range orderings {
		for n := range 3 {
			w.subscribe(schemas.SubscriptionID(fmt.Sprint("sub_", o, n)), to.URL()+"/"+string(o)+strconv.Itoa(n), ordered(o))
		}
	}
	w.move()
	stop := w.work()
	written := make(chan struct{})
	go func() {
		defer close(written)
		for s := range int64(events) {
			steady := 0
			for b := range bookings {
				for _, o := range orderings {
					id := fmt.Sprintf("%s%d", o, b)
					if isSteady(id) {
						steady++
					}
					w.deliver(delivery(schemas.SubscriptionID(fmt.Sprint("sub_", o, b%3)), schemas.BookingID(id), s+1))
				}
			}
			// One round ahead of the receiver: more would be a flood on a slow machine,
			// and what is parked for that says nothing about the order.
			for range steady * min(int(s), 1) {
				select {
				case <-log.steady:
				case <-t.Context().Done():
					return
				}
			}
		}
	}()
	for range 4 {
		next := w.work()
		before := to.Count()
		testenv.Eventually(t, "some are delivered", func() bool { return to.Count() > before+60 || finished(written) })
		stop()
		stop = next
	}
	<-written
	decided := func() int {
		ids := map[schemas.DeliveryID]bool{}
		for _, a := range w.attempts(w.count(string(schemas.Attempts))) {
			if a.Outcome == schemas.Delivered || a.Outcome == schemas.Superseded {
				ids[a.DeliveryID] = true
			}
		}
		return len(ids)
	}
	testenv.Eventually(t, "every delivery is decided", func() bool { return decided() == bookings*events*len(orderings) })
	w.settled(deliver.Group, retry.Group)
	log.check(t, w.parkedFirsts(), bookings*events)
	w.nothingHeld()
}

// A worker is killed again and again, and what it had not committed is repeated.
func TestOrderIsKeptWhileWorkersAreKilled(t *testing.T) {
	t.Parallel()
	const bookings, events, kills = 12, 10, 3
	w := newWorld(t, 3, 200*ms, 400*ms, 10*time.Second)
	w.conf.Instance = "kill"
	log := &journal{begun: map[string][]int64{}, taken: map[string]int64{}}
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response { return log.answer(t, r) })
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderBooking))
	w.move()
	for s := range int64(events) {
		for b := range bookings {
			w.deliver(delivery("sub_1", schemas.BookingID(fmt.Sprint(schemas.OrderBooking, b)), s+1))
		}
	}
	for range kills {
		kill, before := w.workElsewhere(), to.Count()
		testenv.Eventually(t, "some are delivered", func() bool { return to.Count() > before+bookings })
		kill()
	}
	w.work()
	testenv.Eventually(t, "every event is taken", func() bool { return log.all(bookings, events) })
	w.settled(deliver.Group, retry.Group)
	log.check(t, nil, bookings*events)
	if n := to.Count(); n > 2*bookings*events {
		t.Errorf("%d requests for %d events", n, bookings*events)
	}
	w.nothingHeld()
}

// all says that the last event of every booking was taken.
func (l *journal) all(bookings int, last int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, taken := range l.taken {
		if taken < last {
			return false
		}
	}
	return len(l.taken) == bookings
}

func finished(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// A journal is what a receiver saw: by path and booking.
type journal struct {
	mu    sync.Mutex
	begun map[string][]int64 // sequences at their first request
	taken map[string]int64   // the highest of which this one and all before were taken
	// steady is told of every first request of a booking that never fails; may be nil.
	steady chan struct{}
}

// isSteady says of a booking that no event of it fails: none after it is held back.
func isSteady(booking string) bool {
	last := booking[len(booking)-1]
	return !strings.HasPrefix(booking, string(schemas.OrderBooking)) && last%2 == 0
}

// answer fails the first attempt of every seventh event but of steady bookings, and
// says of each booking in order what came too early.
func (l *journal) answer(t *testing.T, r testenv.Request) testenv.Response {
	t.Helper()
	booking, n, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("webhook-id"), "evt_"), "_")
	sequence, _ := strconv.ParseInt(n, 10, 64)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.begun[booking], sequence) {
		l.begun[booking] = append(l.begun[booking], sequence)
		if isSteady(booking) {
			select {
			case l.steady <- struct{}{}:
			default: // nobody paces this test
			}
		}
	}
	inOrder := strings.HasPrefix(booking, string(schemas.OrderBooking))
	if inOrder && l.taken[booking] < sequence-1 {
		t.Errorf("%s: %d came when %d was the last one taken", booking, sequence, l.taken[booking])
	}
	if r.Header.Get("X-Webhook-Attempt") == "1" && (len(booking)+int(sequence))%7 == 0 && !isSteady(booking) {
		return testenv.Response{Status: http.StatusInternalServerError}
	}
	if sequence == l.taken[booking]+1 {
		l.taken[booking] = sequence
	}
	return testenv.Response{}
}

// check holds first attempts against the order of events, but for bookings of
// which one was parked before its first attempt: what a process has parked, the
// next owner of its partition does not know, unless an ordering is asked for.
func (l *journal) check(t *testing.T, parked map[string]bool, want int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	checked, inOrder := 0, 0
	for booking, begun := range l.begun {
		if strings.HasPrefix(booking, string(schemas.OrderBooking)) {
			inOrder += len(begun)
		} else if parked[booking] {
			continue
		}
		checked++
		if !slices.IsSorted(begun) {
			t.Errorf("first attempts of %s: %v", booking, begun)
		}
	}
	if inOrder != want || checked < len(l.begun)/2 {
		t.Errorf("%d events in order of %d; %d of %d bookings say something", inOrder, want, checked, len(l.begun))
	}
}

// parkedFirsts are the bookings with an event that was parked before it was tried.
func (w *world) parkedFirsts() map[string]bool {
	out := map[string]bool{}
	for _, tier := range w.ladder.Tiers() {
		topic := schemas.TierTopic(tier)
		for _, d := range read[schemas.Delivery](w, topic, w.count(topic)) {
			if d.Attempt == 0 {
				out[string(d.BookingID)] = true
			}
		}
	}
	return out
}

// workElsewhere runs a worker in a process of its own, which kill ends without any
// notice.
func (w *world) workElsewhere() (kill func()) {
	w.Helper()
	return startElsewhere(w.TB, w.conf, w.ladder)
}
