package deliver_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/schemas"
)

const ms = time.Millisecond

func TestDeliveryFollowsTheLadderUntilItIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 200*ms, 400*ms, 800*ms)
	to := testenv.Receiver(t, failing(2))
	w.subscribe("sub_1", to.URL()+"/hook")
	w.work()
	w.move()
	d := delivery("sub_1", "bkg_1", 1)
	r := w.record(d)
	trace := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: "traceparent", Value: []byte(trace)})
	w.produce(r)

	as := w.attempts(3)
	checkLadder(t, to.All(), d, trace)
	for i, want := range []schemas.Outcome{schemas.Retry, schemas.Retry, schemas.Delivered} {
		a := as[i]
		if a.Outcome != want || a.Number != i+1 || a.Final != (i == 2) || (a.NextAttemptAt != nil) != (i < 2) || !a.DeliveryCreatedAt.Equal(d.CreatedAt) {
			t.Errorf("attempt %d: %+v", i+1, a)
		}
		if want := map[bool]schemas.Trigger{true: schemas.TriggerEvent, false: schemas.TriggerRetry}[i == 0]; a.Trigger != want {
			t.Errorf("attempt %d has the trigger %s", i+1, a.Trigger)
		}
	}
	w.settled(deliver.Group, retry.Group)
	if n := to.Count(); n != 3 {
		t.Errorf("%d requests were made, want 3", n)
	}
}

// checkLadder looks at the three requests of one delivery, with an independent
// verifier of the signature.
func checkLadder(t *testing.T, got []testenv.Request, d schemas.Delivery, trace string) {
	t.Helper()
	if len(got) != 3 {
		t.Fatalf("%d requests came, want 3", len(got))
	}
	verifier, err := svix.NewWebhook(whsec)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range got {
		if err := verifier.Verify(r.Body, r.Header); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
		if err := deliver.Verify(r.Header, r.Body, secret, time.Now()); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
		if !bytes.Equal(r.Body, []byte(d.Payload)) {
			t.Errorf("request %d has the body %q", i, r.Body)
		}
		want := map[string]string{
			"webhook-id": string(d.EventID), "X-Webhook-ID": string(d.ID), "X-Webhook-Event": string(d.EventType),
			"X-Webhook-Attempt": strconv.Itoa(i + 1), "Authorization": "Bearer key of sub_1", "User-Agent": "Krib-AI-Webhook/1.0",
			"Content-Type": "application/json", "traceparent": trace, "X-Webhook-Timestamp": bodyTimestamp,
		}
		for k, v := range want {
			if r.Header.Get(k) != v {
				t.Errorf("request %d: %s is %q, want %q", i, k, r.Header.Get(k), v)
			}
		}
		if s := r.Header.Get("X-Webhook-Signature"); !strings.HasPrefix(s, "sha256=") || len(s) != 71 {
			t.Errorf("request %d: X-Webhook-Signature is %q", i, s)
		}
	}
	for i, tier := range []time.Duration{200 * ms, 400 * ms} {
		if gap := got[i+1].At.Sub(got[i].At); gap < tier {
			t.Errorf("attempt %d came %v after the one before, want at least %v", i+2, gap, tier)
		}
	}
}

func TestDeliveryThatAlwaysFailsEndsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 100*ms, 150*ms, 150*ms)
	to := testenv.Receiver(t, failing(1000))
	w.subscribe("sub_1", to.URL())
	w.work()
	w.move()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	dead := w.dead(1)[0]
	if dead.DeadReason != "exhausted" || dead.Attempt != 4 || dead.LastStatus != 500 {
		t.Errorf("the dead letter is %+v", dead)
	}
	as := w.attempts(4)
	if a := as[3]; !a.Final || a.Outcome != schemas.Dead || a.NextAttemptAt != nil || a.Status != 500 {
		t.Errorf("the last attempt is %+v", a)
	}
	w.settled(deliver.Group, retry.Group)
	if n := to.Count(); n != 4 {
		t.Errorf("%d requests were made, want 4", n)
	}
}

func TestHangingEndpointDoesNotStopOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 5*time.Second)
	held := make(chan struct{})
	hangs := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Hang: held} })
	well := testenv.Receiver(t, nil)
	for i := range 20 {
		w.subscribe(schemas.SubscriptionID(fmt.Sprintf("sub_hangs_%d", i)), hangs.URL())
	}
	w.subscribe("sub_well", well.URL())
	var ds []schemas.Delivery
	for i := range 20 * 20 {
		ds = append(ds, delivery(schemas.SubscriptionID(fmt.Sprintf("sub_hangs_%d", i%20)), schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
		if i%4 == 0 {
			ds = append(ds, delivery("sub_well", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
		}
	}
	w.deliver(ds...)
	w.work(func(o *deliver.Options) { o.MaxInFlight, o.Timeout = 32, 20*time.Second })
	for range 100 {
		well.Next(t)
	}
	if hangs.Count() == 0 {
		t.Error("nothing hung")
	}
	close(held)
}

// What waits for an endpoint that hangs passes behind a request that hangs: what
// comes back with every turn of the shortest tier fills the span that all of a
// partition share.
func TestWhatWaitsForAHangingEndpointPassesAFewTimesOnly(t *testing.T) {
	t.Parallel()
	const events, most = 200, 6
	w := newWorld(t, 1, time.Second, 3*time.Second, 20*time.Second)
	held := make(chan struct{})
	hangs := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Hang: held} })
	defer close(held)
	w.subscribe("sub_hangs", hangs.URL())
	var ds []schemas.Delivery
	for i := range events {
		ds = append(ds, delivery("sub_hangs", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
	}
	w.deliver(ds...)
	w.move()
	w.work(func(o *deliver.Options) { o.Timeout = 9 * time.Second })
	w.attempts(1) // it has timed out
	if n := w.count(string(schemas.Deliveries)); n > most*events {
		t.Errorf("%d events made %d records, want at most %d", events, n, most*events)
	}
}

// Behind a balancer of which one of two servers is broken, half of what is sent
// arrives: the breaker may slow that down, and must not bring it to a halt.
func TestAnEndpointThatFailsEveryOtherRequestGetsAllOfItsEvents(t *testing.T) {
	t.Parallel()
	const events = 60
	tiers := slices.Concat(slices.Repeat([]time.Duration{100 * ms}, 20), slices.Repeat([]time.Duration{300 * ms}, 20), []time.Duration{2 * time.Second})
	w := newWorld(t, 1, tiers...)
	var requests atomic.Int64
	to := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		if requests.Add(1)%2 == 0 {
			return testenv.Response{Status: http.StatusBadGateway}
		}
		return testenv.Response{}
	})
	w.subscribe("sub_1", to.URL())
	for n := range events {
		w.deliver(delivery("sub_1", schemas.BookingID(fmt.Sprint("bkg_", n)), 1))
	}
	w.move()
	w.work()
	delivered := func() (n int) {
		for _, a := range w.attempts(w.count(string(schemas.Attempts))) {
			if a.Outcome == schemas.Delivered {
				n++
			}
		}
		return n
	}
	testenv.Eventually(t, "every event is delivered", func() bool { return delivered() == events })
}

// One line for each change, whatever the number of probes in between.
func TestABreakerIsLoggedWithItsEndpointWhenItOpensAndWhenItCloses(t *testing.T) {
	t.Parallel()
	const events = 15
	w := newWorld(t, 1, slices.Repeat([]time.Duration{100 * ms}, 60)...)
	var broken atomic.Bool
	broken.Store(true)
	to := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		if broken.Load() {
			return testenv.Response{Status: http.StatusBadGateway}
		}
		return testenv.Response{}
	})
	w.subscribe("sub_1", to.URL()+"/services/hush?token=hush")
	w.subscribe("sub_well", to.URL()) // gets nothing, and no line
	for n := range events {
		w.deliver(delivery("sub_1", schemas.BookingID(fmt.Sprint("bkg_", n)), 1))
	}
	var log testenv.Output
	w.move()
	w.work(func(o *deliver.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	const opened, closed = "the circuit breaker of an endpoint has opened", "the circuit breaker of an endpoint has closed"
	testenv.Eventually(t, "the breaker's opening is logged", func() bool { return strings.Contains(log.String(), opened) })
	n := to.Count()
	testenv.Eventually(t, "two more probes fail", func() bool { return to.Count() >= n+2 })
	broken.Store(false)
	testenv.Eventually(t, "its closing is logged", func() bool { return strings.Contains(log.String(), closed) })
	text := log.String()
	if strings.Count(text, opened) != 1 || strings.Count(text, closed) != 1 {
		t.Errorf("not one line for each change:\n%s", text)
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "circuit breaker") && (!strings.Contains(line, "subscription_id=sub_1") || !strings.Contains(line, "agent_id=agent_1") ||
			!strings.Contains(line, "endpoint="+to.URL())) || strings.Contains(line, "hush") {
			t.Errorf("the line is %s", line)
		}
	}
}

func TestParkedRecordIsNotARepeatWhenItReturns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 100*ms, 2*time.Second, time.Minute)
	busy := func(r testenv.Request) testenv.Response {
		if r.N == 0 {
			return testenv.Response{Status: 503, Header: http.Header{"Retry-After": {"1"}}}
		}
		return testenv.Response{}
	}
	to := testenv.Receiver(t, busy)
	w.subscribe("sub_1", to.URL())
	w.work()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	w.attempts(1) // the lane is shut before its record is written
	w.deliver(delivery("sub_1", "bkg_2", 1), delivery("sub_1", "bkg_2", 2))
	parked := read[schemas.Delivery](w, schemas.TierTopic(2*time.Second), 3)[1:]
	for _, d := range parked {
		if d.Attempt != 0 || d.Hop != 1 || d.Trigger != schemas.TriggerEvent {
			t.Errorf("parked as %+v", d)
		}
	}
	w.move()
	as := w.attempts(4)
	for _, a := range as[1:] {
		if a.Outcome != schemas.Delivered {
			t.Errorf("%+v", a)
		}
	}
	w.settled(deliver.Group, retry.Group)
	var order []string
	for _, r := range to.All() {
		order = append(order, r.Header.Get("webhook-id")+"#"+r.Header.Get("X-Webhook-Attempt"))
	}
	if len(order) != 4 || !before(order, "evt_bkg_2_1#1", "evt_bkg_2_2#1") {
		t.Errorf("requests: %v", order)
	}
}

func before(all []string, a, b string) bool {
	i, j := -1, -1
	for n, s := range all {
		if s == a {
			i = n
		}
		if s == b {
			j = n
		}
	}
	return i >= 0 && i < j
}

func TestRecordThatComesTwiceIsSentOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 5*time.Second)
	to := testenv.Receiver(t, nil)
	w.subscribe("sub_1", to.URL())
	d := delivery("sub_1", "bkg_1", 1)
	w.deliver(d, d)
	w.work()
	w.attempts(1)
	w.deliver(d)
	w.settled(deliver.Group)
	if n := to.Count(); n != 1 {
		t.Errorf("%d requests were made, want 1", n)
	}
}

func TestUndecodableRecordGoesToPoisonAndTheRestFlows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 5*time.Second)
	to := testenv.Receiver(t, nil)
	w.produce(&kgo.Record{Topic: string(schemas.Subscriptions), Key: []byte("sub_0"), Value: []byte("[]")})
	w.subscribe("sub_1", to.URL())
	big := bytes.Repeat([]byte("x"), 900<<10) // its poison would be over the broker's bound if it were whole
	w.produce(
		&kgo.Record{Topic: string(schemas.Deliveries), Key: []byte("sub_1"), Value: []byte(`{"id":`)},
		&kgo.Record{Topic: string(schemas.Deliveries), Key: []byte("sub_1"), Value: big},
		&kgo.Record{Topic: string(schemas.Deliveries), Value: []byte(`{}`)},
	)
	w.deliver(delivery("sub_1", "bkg_1", 1))
	w.work()
	to.Next(t)
	w.settled(deliver.Group)
	ps := read[schemas.Poison](w, string(schemas.PoisonRecords), 4)
	for _, p := range ps {
		if p.Reader != deliver.Group || p.Error == "" {
			t.Errorf("poison: reader %s, error %q", p.Reader, p.Error)
		}
	}
}

func TestSubscriptionThatIsOffGetsNothingButTests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 5*time.Second)
	to := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Status: 500} })
	w.subscribe("sub_off", to.URL(), func(s *schemas.Subscription) { s.Active, s.DisabledReason = false, schemas.DisabledByOwner })
	w.subscribe("sub_gone", to.URL())
	w.produce(&kgo.Record{Topic: string(schemas.Subscriptions), Key: []byte("sub_gone")})
	w.work()
	w.deliver(delivery("sub_off", "bkg_1", 1), delivery("sub_gone", "bkg_1", 1), delivery("sub_never", "bkg_1", 1))
	got := map[schemas.SubscriptionID]schemas.Attempt{}
	for _, a := range w.attempts(3) {
		got[a.SubscriptionID] = a
	}
	for id, class := range map[schemas.SubscriptionID]schemas.ErrorClass{
		"sub_off": schemas.ErrorDisabled, "sub_gone": schemas.ErrorDeleted, "sub_never": schemas.ErrorDeleted,
	} {
		if a := got[id]; a.Outcome != schemas.Withheld || a.ErrorClass != class || !a.Final || a.Number != 1 {
			t.Errorf("%s: %+v", id, a)
		}
	}
	d := delivery("sub_off", "", 0)
	d.Trigger, d.EventType = schemas.TriggerTest, schemas.TestWebhook
	w.deliver(d)
	to.Next(t)
	w.settled(deliver.Group)
	a := w.attempts(4)
	for _, a := range a {
		if a.Trigger == schemas.TriggerTest && (a.Outcome != schemas.Dead || !a.Final || a.Status != 500) {
			t.Errorf("the test's attempt is %+v", a)
		}
	}
	if n := w.count(string(schemas.DeadLetters)); n != 0 || to.Count() != 1 {
		t.Errorf("%d dead letters and %d requests", n, to.Count())
	}
}

func TestSecretThatCannotBeOpenedIsNotCharged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 100*ms, time.Minute)
	to := testenv.Receiver(t, nil)
	w.subscribe("sub_1", to.URL(), func(s *schemas.Subscription) { s.Secrets[0].Sealed[20] ^= 1 })
	w.work()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	d := read[schemas.Delivery](w, schemas.TierTopic(time.Minute), 1)[0]
	if d.Attempt != 0 || d.Hop != 1 {
		t.Errorf("parked as %+v", d)
	}
	w.settled(deliver.Group)
	if to.Count() != 0 || w.count(string(schemas.Attempts)) != 0 {
		t.Error("it was sent or charged")
	}
}

func TestEveryLiveSecretSigns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	to := testenv.Receiver(t, nil)
	older, expired := bytes.Repeat([]byte("o"), 32), bytes.Repeat([]byte("e"), 32)
	w.subscribe("sub_1", to.URL(), func(s *schemas.Subscription) {
		add := func(key []byte, age time.Duration, expires time.Time) {
			s.Secrets = append([]schemas.SealedSecret{{
				Sealed: w.ring.Seal(key, "sub_1", "signing_secret"), CreatedAt: s.CreatedAt.Add(-age), ExpiresAt: &expires,
			}}, s.Secrets...)
		}
		add(older, time.Hour, time.Now().Add(time.Hour))
		add(expired, 2*time.Hour, time.Now().Add(-time.Minute))
	})
	w.work()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	r := to.Next(t)
	if n := len(strings.Fields(r.Header.Get("webhook-signature"))); n != 2 {
		t.Errorf("%d signatures, want 2", n)
	}
	for _, key := range [][]byte{secret, older} {
		if err := deliver.Verify(r.Header, r.Body, key, time.Now()); err != nil {
			t.Error(err)
		}
	}
	if err := deliver.Verify(r.Header, r.Body, expired, time.Now()); err == nil {
		t.Error("an expired secret signed")
	}
}

func TestEventsOfABookingAreSentInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 5*time.Second)
	var (
		mu       sync.Mutex
		inFlight = map[string]int{}
		last     = map[string]int{}
	)
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		id := r.Header.Get("webhook-id")
		booking, n, _ := strings.Cut(strings.TrimPrefix(id, "evt_bkg"), "_")
		sequence, _ := strconv.Atoi(n)
		mu.Lock()
		if inFlight[booking]++; inFlight[booking] > 1 {
			t.Errorf("two requests of booking %s overlap", booking)
		}
		if last[booking]+1 != sequence {
			t.Errorf("booking %s: %d came after %d", booking, sequence, last[booking])
		}
		last[booking] = sequence
		mu.Unlock()
		done := make(chan struct{})
		time.AfterFunc(time.Duration(sequence%3)*5*ms, func() {
			mu.Lock()
			inFlight[booking]--
			mu.Unlock()
			close(done)
		})
		return testenv.Response{Hang: done}
	})
	w.subscribe("sub_1", to.URL())
	var ds []schemas.Delivery
	for s := range 20 {
		for b := range 5 {
			ds = append(ds, delivery("sub_1", schemas.BookingID(fmt.Sprintf("bkg%d", b)), int64(s+1)))
		}
	}
	w.deliver(ds...)
	w.work()
	w.attempts(100)
}

// A worker that is killed before its commit has told the topic of attempts what was
// taken; what failed may lack the record that follows it, so it is tried once more.
func TestARestartAsksAgainForWhatFailedAndNotForWhatWasTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 5*time.Second)
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if strings.HasSuffix(r.Header.Get("webhook-id"), "5_1") {
			return testenv.Response{Status: http.StatusInternalServerError}
		}
		return testenv.Response{}
	})
	w.subscribe("sub_1", to.URL(), ordered(schemas.OrderBooking))
	for i := range 50 {
		w.deliver(delivery("sub_1", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
	}
	stop := w.work()
	w.attempts(50)
	stop()
	w.rewind(deliver.Group, string(schemas.Deliveries)) // what a kill before the commit leaves behind
	w.deliver(delivery("sub_1", "bkg_new", 1))
	w.work()
	w.settled(deliver.Group)
	counts := map[string]int{}
	for _, r := range to.All() {
		counts[r.Header.Get("webhook-id")]++
	}
	for event, n := range counts {
		want := 1
		if strings.HasSuffix(event, "5_1") {
			want = 2
		}
		if n != want {
			t.Errorf("%s came %d times, want %d", event, n, want)
		}
	}
	if len(counts) != 51 {
		t.Errorf("%d of 51 events came", len(counts))
	}
}

// A delivery has several records, of which any may come again.
func TestWhatWasTakenAtTheSecondAttemptIsNotSentAgain(t *testing.T) {
	t.Parallel()
	const events = 8
	w := newWorld(t, 1, 100*ms)
	to := testenv.Receiver(t, failing(1))
	w.subscribe("sub_1", to.URL())
	for i := range events {
		w.deliver(delivery("sub_1", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
	}
	w.move()
	stop := w.work()
	w.attempts(2 * events)
	stop()
	w.rewind(deliver.Group, string(schemas.Deliveries))
	w.deliver(delivery("sub_1", "bkg_new", 1))
	w.work()
	w.attempts(2*events + 2)
	w.settled(deliver.Group, retry.Group)
	if n := to.Count(); n != 2*events+2 {
		t.Errorf("%d requests for %d events that failed once", n, events+1)
	}
}

func TestRebalanceDuringFlightLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6, 300*ms, 600*ms)
	var mu sync.Mutex
	hung := map[string]bool{}
	never := make(chan struct{})
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		mu.Lock()
		defer mu.Unlock()
		// The first request of every tenth event outlives the drain of a leaving
		// partition; its next owner makes it again.
		if id := r.Header.Get("webhook-id"); strings.HasSuffix(id, "0_1") && !hung[id] {
			hung[id] = true
			return testenv.Response{Hang: never}
		}
		return testenv.Response{}
	})
	var ds []schemas.Delivery
	for i := range 12 {
		w.subscribe(schemas.SubscriptionID(fmt.Sprint("sub_", i)), to.URL())
	}
	for i := range 300 {
		ds = append(ds, delivery(schemas.SubscriptionID(fmt.Sprint("sub_", i%12)), schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
	}
	w.deliver(ds[:150]...)
	stop := w.work(func(o *deliver.Options) { o.Timeout = 30 * time.Second })
	to.Next(t)
	w.work(func(o *deliver.Options) { o.Timeout = 30 * time.Second })
	w.move()
	w.deliver(ds[150:]...)
	stop()
	close(never) // those of the second worker may end
	delivered := map[schemas.DeliveryID]bool{}
	testenv.Eventually(t, "every delivery is taken", func() bool {
		for _, a := range w.attempts(w.count(string(schemas.Attempts))) {
			if a.Outcome == schemas.Delivered {
				delivered[a.DeliveryID] = true
			}
		}
		return len(delivered) == 300
	})
	w.settled(deliver.Group, retry.Group)
}

func TestWriterRefusesARecordThatNoTopicTakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1) // no tiers
	to := testenv.Receiver(t, failing(1))
	w.subscribe("sub_1", to.URL())
	// The worker believes in a ladder whose topic is not there yet.
	w.work(func(o *deliver.Options) { o.Ladder = schemas.Ladder{100 * ms} })
	w.move()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	w.attempts(1)
	topics := schemas.Topics(schemas.TopicOptions{Partitions: 1, ReplayWindow: time.Hour, Ladder: schemas.Ladder{100 * ms}})
	if err := kafka.CreateTopics(t.Context(), w.cl, topics); err != nil {
		t.Fatal(err)
	}
	as := w.attempts(2)
	if as[1].Outcome != schemas.Delivered {
		t.Errorf("%+v", as[1])
	}
}
