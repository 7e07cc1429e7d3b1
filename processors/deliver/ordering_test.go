package deliver_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/schemas"
)

func ordered(o schemas.Ordering) func(*schemas.Subscription) {
	return func(s *schemas.Subscription) { s.Ordering = o }
}

// calls are the requests to a path for a booking, as sequence#attempt.
func calls(to *testenv.Endpoint, path, booking string) []string {
	var out []string
	for _, r := range to.All() {
		if s, ok := strings.CutPrefix(r.Header.Get("webhook-id"), "evt_"+booking+"_"); ok && r.Path == path {
			out = append(out, s+"#"+r.Header.Get("X-Webhook-Attempt"))
		}
	}
	return out
}

func checkCalls(t *testing.T, to *testenv.Endpoint, path, booking string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, calls(to, path, booking)); diff != "" {
		t.Errorf("%s of %s (-want +got):\n%s", booking, path, diff)
	}
}

// failingEvents answers 500 to so many requests of an event.
func failingEvents(times map[string]int) func(testenv.Request) testenv.Response {
	var mu sync.Mutex
	return func(r testenv.Request) testenv.Response {
		mu.Lock()
		defer mu.Unlock()
		key := r.Path + " " + r.Header.Get("webhook-id")
		if times[key] > 0 {
			times[key]--
			return testenv.Response{Status: http.StatusInternalServerError}
		}
		return testenv.Response{}
	}
}

// held is what webhook.holds says in the end, by key.
func (w *world) held() map[string]schemas.Hold {
	w.Helper()
	out := map[string]schemas.Hold{}
	for p := range w.partitions {
		err := kafka.ReadPartition(w.Context(), w.cl, w.conf, "test-holds", string(schemas.Holds), p, func(r *kgo.Record) {
			delete(out, string(r.Key))
			if len(r.Value) == 0 {
				return
			}
			h, err := schemas.Decode[schemas.Hold](r.Value)
			if err != nil {
				w.Fatal(err)
			}
			out[string(r.Key)] = h
		})
		if err != nil {
			w.Fatal(err)
		}
	}
	return out
}

func (w *world) nothingHeld() {
	w.Helper()
	if h := w.held(); len(h) > 0 {
		w.Errorf("something is still held: %v", h)
	}
}

func TestAFailedEventHoldsBackLaterOnesOfItsBookingOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 300*ms, 600*ms, 900*ms)
	to := testenv.Receiver(t, failingEvents(map[string]int{"/kept evt_a_1": 2, "/kept evt_a_3": 1, "/free evt_a_1": 1}))
	w.subscribe("sub_kept", to.URL()+"/kept", ordered(schemas.OrderBooking))
	w.subscribe("sub_free", to.URL()+"/free")
	w.work()
	w.move()
	w.deliver(delivery("sub_kept", "a", 1), delivery("sub_free", "a", 1))
	w.attempts(2)                          // both have failed
	replay := delivery("sub_kept", "a", 2) // of another run, which waits for nobody
	replay.Run, replay.Trigger = 7, schemas.TriggerReplay
	ds := []schemas.Delivery{replay}
	for n := int64(2); n <= 4; n++ {
		ds = append(ds, delivery("sub_kept", "a", n), delivery("sub_free", "a", n), delivery("sub_kept", "b", n-1))
	}
	w.deliver(ds...)
	as := w.attempts(2 + 9 + 1 + 1 + 3)
	w.settled(deliver.Group, retry.Group)
	kept := calls(to, "/kept", "a")
	if i := slices.Index(kept, "2#1"); i < 0 || i > slices.Index(kept, "1#3") {
		t.Errorf("the replay waited: %v", kept)
	} else {
		kept = slices.Delete(kept, i, i+1)
	}
	if diff := cmp.Diff([]string{"1#1", "1#2", "1#3", "2#1", "3#1", "3#2", "4#1"}, kept); diff != "" {
		t.Errorf("the booking in order (-want +got):\n%s", diff)
	}
	checkCalls(t, to, "/kept", "b", "1#1", "2#1", "3#1")
	if free := calls(to, "/free", "a"); len(free) != 5 || free[len(free)-1] != "1#2" {
		t.Errorf("without order: %v", free)
	}
	last := time.Time{}
	for _, a := range as {
		if a.SubscriptionID == "sub_kept" && a.BookingID == "b" && a.StartedAt.After(last) {
			last = a.StartedAt
		}
	}
	for _, a := range as {
		if a.SubscriptionID == "sub_kept" && a.EventID == "evt_a_1" && a.Number == 3 && a.StartedAt.Before(last) {
			t.Error("another booking waited for the one that failed")
		}
	}
	w.nothingHeld()
	for key := range w.held() {
		t.Errorf("%s is held", key)
	}
	if n := w.count(string(schemas.DeadLetters)); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func TestAnEventThatDiesLetsLaterOnesGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 150*ms, 300*ms)
	to := testenv.Receiver(t, failingEvents(map[string]int{"/ evt_a_1": 3, "/ evt_a_2": 1}))
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderBooking))
	w.work()
	w.move()
	w.deliver(delivery("sub_1", "a", 1), delivery("sub_1", "a", 2), delivery("sub_1", "a", 3))
	w.attempts(6)
	w.settled(deliver.Group, retry.Group)
	checkCalls(t, to, "/", "a", "1#1", "1#2", "1#3", "2#1", "2#2", "3#1")
	if d := w.dead(1)[0]; d.Sequence != 1 {
		t.Errorf("dead is %+v", d)
	}
	w.nothingHeld()
}

func TestAHoldOutlivesAKilledWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 300*ms, 600*ms)
	w.conf.Instance = "kill" // a static member's partitions need not time out
	to := testenv.Receiver(t, failingEvents(map[string]int{"/ evt_a_1": 2}))
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderBooking))
	kill := w.workElsewhere()
	w.deliver(delivery("sub_1", "a", 1), delivery("sub_1", "a", 2))
	read[schemas.Delivery](w, schemas.TierTopic(300*ms), 2) // the first has failed, the second is held
	testenv.Eventually(t, "both are held", func() bool {
		h, ok := w.held()["sub_1|a|0"]
		return ok && len(h.Outstanding) == 2
	})
	w.settled(deliver.Group)
	kill()
	w.work()
	w.deliver(delivery("sub_1", "a", 3), delivery("sub_1", "b", 1))
	read[schemas.Delivery](w, schemas.TierTopic(300*ms), 3)
	if diff := cmp.Diff([]string{"1#1"}, calls(to, "/", "a")); diff != "" {
		t.Errorf("while the first is outstanding (-want +got):\n%s", diff)
	}
	w.move()
	testenv.Eventually(t, "the last is delivered", func() bool { return slices.Contains(calls(to, "/", "a"), "3#1") })
	w.settled(deliver.Group, retry.Group)
	checkCalls(t, to, "/", "a", "1#1", "1#2", "1#3", "2#1", "3#1")
	checkCalls(t, to, "/", "b", "1#1")
	w.nothingHeld()
}

func TestASupersededRetryIsSkippedAndSaidSo(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"in one life": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 200*ms, 400*ms)
			to := testenv.Receiver(t, failingEvents(map[string]int{"/ evt_a_1": 9, "/ evt_b_1": 1}))
			w.subscribe("sub_1", to.URL(), ordered(schemas.OrderLatest))
			stop := w.work()
			w.deliver(delivery("sub_1", "a", 1), delivery("sub_1", "b", 1))
			w.attempts(2)
			w.deliver(delivery("sub_1", "a", 2))
			w.attempts(3)
			if restart {
				w.settled(deliver.Group)
				stop()
				w.work()
			}
			w.move()
			var skipped []schemas.Attempt
			for _, a := range w.attempts(5) {
				if a.Outcome == schemas.Superseded {
					skipped = append(skipped, a)
				}
			}
			w.settled(deliver.Group, retry.Group)
			checkCalls(t, to, "/", "a", "1#1", "2#1")
			checkCalls(t, to, "/", "b", "1#1", "1#2") // none is later
			if len(skipped) != 1 {
				t.Fatalf("skipped: %+v", skipped)
			}
			a := skipped[0]
			if a.EventID != "evt_a_1" || a.Number != 2 || !a.Final || a.ErrorClass != schemas.ErrorSuperseded || a.Status != 0 || a.CountsForHealth() {
				t.Errorf("%+v", a)
			}
			w.nothingHeld()
		})
	}
}

func TestWhatWasParkedBeforeALaterEventIsSupersededToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 100*ms, 1500*ms)
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if r.N == 0 {
			return testenv.Response{Status: 503, Header: http.Header{"Retry-After": {"1"}}}
		}
		return testenv.Response{}
	})
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderLatest))
	w.work()
	w.deliver(delivery("sub_1", "z", 1))
	w.attempts(1) // the lane is shut
	w.deliver(delivery("sub_1", "a", 1), delivery("sub_1", "a", 2), delivery("sub_1", "a", 3))
	read[schemas.Delivery](w, schemas.TierTopic(1500*ms), 4)
	w.move()
	w.attempts(5)
	w.settled(deliver.Group, retry.Group)
	checkCalls(t, to, "/", "a", "3#1")
	w.nothingHeld()
}

// hold writes what a worker would have left behind.
func (w *world) hold(partition int32, h schemas.Hold) {
	w.Helper()
	r, err := kafka.Encode(string(schemas.Holds), h.Key(), h.Meta(time.Now()), &h)
	if err != nil {
		w.Fatal(err)
	}
	w.produce(kafka.ToPartition(r, partition))
}

func TestAHoldOfALostRecordLetsGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 100*ms)
	to := testenv.Receiver(t, nil)
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderBooking))
	lost := func(booking schemas.BookingID, due time.Time) {
		w.hold(0, schemas.Hold{SubscriptionID: "sub_1", BookingID: booking, Newest: 1, Outstanding: []schemas.Outstanding{
			{DeliveryID: "dlv_lost", Sequence: 1, DueAt: schemas.Stamp(due)},
		}})
	}
	lost("long_ago", time.Now().Add(-time.Hour))
	lost("just_now", time.Now().Add(3*time.Second))
	w.work(func(o *deliver.Options) { o.Timeout = time.Second }) // so it is believed in until 5.1 s from now
	w.move()
	w.deliver(delivery("sub_1", "just_now", 2), delivery("sub_1", "long_ago", 2))
	to.Next(t)
	if diff := cmp.Diff([]string{"2#1"}, calls(to, "/", "long_ago")); diff != "" {
		t.Errorf("what was lost long ago (-want +got):\n%s", diff)
	}
	to.Next(t)
	w.settled(deliver.Group, retry.Group)
	checkCalls(t, to, "/", "just_now", "2#1")
	if n := w.count(schemas.TierTopic(100 * ms)); n == 0 {
		t.Error("nothing waited for what may still come")
	}
	w.nothingHeld()
}

func TestAnUndecodableHoldGoesToPoisonAndTheRestFlows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 150*ms)
	to := testenv.Receiver(t, failingEvents(map[string]int{"/ evt_a_1": 1}))
	w.produce(
		&kgo.Record{Topic: string(schemas.Holds), Key: []byte("sub_1|a|0"), Value: []byte(`{"outstanding":`)},
		&kgo.Record{Topic: string(schemas.Holds), Key: []byte("another"), Value: []byte(`{"subscription_id":"sub_1","booking_id":"a"}`)},
	)
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderBooking))
	w.work()
	w.move()
	w.deliver(delivery("sub_1", "a", 1), delivery("sub_1", "a", 2))
	w.attempts(3)
	checkCalls(t, to, "/", "a", "1#1", "1#2", "2#1")
	for _, p := range read[schemas.Poison](w, string(schemas.PoisonRecords), 2) {
		if p.Topic != string(schemas.Holds) || p.Reader != deliver.Group || p.Error == "" {
			t.Errorf("%+v", p)
		}
	}
}

func TestAnotherOrderingLetsGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Hour)
	to := testenv.Receiver(t, failingEvents(map[string]int{"/ evt_a_1": 9}))
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderBooking))
	w.work()
	w.deliver(delivery("sub_1", "a", 1), delivery("sub_1", "a", 2))
	read[schemas.Delivery](w, schemas.TierTopic(time.Hour), 2)
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderNone), func(s *schemas.Subscription) { s.Version = 2 })
	n := int64(2)
	testenv.Eventually(t, "a later event passes", func() bool {
		n++ // one that was still held stays where it is
		w.deliver(delivery("sub_1", "a", n))
		return len(calls(to, "/", "a")) > 1
	})
}

// Held behind what has just failed, an event is put on the same tier: there before
// it, it would come back before it, find it away, and follow it in short hops.
func TestWhatIsHeldGoesToTheTierBehindWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Hour)
	hold := make(chan struct{})
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if r.Path == "/witness" {
			return testenv.Response{}
		}
		return testenv.Response{Status: http.StatusInternalServerError, Hang: hold}
	})
	w.subscribe("sub_1", to.URL()+"/", ordered(schemas.OrderBooking))
	w.subscribe("sub_2", to.URL()+"/witness")
	w.work()
	w.deliver(delivery("sub_1", "a", 1), delivery("sub_1", "a", 2), delivery("sub_1", "a", 3), delivery("sub_2", "b", 1))
	testenv.Eventually(t, "what was written after them has come", func() bool { return len(calls(to, "/witness", "b")) == 1 })
	close(hold)
	for i, d := range read[schemas.Delivery](w, schemas.TierTopic(time.Hour), 3) {
		if d.Sequence != int64(i+1) {
			t.Errorf("the %d. on the tier is event %d", i+1, d.Sequence)
		}
	}
}

// A delivery whose turn under a rate limit has come, because the limit was lifted,
// is not away until that turn when it fails.
func TestATurnThatMeansNothingAnyMoreHoldsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 200*ms, time.Hour)
	to := testenv.Receiver(t, failingEvents(map[string]int{"/ evt_a_1": 1}))
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderBooking))
	w.work()
	w.move()
	first := delivery("sub_1", "a", 1)
	turn := schemas.Stamp(time.Now().Add(3 * time.Hour))
	first.TurnAt, first.Hop = &turn, 1
	w.deliver(first)
	w.attempts(1)
	w.deliver(delivery("sub_1", "a", 2))
	w.attempts(3)
	checkCalls(t, to, "/", "a", "1#1", "1#2", "2#1")
}
