package deliver_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/schemas"
)

func TestTestsOfAHangingEndpointEndWithTheirCallersPatience(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Hour)
	never := make(chan struct{})
	to := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Hang: never} })
	w.subscribe("sub_1", to.URL())
	ds := make([]schemas.Delivery, 100)
	for i := range ds {
		ds[i] = delivery("sub_1", "", int64(i))
		ds[i].Trigger, ds[i].EventType = schemas.TriggerTest, schemas.TestWebhook
	}
	w.work(func(o *deliver.Options) { o.Timeout = time.Second })
	w.deliver(ds...)
	classes := map[schemas.ErrorClass]int{}
	for _, a := range w.attempts(len(ds)) {
		classes[a.ErrorClass]++
		if !a.Final || a.Outcome != schemas.Dead {
			t.Errorf("%+v", a)
		}
	}
	// Eight at a time, a second each: after three seconds nobody waits.
	if n := to.Count(); n > 24 || classes[schemas.ErrorOutOfTime]+n != len(ds) {
		t.Errorf("%d requests, attempts by class: %v", n, classes)
	}
	w.settled(deliver.Group)
	if n := w.count(string(schemas.DeadLetters)); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	close(never)
}

func TestQueueIsBoundedWhereThereAreNoRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	held := make(chan struct{})
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if r.N == 0 {
			return testenv.Response{Status: http.StatusInternalServerError}
		}
		return testenv.Response{Hang: held}
	})
	w.subscribe("sub_1", to.URL())
	w.work(func(o *deliver.Options) { o.Timeout = 30 * time.Second })
	w.deliver(delivery("sub_1", "bkg_first", 1))
	w.attempts(1) // from here on it is known to fail
	ds := make([]schemas.Delivery, 1200)
	for i := range ds {
		ds[i] = delivery("sub_1", schemas.BookingID(fmt.Sprint("bkg_", i)), 1)
	}
	w.deliver(ds...)
	for _, d := range w.dead(100)[1:] {
		if d.DeadReason != string(schemas.ErrorOutOfTries) || d.Attempt != 0 {
			t.Errorf("%+v", d)
		}
	}
	if n := to.Count(); n > 9 {
		t.Errorf("%d requests were made", n)
	}
	close(held)
	w.attempts(1 + len(ds))
	w.settled(deliver.Group)
}

func TestFloodOfASlowEndpointDoesNotHoldItsPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Hour)
	slow := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		done := make(chan struct{})
		time.AfterFunc(700*ms, func() { close(done) })
		return testenv.Response{Hang: done}
	})
	quick := testenv.Receiver(t, nil)
	w.subscribe("sub_slow", slow.URL())
	w.subscribe("sub_quick", quick.URL())
	var ds []schemas.Delivery
	for i := range 4000 {
		ds = append(ds, delivery("sub_slow", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
	}
	w.deliver(append(ds, delivery("sub_quick", "bkg_1", 1))...)
	w.work()
	quick.Next(t)
	if n := slow.Count(); n > 500 {
		t.Errorf("the slow endpoint had %d of 4000 before the quick one had its own", n)
	}
}

func TestRetryAfterBuriesNothingHoweverOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 100*ms, 2*time.Second)
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if r.N == 0 {
			return testenv.Response{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1"}}}
		}
		return testenv.Response{}
	})
	w.subscribe("sub_1", to.URL())
	w.work()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	w.attempts(1)
	fresh, parked := delivery("sub_1", "bkg_2", 1), delivery("sub_1", "bkg_3", 1)
	parked.Hop = 2
	fresh.CreatedAt = fresh.CreatedAt.Add(-100 * time.Hour)
	parked.CreatedAt = fresh.CreatedAt
	w.deliver(fresh, parked)
	read[schemas.Delivery](w, schemas.TierTopic(2*time.Second), 3)
	w.move()
	for _, a := range w.attempts(4)[1:] {
		if a.Outcome != schemas.Delivered {
			t.Errorf("%+v", a)
		}
	}
	w.settled(deliver.Group, retry.Group)
}

func TestClosedLaneParksOnceBeforeItBuries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Minute)
	to := testenv.Receiver(t, failing(1<<20))
	w.subscribe("sub_1", to.URL())
	w.work()
	ds := make([]schemas.Delivery, 10)
	for i := range ds {
		ds[i] = delivery("sub_1", schemas.BookingID(fmt.Sprint("bkg_", i)), 1)
	}
	w.deliver(ds...)
	w.attempts(len(ds)) // the breaker is open for ten seconds
	fresh, parked := delivery("sub_1", "bkg_fresh", 1), delivery("sub_1", "bkg_parked", 1)
	parked.Hop = 2
	fresh.CreatedAt = fresh.CreatedAt.Add(-100 * time.Hour)
	parked.CreatedAt = fresh.CreatedAt
	w.deliver(fresh, parked)
	if d := w.dead(1)[0]; d.ID != parked.ID || d.DeadReason != string(schemas.ErrorOutOfTime) {
		t.Errorf("%+v", d)
	}
	on := read[schemas.Delivery](w, schemas.TierTopic(time.Minute), len(ds)+1)
	if d := on[len(ds)]; d.ID != fresh.ID || d.Hop != 1 || d.Attempt != 0 {
		t.Errorf("%+v", d)
	}
	w.settled(deliver.Group)
	if n := w.count(string(schemas.DeadLetters)); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

func TestOurFaultIsNotChargedAlsoWhereThereAreNoRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	to := testenv.Receiver(t, nil)
	w.subscribe("sub_1", to.URL(), func(s *schemas.Subscription) { s.Secrets[0].Sealed[20] ^= 1 })
	w.work()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	if a := w.attempts(1)[0]; a.ErrorClass != schemas.ErrorOurs || a.CountsForHealth() || !a.Final {
		t.Errorf("%+v", a)
	}
	if to.Count() != 0 {
		t.Error("it was sent")
	}
}

func TestOldSecretThatCannotBeOpenedDoesNotMatter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	to := testenv.Receiver(t, nil)
	w.subscribe("sub_1", to.URL(), func(s *schemas.Subscription) {
		expires := time.Now().Add(time.Hour)
		old := schemas.SealedSecret{Sealed: w.ring.Seal(secret, "another", "signing_secret"), CreatedAt: s.CreatedAt.Add(-time.Hour), ExpiresAt: &expires}
		s.Secrets = append(s.Secrets, old)
	})
	w.work()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	if a := w.attempts(1)[0]; a.Outcome != schemas.Delivered {
		t.Fatalf("%+v", a)
	}
	r := to.Next(t)
	if err := deliver.Verify(r.Header, r.Body, secret, time.Now()); err != nil {
		t.Error(err)
	}
}
