package attempts_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/attempts"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type ground struct {
	*testenv.Cluster
	sink, api *store.DB
	sql       *pgxpool.Pool // past row level security
	sub       schemas.SubscriptionID
}

var scope = store.Scope{Agent: "agent_1"}

func newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{Cluster: testenv.Topics(t, nil), sub: schemas.NewSubscriptionID()}
	url := testenv.Database(t)
	for _, o := range []struct {
		role store.Role
		db   **store.DB
	}{{store.RoleSink, &g.sink}, {store.RoleAPI, &g.api}} {
		db, err := store.Open(t.Context(), url, o.role, 4)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		*o.db = db
	}
	var err error
	if g.sql, err = pgxpool.New(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.sql.Close)
	enabled := schemas.Stamp(time.Now().Add(-time.Hour))
	s := store.Subscription{MaxFailedAttempts: 3, BodyHash: []byte("x")}
	s.ID, s.Version, s.AgentID, s.URL, s.Events = g.sub, 1, "agent_1", "https://example.com/", []schemas.EventType{schemas.BookingCreated}
	s.Active, s.EnabledAt, s.CreatedAt, s.UpdatedAt, s.SealedAPIKey, s.Secrets = true, enabled, enabled, enabled, []byte("k"), []schemas.SealedSecret{}
	err = g.api.Update(t.Context(), scope, func(ctx context.Context, tx *store.Tx) error { return tx.InsertSubscription(ctx, &s) })
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *ground) start(t *testing.T) (stop func()) {
	t.Helper()
	s, err := attempts.New(attempts.Options{Kafka: g.Config, DB: g.sink, Logger: g.Config.Logger})
	if err != nil {
		t.Fatal(err)
	}
	return testenv.Run(t, s.Run)
}

// attempt number n of delivery d, begun n seconds after the minute before now.
func (g *ground) attempt(d string, n int, o schemas.Outcome) schemas.Attempt {
	at := schemas.Stamp(time.Now().Add(time.Duration(n)*time.Second - time.Minute))
	return schemas.Attempt{
		DeliveryID: schemas.DeliveryID(d), EventID: "evt_1", EventType: schemas.BookingCreated, SubscriptionID: g.sub, AgentID: "agent_1", BookingID: "bkg_1",
		Number: n, Trigger: schemas.TriggerEvent, StartedAt: at, Outcome: o, Final: o != schemas.Retry, DeliveryCreatedAt: at,
	}
}

func (g *ground) log(t *testing.T, as ...schemas.Attempt) {
	t.Helper()
	for i := range as {
		g.Produce(t, string(schemas.Attempts), string(g.sub), as[i].Meta(), as[i])
	}
}

func (g *ground) rows(t *testing.T, d string) (as []schemas.Attempt) {
	t.Helper()
	err := g.api.Read(t.Context(), scope, func(ctx context.Context, tx *store.Tx) (err error) {
		as, err = tx.Attempts(ctx, []schemas.DeliveryID{schemas.DeliveryID(d)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return as
}

func (g *ground) subscription(t *testing.T) (s store.Subscription) {
	t.Helper()
	err := g.api.Read(t.Context(), scope, func(ctx context.Context, tx *store.Tx) (err error) {
		s, err = tx.Subscription(ctx, g.sub)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestARepeatedAttemptIsOneRowAndCountsOnce(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	dead := g.attempt("dlv_1", 1, schemas.Dead)
	g.log(t, dead, dead)
	stop := g.start(t)
	testenv.Eventually(t, "the row is there", func() bool { return len(g.rows(t, "dlv_1")) == 1 })
	g.log(t, dead, g.attempt("dlv_2", 2, schemas.Dead))
	testenv.Eventually(t, "the second row is there", func() bool { return len(g.rows(t, "dlv_2")) == 1 })
	stop()
	if got := g.subscription(t).FailedAttempts; got != 2 {
		t.Errorf("failed_attempts is %d, want 2", got)
	}
	err := g.api.Read(t.Context(), scope, func(ctx context.Context, tx *store.Tx) error {
		w, err := tx.Statistics(ctx, g.sub, time.Now())
		if w.Hour.Dead != 2 {
			t.Errorf("statistics count %d dead deliveries, want 2", w.Hour.Dead)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A worker that is killed makes an attempt again whose failure is in the log.
func TestARepeatThatEndsADeliveryStandsAndIsNoSecondFailure(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start(t)
	failures := func() (failed, since int) {
		t.Helper()
		row := g.sql.QueryRow(t.Context(), `select failed_attempts, failures_since_success from webhook_health where subscription_id = $1`, string(g.sub))
		if err := row.Scan(&failed, &since); err != nil {
			t.Fatal(err)
		}
		return failed, since
	}
	last := func(d string, o schemas.Outcome) bool {
		as := g.rows(t, d)
		return len(as) == 1 && as[0].Outcome == o
	}
	again := func(a schemas.Attempt, o schemas.Outcome) schemas.Attempt {
		a.Outcome, a.Final = o, true
		return a
	}
	one, two := g.attempt("dlv_1", 1, schemas.Retry), g.attempt("dlv_2", 2, schemas.Retry)
	g.log(t, one, two)
	testenv.Eventually(t, "both failed", func() bool { return last("dlv_1", schemas.Retry) && last("dlv_2", schemas.Retry) })
	g.log(t, again(one, schemas.Dead))
	testenv.Eventually(t, "one is dead", func() bool { return last("dlv_1", schemas.Dead) })
	if failed, since := failures(); failed != 1 || since != 2 {
		t.Errorf("%d deliveries ran out, %d attempts failed, want 1 and 2", failed, since)
	}
	g.log(t, again(two, schemas.Delivered))
	testenv.Eventually(t, "the other is delivered", func() bool { return last("dlv_2", schemas.Delivered) })
	if failed, since := failures(); failed != 0 || since != 0 {
		t.Errorf("after a success %d deliveries ran out, %d attempts failed", failed, since)
	}
}

func TestASuccessResetsTheCount(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start(t)
	won := g.attempt("dlv_2", 2, schemas.Delivered)
	g.log(t, g.attempt("dlv_1", 1, schemas.Dead), won, g.attempt("dlv_3", 3, schemas.Dead))
	testenv.Eventually(t, "the last row is there", func() bool { return len(g.rows(t, "dlv_3")) == 1 })
	s := g.subscription(t)
	if s.FailedAttempts != 1 || s.LastSuccessfulCall == nil || !s.LastSuccessfulCall.Equal(won.StartedAt) {
		t.Errorf("failed %d, last success %v, want 1, %v", s.FailedAttempts, s.LastSuccessfulCall, won.StartedAt)
	}
}

func TestASubscriptionThatRanOutTooOftenIsDisabledAndSaidSoOnItsTopic(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start(t)
	for i := range 3 {
		g.log(t, g.attempt(fmt.Sprintf("dlv_%d", i), i+1, schemas.Dead))
	}
	testenv.Eventually(t, "it is disabled", func() bool { return !g.subscription(t).Active })
	s := g.subscription(t)
	if s.DisabledReason != schemas.DisabledByFailures || s.Version != 2 {
		t.Errorf("reason %q, version %d", s.DisabledReason, s.Version)
	}
}

func TestAReceiverThatIsGoneDisablesAtOnce(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start(t)
	g.log(t, g.attempt("dlv_1", 1, schemas.Gone))
	testenv.Eventually(t, "it is disabled", func() bool { return g.subscription(t).DisabledReason == schemas.DisabledByGone })
}

// another makes one more subscription of the same agent.
func (g *ground) another(t *testing.T, events ...schemas.EventType) schemas.SubscriptionID {
	t.Helper()
	s := store.Subscription{MaxFailedAttempts: 3, BodyHash: []byte("x")}
	s.ID, s.Version, s.AgentID, s.Events = schemas.NewSubscriptionID(), 1, "agent_1", events
	s.URL = "https://example.com/" + string(s.ID)
	s.Active, s.EnabledAt, s.SealedAPIKey, s.Secrets = true, schemas.Stamp(time.Now()), []byte("k"), []schemas.SealedSecret{}
	s.CreatedAt, s.UpdatedAt = s.EnabledAt, s.EnabledAt
	if err := g.api.Update(t.Context(), scope, func(ctx context.Context, tx *store.Tx) error { return tx.InsertSubscription(ctx, &s) }); err != nil {
		t.Fatal(err)
	}
	return s.ID
}

// told is what was written for a subscription, in order.
func (g *ground) told(t *testing.T, to schemas.SubscriptionID) (out []schemas.Delivery) {
	t.Helper()
	rows, err := g.sql.Query(t.Context(), `select value from outbox where topic = 'webhook.deliveries' and key = $1 order by id`, string(to))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range raw {
		d, err := schemas.Decode[schemas.Delivery](b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

func TestTheOwnersOtherEndpointsAreToldWhenOneFailsAndWhenItIsWellAgain(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	all := []schemas.EventType{schemas.SubscriptionFailing, schemas.SubscriptionRecovered, schemas.SubscriptionDisabled}
	asks, deaf := g.another(t, all...), g.another(t, schemas.BookingCreated)
	g.start(t)
	wait := func(n int, event schemas.EventType) schemas.Delivery {
		t.Helper()
		testenv.Eventually(t, "the owner is told of "+string(event), func() bool { return len(g.told(t, asks)) >= n })
		ds := g.told(t, asks)
		if len(ds) != n || ds[n-1].EventType != event || ds[n-1].Trigger != schemas.TriggerOperational {
			t.Fatalf("told %+v, want the %d. to be %s", ds, n, event)
		}
		return ds[n-1]
	}
	for i := range 4 { // three failed attempts say nothing yet
		g.log(t, g.attempt("dlv_1", i+1, schemas.Retry))
	}
	d := wait(1, schemas.SubscriptionFailing)
	for _, part := range []string{`"subscription_id":"` + string(g.sub), `"is_active":true`, `"failing_since":"20`, `"type":"subscription.failing"`} {
		if !strings.Contains(d.Payload, part) {
			t.Errorf("the payload has no %s: %s", part, d.Payload)
		}
	}
	g.log(t, g.attempt("dlv_1", 5, schemas.Retry)) // known already
	g.log(t, g.attempt("dlv_2", 6, schemas.Delivered))
	wait(2, schemas.SubscriptionRecovered)
	g.log(t, g.attempt("dlv_3", 7, schemas.Dead))
	wait(3, schemas.SubscriptionFailing)
	g.log(t, g.attempt("dlv_4", 8, schemas.Dead), g.attempt("dlv_5", 9, schemas.Dead))
	if d := wait(4, schemas.SubscriptionDisabled); !strings.Contains(d.Payload, `"disabled_reason":"failures"`) {
		t.Errorf("the payload says not why: %s", d.Payload)
	}
	if n := len(g.told(t, deaf)) + len(g.told(t, g.sub)); n != 0 {
		t.Errorf("%d deliveries to who did not ask, or is meant itself", n)
	}
}

func TestWhatAnOperationalDeliveryComesToIsNotTold(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	asks := g.another(t, schemas.SubscriptionFailing)
	g.start(t)
	for i := range 5 {
		a := g.attempt(fmt.Sprintf("dlv_%d", i), i+1, schemas.Dead)
		a.Trigger = schemas.TriggerOperational
		g.log(t, a)
	}
	g.log(t, g.attempt("dlv_last", 6, schemas.Delivered))
	testenv.Eventually(t, "the last row is there", func() bool { return len(g.rows(t, "dlv_last")) == 1 })
	if n := len(g.told(t, asks)); n != 0 {
		t.Errorf("told %d times", n)
	}
}

func TestTestsAndWithheldDeliveriesDoNotCount(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start(t)
	for i := range 5 {
		a := g.attempt(fmt.Sprintf("dlv_test_%d", i), i+1, schemas.Dead)
		a.Trigger = schemas.TriggerTest
		g.log(t, a, g.attempt(fmt.Sprintf("dlv_held_%d", i), i+1, schemas.Withheld))
	}
	testenv.Eventually(t, "the last row is there", func() bool { return len(g.rows(t, "dlv_held_4")) == 1 })
	if s := g.subscription(t); s.FailedAttempts != 0 || !s.Active {
		t.Errorf("failed_attempts %d, active %v", s.FailedAttempts, s.Active)
	}
}

func TestAnAnswerThatPostgresWouldRefuseIsStored(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start(t)
	a := g.attempt("dlv_1", 1, schemas.Delivered)
	a.ResponseBody, a.Error = "a\x00b", "c\x00"
	g.log(t, a)
	testenv.Eventually(t, "the row is there", func() bool { return len(g.rows(t, "dlv_1")) == 1 })
	if got := g.rows(t, "dlv_1")[0].ResponseBody; got != "a\uFFFDb" {
		t.Errorf("stored %q", got)
	}
}

func TestARecordThatCannotBeDecodedIsSetAsideAndTheRestFlows(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	for _, bad := range []string{"{", "null", "{}"} {
		g.ProduceRecord(t, &kgo.Record{Topic: string(schemas.Attempts), Key: []byte(g.sub), Value: []byte(bad)})
	}
	g.log(t, g.attempt("dlv_1", 1, schemas.Delivered))
	g.start(t)
	testenv.Eventually(t, "the row is there", func() bool { return len(g.rows(t, "dlv_1")) == 1 })
	g.Read(t, string(schemas.PoisonRecords), 3)
}

func TestEachChangeOfASubscriptionsHealthIsOneLineInTheLog(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	if _, err := g.sql.Exec(t.Context(), `update webhook_subscriptions set webhook_url = 'https://example.com:8443/services/hush?token=hush'`); err != nil {
		t.Fatal(err)
	}
	var log testenv.Output
	s, err := attempts.New(attempts.Options{Kafka: g.Config, DB: g.sink, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, s.Run)
	says := func(text string, times int) {
		t.Helper()
		testenv.Eventually(t, "the log says "+text, func() bool { return strings.Count(log.String(), text) == times })
	}
	n := 0
	next := func(d string, o schemas.Outcome) schemas.Attempt {
		n++
		return g.attempt(d, n, o)
	}
	g.log(t, next("dlv_1", schemas.Retry), next("dlv_1", schemas.Retry), next("dlv_1", schemas.Retry), next("dlv_1", schemas.Retry))
	says("a subscription is failing", 1)
	g.log(t, next("dlv_1", schemas.Retry), next("dlv_2", schemas.Delivered))
	says("a subscription has recovered", 1)
	for i := range 3 {
		g.log(t, next(fmt.Sprint("dlv_dead_", i), schemas.Dead))
	}
	says("a subscription is disabled", 1)
	says("a subscription is failing", 2)
	says("a subscription has recovered", 1)
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "a subscription ") && (!strings.Contains(line, "subscription_id="+string(g.sub)) || !strings.Contains(line, "agent_id=agent_1") ||
			!strings.Contains(line, "endpoint=https://example.com:8443 ") && !strings.Contains(line, "endpoint=https://example.com:8443\n")) || strings.Contains(line, "hush") {
			t.Errorf("the line is %s", line)
		}
	}
	if !strings.Contains(log.String(), "reason=failures") {
		t.Errorf("why it is disabled is not logged: %s", log.String())
	}
}
