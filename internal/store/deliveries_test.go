package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

var noon = time.Now().UTC().Truncate(time.Hour)

// attempted is an attempt of the subscription's delivery, begun so many minutes
// after noon.
func attempted(id schemas.DeliveryID, number int, o schemas.Outcome) schemas.Attempt {
	trigger := schemas.TriggerRetry
	if number == 1 {
		trigger = schemas.TriggerEvent
	}
	a := schemas.Attempt{
		DeliveryID: id, EventID: "evt_1", EventType: schemas.BookingCreated, SubscriptionID: "sub_1", AgentID: "agent_1", BookingID: "bkg_1",
		Number: number, Trigger: trigger, StartedAt: noon.Add(time.Duration(number) * time.Minute), DurationMS: 20, Outcome: o, Final: o != schemas.Retry,
		Status: 200, DeliveryCreatedAt: noon,
	}
	if o != schemas.Delivered {
		a.Status, a.ErrorClass = 500+number, schemas.ErrorStatus
	}
	if o == schemas.Retry {
		next := a.StartedAt.Add(time.Minute)
		a.NextAttemptAt = &next
	}
	return a
}

// pools are of the sink's role, of the jobs', and of the API's.
func pools(t testing.TB, url string) (sink, jobs, api *store.DB) {
	t.Helper()
	for _, o := range []struct {
		role store.Role
		db   **store.DB
	}{{store.RoleSink, &sink}, {store.RoleJobs, &jobs}, {store.RoleAPI, &api}} {
		db, err := store.Open(t.Context(), url, o.role, 2)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		*o.db = db
	}
	return sink, jobs, api
}

// write is what the sink does with a batch.
func write(t testing.TB, sink *store.DB, as ...schemas.Attempt) {
	t.Helper()
	err := sink.Update(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		written, err := tx.InsertAttempts(ctx, as)
		if err != nil {
			return err
		}
		tx.CountAttempts(written)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read[T any](t testing.TB, db *store.DB, do func(context.Context, *store.Tx) (T, error)) (v T) {
	t.Helper()
	err := db.Read(t.Context(), store.Scope{Agent: "agent_1"}, func(ctx context.Context, tx *store.Tx) (err error) {
		v, err = do(ctx, tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A rebalance brings records again, and those of one delivery in another order:
// another member may write the second attempt before this one has written the first.
func TestADeliverysRowIsTheSameInWhateverOrderItsAttemptsCome(t *testing.T) {
	t.Parallel()
	sink, _, api := pools(t, testenv.Database(t))
	one, two, three := func(id schemas.DeliveryID) schemas.Attempt { return attempted(id, 1, schemas.Retry) },
		func(id schemas.DeliveryID) schemas.Attempt { return attempted(id, 2, schemas.Retry) },
		func(id schemas.DeliveryID) schemas.Attempt { return attempted(id, 3, schemas.Dead) }
	type make = func(schemas.DeliveryID) schemas.Attempt
	orders := [][][]make{ // batches
		{{one, two, three}},
		{{one}, {two}, {three}},
		{{three}, {two}, {one}},
		{{two}, {one}, {three}},
		{{three}, {one, two}},
		{{two, three}, {one}},
		{{one, two}, {two, one}, {three}, {one, two, three}}, // and again
	}
	for i, batches := range orders {
		id := schemas.DeliveryID(fmt.Sprintf("dlv_%d", i))
		for _, b := range batches {
			var as []schemas.Attempt
			for _, m := range b {
				as = append(as, m(id))
			}
			write(t, sink, as...)
		}
		got := read(t, api, func(ctx context.Context, tx *store.Tx) ([]store.Delivery, error) {
			return tx.Delivery(ctx, "sub_1", id)
		})
		want := []store.Delivery{{
			ID: id, CreatedAt: noon, SubscriptionID: "sub_1", AgentID: "agent_1", EventID: "evt_1", EventType: schemas.BookingCreated, BookingID: "bkg_1",
			Trigger: schemas.TriggerEvent, State: store.StateDead, Attempts: 3, Status: 503, ErrorClass: schemas.ErrorStatus,
			FirstAttemptAt: noon.Add(time.Minute), LastAttemptAt: noon.Add(3 * time.Minute),
		}}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
			t.Errorf("order %d: %s", i, diff)
		}
	}
	w := read(t, api, func(ctx context.Context, tx *store.Tx) (store.WindowedCounts, error) {
		return tx.Statistics(ctx, "sub_1", time.Now())
	})
	if n := int64(len(orders)); w.Hour.Dead != n || w.Hour.Attempts != 3*n || w.Hour.Failed != 3*n {
		t.Errorf("counted %+v, want %d deliveries of three attempts each", w.Hour, n)
	}
}

// After a crash the same attempt may be made twice, and be taken once.
func TestASuccessStaysOneWhateverComesAfter(t *testing.T) {
	t.Parallel()
	sink, _, api := pools(t, testenv.Database(t))
	for i, as := range [][]schemas.Attempt{
		{attempted("dlv_0", 1, schemas.Delivered), attempted("dlv_0", 2, schemas.Retry)},
		{attempted("dlv_1", 2, schemas.Retry), attempted("dlv_1", 1, schemas.Delivered)},
	} {
		for _, a := range as {
			write(t, sink, a)
		}
		id := schemas.DeliveryID(fmt.Sprintf("dlv_%d", i))
		ds := read(t, api, func(ctx context.Context, tx *store.Tx) ([]store.Delivery, error) {
			return tx.Delivery(ctx, "sub_1", id)
		})
		if ds[0].State != store.StateDelivered {
			t.Errorf("%s is %s", id, ds[0].State)
		}
	}
	if n := read(t, api, func(ctx context.Context, tx *store.Tx) (int64, error) { return tx.Waiting(ctx, "sub_1") }); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// A worker that is killed makes an attempt again that its log has a word on. Of the
// two words the one that ends the delivery stands, however they come, and each
// attempt counts once.
func TestOfTwoWordsOnAnAttemptTheOneThatEndsItStands(t *testing.T) {
	t.Parallel()
	retry, dead, taken := schemas.Retry, schemas.Dead, schemas.Delivered
	for i, c := range []struct {
		words [][]schemas.Outcome // on the first attempt, by batch
		want  schemas.Outcome
	}{
		{[][]schemas.Outcome{{retry}, {taken}}, taken},
		{[][]schemas.Outcome{{taken}, {retry}}, taken},
		{[][]schemas.Outcome{{retry, taken}}, taken},
		{[][]schemas.Outcome{{taken, retry}}, taken},
		{[][]schemas.Outcome{{retry}, {taken}, {retry}, {taken}}, taken},
		{[][]schemas.Outcome{{retry}, {dead}}, dead},
		{[][]schemas.Outcome{{dead}, {retry}}, dead},
		{[][]schemas.Outcome{{dead}, {taken}, {dead}}, taken},
		{[][]schemas.Outcome{{retry}, {schemas.Gone}}, schemas.Gone},
		{[][]schemas.Outcome{{dead}, {schemas.Gone}, {dead}}, schemas.Gone},
		{[][]schemas.Outcome{{retry}, {schemas.Withheld}}, schemas.Withheld},
	} {
		sink, _, api := pools(t, testenv.Database(t))
		id := schemas.DeliveryID(fmt.Sprintf("dlv_%d", i))
		var want schemas.Attempt
		for n, batch := range c.words {
			var as []schemas.Attempt
			for m, o := range batch {
				a := attempted(id, 1, o)
				// The second request came a while after, and took longer.
				a.StartedAt, a.DurationMS = a.StartedAt.Add(time.Duration(10*n+m)*time.Minute), a.DurationMS*int64(1+10*n+m)
				if as = append(as, a); o == c.want && want.DeliveryID == "" {
					want = a
				}
			}
			write(t, sink, as...)
		}
		ds := read(t, api, func(ctx context.Context, tx *store.Tx) ([]store.Delivery, error) {
			return tx.Delivery(ctx, "sub_1", id)
		})
		if d := ds[0]; d.State != store.DeliveryState(c.want) || d.Attempts != 1 || d.Status != want.Status || d.ErrorClass != want.ErrorClass || d.NextAttemptAt != nil {
			t.Errorf("%v: the delivery is %+v", c.words, d)
		}
		as := read(t, api, func(ctx context.Context, tx *store.Tx) ([]schemas.Attempt, error) {
			return tx.Attempts(ctx, []schemas.DeliveryID{id})
		})
		if diff := cmp.Diff([]schemas.Attempt{want}, as, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Errorf("%v: the log: %s", c.words, diff)
		}
		w := read(t, api, func(ctx context.Context, tx *store.Tx) (store.WindowedCounts, error) {
			return tx.Statistics(ctx, "sub_1", noon.Add(time.Hour))
		})
		var counted store.Counts
		counted.Attempts = 1
		counted.Latencies.Add(want.DurationMS)
		switch c.want {
		case taken:
			counted.Delivered = 1
		case schemas.Withheld:
			counted.Withheld, counted.Failed = 1, 1
		default:
			counted.Dead, counted.Failed = 1, 1
		}
		got := w.Day
		if diff := cmp.Diff(counted, got); diff != "" {
			t.Errorf("%v: counted %s", c.words, diff)
		}
	}
}

// What replaces the word on an attempt changes its delivery only as far as the
// attempt says how the delivery stands.
func TestAWordThatComesLateEndsADeliveryOnlyIfItWasTheLast(t *testing.T) {
	t.Parallel()
	sink, _, api := pools(t, testenv.Database(t))
	one := func(id schemas.DeliveryID, o schemas.Outcome) schemas.Attempt { return attempted(id, 1, o) }
	two := func(id schemas.DeliveryID, o schemas.Outcome) schemas.Attempt { return attempted(id, 2, o) }
	write(t, sink, one("dlv_a", schemas.Retry), two("dlv_a", schemas.Retry), one("dlv_b", schemas.Retry), two("dlv_b", schemas.Retry),
		one("dlv_c", schemas.Retry), two("dlv_c", schemas.Retry))
	write(t, sink, one("dlv_a", schemas.Withheld), one("dlv_b", schemas.Delivered), one("dlv_c", schemas.Withheld), two("dlv_c", schemas.Dead))
	for id, want := range map[schemas.DeliveryID]store.DeliveryState{"dlv_a": store.StateWaiting, "dlv_b": store.StateDelivered, "dlv_c": store.StateDead} {
		ds := read(t, api, func(ctx context.Context, tx *store.Tx) ([]store.Delivery, error) {
			return tx.Delivery(ctx, "sub_1", id)
		})
		if ds[0].State != want || ds[0].Attempts != 2 || (ds[0].NextAttemptAt != nil) != (want != store.StateDead) {
			t.Errorf("%s: %+v, want %s", id, ds[0], want)
		}
	}
}

// A filter that nearly nothing passes costs a page no more than maxScan rows: such
// a page is short, and has a next one all the same.
func TestARareThingIsFoundInBoundedSteps(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	_, _, api := pools(t, url)
	seedLog(t, url, (2*store.MaxScan+500)*11/10, 1)
	exec(t, url, `update webhook_deliveries set status = 418, error_class = 'status' where delivery_id in (
		(select delivery_id from webhook_deliveries order by created_at, delivery_id, run limit 1))`)
	f := store.DeliveryFilter{Subscription: "sub_1", Status: 418, Limit: 10}
	found, steps := 0, 0
	for {
		ds := read(t, api, func(ctx context.Context, tx *store.Tx) (ds []store.Delivery, err error) {
			ds, f.After, err = tx.Deliveries(ctx, &f)
			return ds, err
		})
		steps++
		found += len(ds)
		if f.After == nil {
			break
		}
	}
	if found != 1 || steps != 3 {
		t.Errorf("found %d in %d steps, want the oldest of all in three", found, steps)
	}
}

func TestDeliveriesAreKeptAsLongAsTheirAttempts(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	_, jobs, _ := pools(t, url)
	old := time.Now().UTC().AddDate(0, -3, 0)
	month := old.Format("200601")
	exec(t, url, fmt.Sprintf(`select krib_attempt_partitions('%[1]s'), krib_delivery_partitions('%[1]s')`, old.Format(time.RFC3339)))
	drop := func() (n int64) {
		t.Helper()
		err := jobs.Update(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
			n, err = tx.DropDeliveryPartitions(ctx)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := drop(); n != 0 {
		t.Errorf("%d months went whose attempts are there", n)
	}
	exec(t, url, `drop table webhook_attempts_`+month)
	if n := drop(); n != 1 {
		t.Errorf("%d months went, want that of the attempts that went", n)
	}
	if n := drop(); n != 0 {
		t.Errorf("%d months went the second time", n)
	}
}

// Slots that are more than a day old become hours, and what comes late for them is
// merged in at the next turn.
func TestStatisticsBecomeHoursAndGo(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	sink, jobs, api := pools(t, url)
	late := func(n int, ago time.Duration) {
		a := attempted(schemas.DeliveryID(fmt.Sprintf("dlv_%d", n)), 1, schemas.Delivered)
		a.StartedAt, a.DurationMS = time.Now().Add(-ago), int64(1+n)
		write(t, sink, a)
	}
	turn := func() (n, gone int64) {
		t.Helper()
		err := jobs.Update(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
			if n, err = tx.CompactStatistics(ctx, time.Now()); err == nil {
				gone, err = tx.PurgeStatistics(ctx, time.Now().Add(-35*24*time.Hour))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n, gone
	}
	week := func() store.WindowedCounts {
		t.Helper()
		return read(t, api, func(ctx context.Context, tx *store.Tx) (store.WindowedCounts, error) {
			return tx.Statistics(ctx, "", time.Now())
		})
	}
	for i := range 30 {
		late(i, 48*time.Hour+time.Duration(i)*time.Minute)
	}
	late(100, time.Minute)
	late(101, 40*24*time.Hour)
	before := week()
	if before.Week.Delivered != 31 || before.Day.Delivered != 1 || before.Hour.Delivered != 1 {
		t.Fatalf("counted %+v", before)
	}
	if n, gone := turn(); n < 7 || gone != 1 {
		t.Errorf("%d slots became hours, %d went", n, gone)
	}
	if diff := cmp.Diff(before, week()); diff != "" {
		t.Errorf("hours say another thing than their slots: %s", diff)
	}
	late(200, 48*time.Hour)
	if n, _ := turn(); n != 1 {
		t.Errorf("%d late slots", n)
	}
	if got := week().Week; got.Delivered != 32 || got.Attempts != 32 {
		t.Errorf("what came late made it %+v", got)
	}
}

// What has been tried in vain and is tried again is no success, though nothing of it
// has ended.
func TestWhatFailsSoFarCountsAsFailing(t *testing.T) {
	t.Parallel()
	sink, _, api := pools(t, testenv.Database(t))
	at := noon.Add(10 * time.Minute)
	counts := func(id schemas.SubscriptionID, now time.Time) (n [3]int64) {
		t.Helper()
		w := read(t, api, func(ctx context.Context, tx *store.Tx) (store.WindowedCounts, error) {
			return tx.Statistics(ctx, id, now)
		})
		return [3]int64{w.Hour.Failing, w.Day.Failing, w.Week.Failing}
	}
	test := attempted("dlv_test", 1, schemas.Retry)
	test.Trigger = schemas.TriggerTest
	write(t, sink, attempted("dlv_1", 1, schemas.Retry), attempted("dlv_1", 2, schemas.Retry), attempted("dlv_2", 1, schemas.Retry),
		attempted("dlv_3", 1, schemas.Delivered), attempted("dlv_4", 1, schemas.Dead), attempted("dlv_5", 1, schemas.Withheld), test)
	for name, c := range map[string]struct {
		now  time.Time
		want [3]int64
	}{
		"now":             {at, [3]int64{2, 2, 2}},
		"two hours later": {at.Add(2 * time.Hour), [3]int64{0, 2, 2}},
		"two days later":  {at.Add(48 * time.Hour), [3]int64{0, 0, 2}},
		"a month later":   {at.Add(30 * 24 * time.Hour), [3]int64{}},
	} {
		if got := counts("sub_1", c.now); got != c.want {
			t.Errorf("%s, %v fail in the hour, the day and the week, want %v", name, got, c.want)
		}
	}
	write(t, sink, attempted("dlv_2", 2, schemas.Delivered), attempted("dlv_1", 3, schemas.Dead))
	if got := counts("sub_1", at); got != [3]int64{} {
		t.Errorf("all have ended, and %v are failing", got)
	}
}
