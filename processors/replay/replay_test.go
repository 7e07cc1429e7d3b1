package replay_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/replay"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// The same event, the same delivery, the same body: as if it had been subscribed
// all the time.
func TestASubscriptionMadeTodayGetsWhatHappenedBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	es := history(30)
	foreign := event(90, 1, schemas.BookingCreated)
	foreign.Booking.AgentID = "agent_2"
	unwanted, muted := event(91, 1, schemas.BookingCancelled), event(92, 1, schemas.BookingCreated)
	muted.HostWebhooks = false // its host has switched webhooks off
	w.past(append(es, foreign, unwanted, muted)...)
	endpoint := testenv.Receiver(t, nil)
	id := w.subscribe(endpoint.URL())
	w.run()
	job := w.ends(w.start(id, schemas.ReplayRange{}), schemas.ReplayDone)
	if d := cmp.Diff(ids(es, eventID), ids(endpoint.All(), requestID)); d != "" {
		t.Errorf("what arrived is not what happened:\n%s", d)
	}
	if p := job.Progress; p.Matched != 60 || p.Produced != 60 || p.Ended[schemas.Delivered] != 60 || p.Read() != 1 {
		t.Errorf("progress %+v", p)
	}
	last := map[string]int{}
	for _, r := range endpoint.All() {
		body, err := schemas.Decode[schemas.WebhookBody](r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if n := int(body.Sequence); n != last[*body.BookingID]+1 {
			t.Errorf("event %d of %s came after %d", n, *body.BookingID, last[*body.BookingID])
		}
		last[*body.BookingID] = int(body.Sequence)
	}
	for _, d := range w.sent(job) {
		if d.ID != schemas.DeliveryFor(d.EventID, id) || d.Trigger != schemas.TriggerReplay || d.Attempt != 0 || d.AgentID != agent {
			t.Fatalf("%+v", d)
		}
	}
	// What happens from now on comes by itself, with the same body as a replay's.
	live := event(93, 1, schemas.BookingCreated)
	w.happen(live)
	testenv.Eventually(t, "the live event arrives", func() bool { return endpoint.Count() == 61 })
	w.ends(w.start(id, schemas.ReplayRange{BookingID: live.Booking.ID}), schemas.ReplayDone)
	all := endpoint.All()
	if len(all) != 62 || string(all[60].Body) != string(all[61].Body) || requestID(all[60]) != requestID(all[61]) {
		t.Errorf("the replay of\n%s is\n%s", all[60].Body, all[61].Body)
	}
}

func TestAReplayIsOfATimeABookingOrTypesAndADryRunCountsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	es := history(40)
	w.past(es...)
	endpoint := testenv.Receiver(t, nil)
	id := w.subscribe(endpoint.URL())
	w.run()
	at := func(b int) *time.Time { return new(noon.Add(time.Duration(b) * time.Second)) }
	for name, c := range map[string]struct {
		r    schemas.ReplayRange
		want func(*schemas.Event) bool
	}{
		"since":   {schemas.ReplayRange{Since: at(30)}, func(e *schemas.Event) bool { return !e.OccurredAt.Before(*at(30)) }},
		"between": {schemas.ReplayRange{Since: at(10), Until: at(12)}, func(e *schemas.Event) bool { return e.Booking.ID == "bkg_10" || e.Booking.ID == "bkg_11" }},
		"booking": {schemas.ReplayRange{BookingID: "bkg_7"}, func(e *schemas.Event) bool { return e.Booking.ID == "bkg_7" }},
		"type":    {schemas.ReplayRange{EventTypes: []schemas.EventType{schemas.BookingConfirmed}}, func(e *schemas.Event) bool { return e.Type == schemas.BookingConfirmed }},
		"nothing": {schemas.ReplayRange{BookingID: "bkg_none"}, func(*schemas.Event) bool { return false }},
	} {
		want := ids(slices.DeleteFunc(slices.Clone(es), func(e *schemas.Event) bool { return !c.want(e) }), eventID)
		before := endpoint.Count()
		dry := w.ends(w.begin(id, producers.NewReplay{Range: c.r, DryRun: true}), schemas.ReplayDone)
		if n := endpoint.Count() - before; n != 0 || dry.Progress.Produced != 0 {
			t.Errorf("%s: a dry run sent %d", name, n)
		}
		w.ends(w.start(id, c.r), schemas.ReplayDone)
		got := ids(endpoint.All()[before:], requestID)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
		if int(dry.Progress.Matched) != len(got) {
			t.Errorf("%s: the dry run counted %d, and %d arrived", name, dry.Progress.Matched, len(got))
		}
	}
}

// Dead, delivered, withheld and under way: only what has ended badly is sent again.
func TestOnlyWhatFailedIsSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var broken atomic.Bool
	endpoint := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if broken.Load() && strings.HasSuffix(requestID(r), "_1") {
			return testenv.Response{Status: http.StatusInternalServerError}
		}
		return testenv.Response{}
	})
	id := w.subscribe(endpoint.URL())
	w.run()
	broken.Store(true)
	w.happen(history(2)...) // each booking's first event becomes a dead letter
	testenv.Eventually(t, "two are dead and two delivered", func() bool {
		return w.count(`select count(*) from webhook_attempts where final and outcome = 'dead'`) == 2 && w.count(`select count(*) from webhook_attempts where outcome = 'delivered'`) == 2
	})
	broken.Store(false)
	w.toggle(id)
	withheld := w.withheld()
	w.toggle(id)
	before := endpoint.Count()
	dry := w.ends(w.begin(id, producers.NewReplay{DryRun: true, Range: schemas.ReplayRange{OnlyFailed: true}}), schemas.ReplayDone)
	job, err := w.p.RetryFailed(t.Context(), mine, nil, id, noon, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.ends(job, schemas.ReplayDone)
	want := []string{"evt_0_1", "evt_1_1", withheld}
	if d := cmp.Diff(want, ids(endpoint.All()[before:], requestID)); d != "" || dry.Progress.Matched != 3 {
		t.Errorf("the dry run counted %d; sent again:\n%s", dry.Progress.Matched, d)
	}
	if again := w.ends(w.start(id, schemas.ReplayRange{OnlyFailed: true}), schemas.ReplayDone); again.Progress.Matched != 0 {
		t.Errorf("%d are sent again that were delivered now", again.Progress.Matched)
	}
}

// A subscription is disabled, its endpoint is mended and it is enabled again, and
// at once what it missed is asked for, while the word of that is still on its way
// to the log of attempts.
func TestWhatADisabledSubscriptionMissedIsMadeUpForExactlyOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	endpoint := testenv.Receiver(t, nil)
	id := w.subscribe(endpoint.URL())
	w.run()
	young := func(b int) *schemas.Event {
		e := event(b, 1, schemas.BookingCreated)
		e.OccurredAt = schemas.Stamp(time.Now())
		return e
	}
	var all []*schemas.Event
	for i := range 3 {
		before := young(10*i + 1)
		w.happen(before)
		testenv.Eventually(t, "what happens before arrives", func() bool {
			return slices.Contains(ids(endpoint.All(), requestID), string(before.ID))
		})
		since := schemas.Stamp(time.Now())
		w.toggle(id)
		w.published()
		all = append(all, before)
		var missed []*schemas.Event
		for n := range 5 {
			missed = append(missed, young(10*i+2+n))
		}
		w.happen(missed...)
		w.fannedOut()
		testenv.Eventually(t, "the gap has ended, withheld but for what overtook the word", func() bool {
			return w.count(`select count(distinct event_id) from webhook_attempts where final`) == 6*(i+1)
		})
		all = append(all, missed...)
		w.toggle(id)
		job, err := w.p.RetryFailed(t.Context(), mine, nil, id, since, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.ends(job, schemas.ReplayDone)
	}
	if d := cmp.Diff(ids(all, eventID), ids(endpoint.All(), requestID)); d != "" {
		t.Errorf("not each exactly once:\n%s", d)
	}
}

// What of it is on its way when the replay begins is waited for.
func TestWhatIsOnItsWayToTheLogOfAttemptsIsNotPassedOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	endpoint := testenv.Receiver(t, nil)
	id := w.subscribe(endpoint.URL())
	e := event(1, 1, schemas.BookingCreated)
	e.OccurredAt = schemas.Stamp(time.Now())
	looks := make(chan struct{}, 100)
	w.run(func(o *replay.Options) { o.Jobs = watched{w.jobs, looks} })
	// It is in the log, and nothing is known of it: a lane may hold it back.
	block := w.lockAttempts()
	w.toggle(id)
	w.published()
	w.happen(e)
	w.fannedOut()
	w.toggle(id)
	job, err := w.p.RetryFailed(t.Context(), mine, nil, id, e.OccurredAt, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-looks // it has looked and found nothing
	<-looks
	block()
	job = w.ends(job, schemas.ReplayDone)
	switch n := w.count(`select count(*) from webhook_attempts where outcome = 'withheld'`); {
	case n == 1 && job.Progress.Ended[schemas.Delivered] != 1:
		t.Errorf("it was withheld and not sent again: %+v", job.Progress)
	case n == 0 && endpoint.Count() != 1:
		t.Errorf("it was sent %d times", endpoint.Count())
	}
}

// watched tells of each look at the attempts.
type watched struct {
	replay.Jobs
	looks chan struct{}
}

func (j watched) LastAttempts(ctx context.Context, sub schemas.SubscriptionID, ids []schemas.DeliveryID) (map[schemas.DeliveryID]schemas.Attempt, error) {
	defer func() { j.looks <- struct{}{} }()
	return j.Jobs.LastAttempts(ctx, sub, ids)
}

func TestACancelledReplayStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.past(history(200)...)
	hold := newGate()
	t.Cleanup(hold.open)
	endpoint := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Hang: hold.c} })
	id := w.subscribe(endpoint.URL())
	w.run(func(o *replay.Options) { o.Window = 20 })
	job := w.start(id, schemas.ReplayRange{})
	testenv.Eventually(t, "its window is full", func() bool { return w.read(job).Progress.Produced == 20 })
	got, err := w.p.CancelReplay(t.Context(), mine, id, job.ID)
	if err != nil || got.State != schemas.ReplayCancelled || got.FinishedAt == nil {
		t.Errorf("cancelled: %+v, %v", got, err)
	}
	hold.open()
	w.ends(job, schemas.ReplayCancelled)
	// The next one begins when the cancelled one is out of its way, and is all there is.
	next := w.ends(w.start(id, schemas.ReplayRange{BookingID: "bkg_1"}), schemas.ReplayDone)
	if n := len(w.sent(job)); n != 20 || next.Progress.Produced != 2 || endpoint.Count() != 22 {
		t.Errorf("%d were sent, and %d of the next; %d arrived", n, next.Progress.Produced, endpoint.Count())
	}
}

// mortal is how a runner sees its jobs that is killed before its nth save: from
// then on nothing is saved, ended or given back.
type mortal struct {
	replay.Jobs
	saves *atomic.Int64
	dead  chan struct{}
	once  *sync.Once
}

var errKilled = errors.New("killed")

func (m mortal) Save(ctx context.Context, r *schemas.Replay, owner string, lease time.Duration) (*schemas.Subscription, error) {
	if m.saves.Add(-1) < 0 {
		m.once.Do(func() { close(m.dead) })
		return nil, errKilled
	}
	return m.Jobs.Save(ctx, r, owner, lease)
}

func (m mortal) Take(ctx context.Context, owner string, lease time.Duration) (*schemas.Replay, error) {
	if m.saves.Load() < 0 {
		return nil, errKilled
	}
	return m.Jobs.Take(ctx, owner, lease)
}

func (m mortal) Release(context.Context, *schemas.Replay, string, time.Duration) error {
	return errKilled
}

func (m mortal) Finish(ctx context.Context, r *schemas.Replay, owner string, s schemas.ReplayState, why schemas.ReplayReason) error {
	if m.saves.Load() < 0 {
		return errKilled
	}
	return m.Jobs.Finish(ctx, r, owner, s, why)
}

// Runners die with what they have produced unsaved, one after the other; each next
// one waits for the lease and goes on.
func TestAReplaySurvivesItsRunners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	es := history(150)
	w.past(es...)
	endpoint := testenv.Receiver(t, nil)
	id := w.subscribe(endpoint.URL())
	const window = 25
	job := w.start(id, schemas.ReplayRange{})
	var kills int
	for _, after := range []int64{0, 1, 2, 3, 5, 2, 4} {
		m := mortal{w.jobs, new(atomic.Int64), make(chan struct{}), new(sync.Once)}
		m.saves.Store(after)
		stop := w.run(func(o *replay.Options) {
			o.Window, o.Jobs, o.Lease, o.Slice = window, m, 300*time.Millisecond, time.Minute
		})
		testenv.Eventually(t, "the runner dies or ends the job", func() bool {
			select {
			case <-m.dead:
				kills++
				return true
			default:
				return w.read(job).State.Ended()
			}
		})
		stop()
	}
	if kills < 5 {
		t.Errorf("%d runners died: the test would show little", kills)
	}
	w.run(func(o *replay.Options) { o.Window = window })
	job = w.ends(job, schemas.ReplayDone)
	sent := w.sent(job)
	distinct := slices.Compact(ids(sent, deliveredID))
	if d := cmp.Diff(ids(es, eventID), distinct); d != "" {
		t.Errorf("what was sent is not what happened:\n%s", d)
	}
	if repeated := len(sent) - len(distinct); repeated > kills*window {
		t.Errorf("%d were repeated by %d kills, more than %d each", repeated, kills, window)
	}
	if d := cmp.Diff(ids(es, eventID), slices.Compact(ids(endpoint.All(), requestID))); d != "" {
		t.Errorf("what arrived is not what happened:\n%s", d)
	}
	if job.Progress.Produced != 300 || job.Progress.Matched != 300 || job.Progress.Ended[schemas.Delivered] != 300 {
		t.Errorf("progress %+v", job.Progress)
	}
	// A repetition is the same record, so its attempt is the same row.
	if n := w.count(`select count(*) from webhook_attempts where run = $1`, job.Run); n != 300 {
		t.Errorf("%d attempts of 300 deliveries", n)
	}
}

// A runner that is asked to stop saves what it has produced: the next one repeats
// nothing.
func TestARunnerThatIsStoppedRepeatsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	es := history(150)
	w.past(es...)
	endpoint := testenv.Receiver(t, nil)
	id := w.subscribe(endpoint.URL())
	job := w.start(id, schemas.ReplayRange{})
	for n := int64(0); n < 250; n = w.read(job).Progress.Produced {
		stop := w.run(func(o *replay.Options) { o.Window = 20 })
		testenv.Eventually(t, "it sends some", func() bool { return w.read(job).Progress.Produced > n })
		stop()
	}
	w.run()
	job = w.ends(job, schemas.ReplayDone)
	if d := cmp.Diff(ids(es, eventID), ids(w.sent(job), deliveredID)); d != "" {
		t.Errorf("not each once:\n%s", d)
	}
}

// Many replays, of one subscription and of others, and three runners: each is done
// by one at a time, and those of a subscription one after the other.
func TestManyRunnersShareTheReplays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	es := history(40)
	w.past(es...)
	var jobs []schemas.Replay
	for i := range 3 {
		id := w.subscribe(testenv.Receiver(t, nil).URL(), schemas.BookingCreated, schemas.BookingConfirmed)
		for range i + 1 {
			jobs = append(jobs, w.start(id, schemas.ReplayRange{}))
		}
	}
	for range 3 {
		w.run(func(o *replay.Options) { o.Window, o.Slice, o.Parallel = 10, 100*time.Millisecond, 2 })
	}
	for _, job := range jobs {
		job = w.ends(job, schemas.ReplayDone)
		if d := cmp.Diff(ids(es, eventID), ids(w.sent(job), deliveredID)); d != "" {
			t.Errorf("%s:\n%s", job.ID, d)
		}
	}
	if n := w.count(`
		select count(*) from webhook_replays a join webhook_replays b on a.subscription_id = b.subscription_id and a.run < b.run
		where b.started_at < a.finished_at`); n != 0 {
		t.Errorf("%d replays began before the one before them to the same subscription had ended", n)
	}
}

// Two thousand events are replayed to an endpoint that holds every request. What
// happens meanwhile reaches others at once; and at the endpoint itself it has no
// more before it than may be on the way.
func TestLiveEventsAreNotHeldUpByAReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const window = 100
	es := history(1000)
	w.past(es...)
	hold := newGate()
	t.Cleanup(hold.open)
	var arrived atomic.Int64
	replayed := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		if arrived.Add(1) > 300 {
			return testenv.Response{Hang: hold.c}
		}
		return testenv.Response{}
	})
	other := testenv.Receiver(t, nil)
	id := w.subscribe(replayed.URL())
	w.subscribe(other.URL(), schemas.BookingCreated)
	w.run(func(o *replay.Options) { o.Window = window })
	job := w.start(id, schemas.ReplayRange{})
	testenv.Eventually(t, "the endpoint holds and its window is full", func() bool {
		p := w.read(job).Progress
		return arrived.Load() > 300 && len(p.Waiting) > window*3/4
	})
	live := event(1500, 1, schemas.BookingCreated)
	w.happen(live)
	if got := requestID(other.Next(t)); got != string(live.ID) {
		t.Errorf("the other subscription got %s", got)
	}
	produced := w.read(job).Progress.Produced
	if produced > arrived.Load()+window {
		t.Errorf("%d were produced when %d had arrived", produced, arrived.Load())
	}
	hold.open()
	job = w.ends(job, schemas.ReplayDone)
	all := ids(replayed.All(), requestID)
	if d := cmp.Diff(ids(append(es, live), eventID), all); d != "" {
		t.Errorf("not everything arrived once:\n%s", d)
	}
	at := slices.IndexFunc(replayed.All(), func(r testenv.Request) bool { return requestID(r) == string(live.ID) })
	// All before it on the topic were produced before it; those that were in work when
	// it came may be some more.
	if at > int(produced)+window {
		t.Errorf("the live event was number %d at its endpoint, and %d had been produced before it", at, produced)
	}
	if job.Progress.Produced != 2000 {
		t.Errorf("progress %+v", job.Progress)
	}
}

// A window is ten seconds of what its endpoint takes, where that is less.
func TestAnEndpointThatWantsItSlowlyHasASmallerWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.past(history(20)...)
	hold := newGate()
	t.Cleanup(hold.open)
	endpoint := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Hang: hold.c} })
	id := w.subscribe(endpoint.URL())
	w.exec(`update webhook_subscriptions set rate_limit_per_minute = 60`)
	w.run()
	job := w.start(id, schemas.ReplayRange{})
	testenv.Eventually(t, "something is on its way", func() bool { return w.read(job).Progress.Produced > 0 })
	if n := w.read(job).Progress.Produced; n != 10 {
		t.Errorf("%d are on their way at once", n)
	}
	hold.open()
	w.ends(job, schemas.ReplayDone)
}

func TestOneDeliveryIsSentAgainWhateverBecameOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	endpoint := testenv.Receiver(t, nil)
	id := w.subscribe(endpoint.URL())
	e := event(1, 1, schemas.BookingCreated)
	w.happen(e, event(1, 2, schemas.BookingConfirmed), event(2, 1, schemas.BookingCreated))
	testenv.Eventually(t, "three are delivered", func() bool { return w.count(`select count(*) from webhook_attempts`) == 3 })
	w.run()
	// It was asked for when it was made; that it is not any more changes nothing.
	_, err := w.p.UpdateSubscription(t.Context(), mine, id, producers.NewSubscription{
		AgentName: "Test", URL: endpoint.URL(), Events: []schemas.EventType{schemas.BookingCancelled}, APIKey: "agents-own-key",
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		job, err := w.p.RetryDelivery(t.Context(), mine, nil, id, schemas.DeliveryFor(e.ID, id))
		if err != nil {
			t.Fatal(err)
		}
		if job = w.ends(job, schemas.ReplayDone); job.Progress.Ended[schemas.Delivered] != 1 {
			t.Errorf("progress %+v", job.Progress)
		}
	}
	all := endpoint.All()
	if len(all) != 5 || requestID(all[3]) != string(e.ID) || requestID(all[4]) != string(e.ID) {
		t.Errorf("got %v", ids(all, requestID))
	}
	if n := w.count(`select count(distinct run) from webhook_attempts where event_id = $1 and trigger = 'manual' and number = 1`, e.ID); n != 2 {
		t.Errorf("%d runs", n)
	}
}

func TestADeliveryWhoseEventIsNoLongerInTheLogFailsWithTheReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.subscribe(testenv.Receiver(t, nil).URL())
	e := event(1, 1, schemas.BookingCreated)
	w.happen(e)
	testenv.Eventually(t, "it is delivered", func() bool { return w.count(`select count(*) from webhook_attempts`) == 1 })
	w.exec(`update webhook_attempts set delivery_id = 'dlv_gone', run = 0`)
	w.run()
	job, err := w.p.RetryDelivery(t.Context(), mine, nil, id, "dlv_gone")
	if err != nil {
		t.Fatal(err)
	}
	if job = w.ends(job, schemas.ReplayFailed); job.Reason != schemas.ReplayEventGone {
		t.Errorf("reason %s", job.Reason)
	}
}

func TestAReplayEndsWhenItsSubscriptionIsSwitchedOffOrDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.past(history(100)...)
	hold := newGate()
	t.Cleanup(hold.open)
	endpoint := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Hang: hold.c} })
	w.run(func(o *replay.Options) { o.Window = 10 })
	id := w.subscribe(endpoint.URL())
	job := w.start(id, schemas.ReplayRange{})
	testenv.Eventually(t, "it is under way", func() bool { return w.read(job).Progress.Produced == 10 })
	w.toggle(id)
	testenv.Eventually(t, "it fails", func() bool { return w.read(job).State.Ended() })
	if job = w.read(job); job.State != schemas.ReplayFailed || job.Reason != schemas.ReplayDisabled {
		t.Errorf("it is %s, %s", job.State, job.Reason)
	}
	w.toggle(id)
	job = w.start(id, schemas.ReplayRange{})
	testenv.Eventually(t, "the next is under way", func() bool { return w.read(job).Progress.Produced == 10 })
	if _, err := w.p.DeleteSubscription(t.Context(), mine, id); err != nil {
		t.Fatal(err)
	}
	hold.open()
	another := w.subscribe(endpoint.URL())
	w.ends(w.start(another, schemas.ReplayRange{BookingID: "bkg_1"}), schemas.ReplayDone)
	if n := w.count(`select count(*) from webhook_replays where subscription_id = $1`, id); n != 0 {
		t.Errorf("%d replays outlived their subscription", n)
	}
	if n := len(w.sent(job)); n != 10 {
		t.Errorf("%d were sent to a subscription that is gone", n)
	}
}

func TestTheSubscriptionsFilterHoldsForAReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.past(history(10)...)
	endpoint := testenv.Receiver(t, nil)
	id := w.subscribe(endpoint.URL())
	w.exec(`update webhook_subscriptions set filter = 'booking.id == "bkg_3"'`)
	w.run()
	job := w.ends(w.start(id, schemas.ReplayRange{}), schemas.ReplayDone)
	if d := cmp.Diff([]string{"evt_3_1", "evt_3_2"}, ids(endpoint.All(), requestID)); d != "" || job.Progress.Matched != 2 {
		t.Errorf("%d matched:\n%s", job.Progress.Matched, d)
	}
}

// An event that nobody can decode does not end a replay.
func TestGarbageInTheLogIsLeftOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	es := history(3)
	w.happen(es[:3]...)
	w.c.ProduceRecord(t, garbage("no JSON"))
	w.c.ProduceRecord(t, garbage(`{"id":"evt_x"}`))
	w.past(es[3:]...)
	endpoint := testenv.Receiver(t, nil)
	id := w.subscribe(endpoint.URL())
	w.run()
	w.ends(w.start(id, schemas.ReplayRange{}), schemas.ReplayDone)
	if d := cmp.Diff(ids(es, eventID), ids(endpoint.All(), requestID)); d != "" {
		t.Error(d)
	}
}

func TestAReplayIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.subscribe("https://a.example/hook")
	start := func(s store.Scope, in producers.NewReplay) string {
		_, err := w.p.StartReplay(t.Context(), s, nil, id, in)
		e, _ := errors.AsType[*schemas.Error](err)
		if e == nil {
			return fmt.Sprint(err)
		}
		return e.Code
	}
	later, since := noon.Add(-time.Hour), schemas.ReplayRange{Since: new(noon)}
	for _, c := range []struct {
		scope store.Scope
		in    producers.NewReplay
		want  string
	}{
		{mine, producers.NewReplay{}, "no_range"},
		{mine, producers.NewReplay{Range: schemas.ReplayRange{Since: new(noon), Until: &later}}, "empty_range"},
		{mine, producers.NewReplay{Range: schemas.ReplayRange{Since: new(time.Now().Add(time.Hour))}}, "empty_range"},
		{mine, producers.NewReplay{Range: schemas.ReplayRange{Since: new(noon), EventTypes: []schemas.EventType{schemas.BookingCancelled}}}, "invalid_events"},
		{store.Scope{Agent: "agent_2"}, producers.NewReplay{Range: since}, "subscription_not_found"},
	} {
		if got := start(c.scope, c.in); got != c.want {
			t.Errorf("%+v: %s, want %s", c.in, got, c.want)
		}
	}
	w.toggle(id)
	if got := start(mine, producers.NewReplay{Range: since}); got != "subscription_disabled" {
		t.Errorf("to a disabled one: %s", got)
	}
	if got := start(mine, producers.NewReplay{Range: since, DryRun: true}); got != "<nil>" {
		t.Errorf("a count of what a disabled one missed: %s", got)
	}
	w.toggle(id)
	for range 4 {
		w.start(id, since)
	}
	if got := start(store.Scope{Agent: "agent_2", Platform: true}, producers.NewReplay{Range: since}); got != "too_many_replays" {
		t.Errorf("a sixth: %s", got)
	}
}

// Each run climbs the ladder from its start; the receiver sees one count.
func TestTheReceiversCountOfAttemptsGoesOnOverRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var broken atomic.Bool
	endpoint := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		if broken.Load() {
			return testenv.Response{Status: http.StatusInternalServerError}
		}
		return testenv.Response{}
	})
	id := w.subscribe(endpoint.URL())
	w.run()
	broken.Store(true)
	e := event(7, 1, schemas.BookingCreated)
	w.happen(e)
	dead := func(n int) {
		t.Helper()
		testenv.Eventually(t, "it is dead", func() bool {
			return w.count(`select count(*) from webhook_attempts where final and outcome = 'dead'`) == n
		})
	}
	dead(1)
	retried := func() {
		t.Helper()
		job, err := w.p.RetryDelivery(t.Context(), mine, nil, id, schemas.DeliveryFor(e.ID, id))
		if err != nil {
			t.Fatal(err)
		}
		w.ends(job, schemas.ReplayDone)
	}
	retried() // one delivery
	dead(2)
	job, err := w.p.RetryFailed(t.Context(), mine, nil, id, noon, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.ends(job, schemas.ReplayDone) // what failed
	dead(3)
	broken.Store(false)
	w.ends(w.start(id, schemas.ReplayRange{BookingID: e.Booking.ID}), schemas.ReplayDone) // a range
	retried()                                                                             // once more, though it was delivered
	for i, r := range endpoint.All() {
		if got, want := r.Header.Get("X-Webhook-Attempt"), strconv.Itoa(i+1); got != want {
			t.Errorf("request %d says attempt %s", i+1, got)
		}
	}
	if n := endpoint.Count(); n < 5 {
		t.Errorf("%d requests came, want one for each run at least", n)
	}
}
