package jobs_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/internal/jobs"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// A ground is a database, past row level security, and the jobs on it.
type ground struct {
	t     *testing.T
	sql   *pgx.Conn
	db    *store.DB
	wakes int
}

func newGround(t *testing.T) *ground {
	t.Helper()
	g, url := &ground{t: t}, testenv.Database(t)
	var err error
	if g.sql, err = pgx.Connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.sql.Close(context.WithoutCancel(t.Context())) })
	if g.db, err = store.Open(t.Context(), url, store.RoleJobs, 2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.db.Close)
	return g
}

func (g *ground) exec(sql string) {
	g.t.Helper()
	if _, err := g.sql.Exec(g.t.Context(), sql); err != nil {
		g.t.Fatalf("%s: %v", sql, err)
	}
}

func (g *ground) texts(sql string) []string {
	g.t.Helper()
	rows, _ := g.sql.Query(g.t.Context(), sql)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		g.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// turn lets every scheduled job run, as at a moment.
func (g *ground) turn(at time.Time) {
	g.t.Helper()
	jobs.New(jobs.Options{
		DB: g.db, Logger: testenv.Logger(g.t), DisableAfter: 5 * 24 * time.Hour, AttemptsRetention: 90 * 24 * time.Hour, Wake: func() { g.wakes++ },
	}).Scheduled(g.t.Context(), at)
}

// published takes what the outbox has for webhook.subscriptions.
func (g *ground) published() map[schemas.SubscriptionID]schemas.Subscription {
	g.t.Helper()
	rows, _ := g.sql.Query(g.t.Context(), `delete from outbox where topic = 'webhook.subscriptions' returning value`)
	values, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		g.t.Fatal(err)
	}
	out := map[schemas.SubscriptionID]schemas.Subscription{}
	for _, v := range values {
		s, err := schemas.Decode[schemas.Subscription](v)
		if err != nil {
			g.t.Fatal(err)
		}
		out[s.ID] = s
	}
	return out
}

const subscribed = `select id || ' ' || is_active || ' ' || disabled_reason || ' ' || version from webhook_subscriptions order by id`

// An endpoint that fails stops being called once it is parked on the longest tier
// or its agent makes no bookings any more. No attempt says then that its time is
// over; the schedule does.
func TestASubscriptionThatFailedForTooLongIsDisabledThoughNoAttemptArrives(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.exec(`insert into webhook_subscriptions (id, version, agent_id, agent_name, webhook_url, events, platform, is_active, enabled_at, sealed_api_key,
			secrets, body_hash, created_at, updated_at)
		select id, 1, 'agent', '', id, '{}', false, id <> 'off', now() - interval '30 days', '', '[]', '', now(), now() - interval '1 day'
		from unnest('{too_long,too_often,young,quiet,healthy,off}'::text[]) id;
		insert into webhook_health (subscription_id, agent_id, failed_attempts, failures_since_success, first_failure_at)
		select id, 'agent', often, failures, now() - since from (values
		  ('too_long', 0, 5, interval '121 hours'), ('too_often', 5, 40, interval '1 hour'), ('young', 4, 30, interval '119 hours'),
		  ('quiet', 1, 4, interval '20 days'), ('healthy', 0, 0, null), ('off', 5, 40, interval '20 days')) v (id, often, failures, since)`)
	g.turn(time.Now())
	want := []string{
		"healthy true  1", "off false  1", "quiet true  1", "too_long false failing_too_long 2", "too_often false failures 2", "young true  1",
	}
	if got := g.texts(subscribed); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	records := g.published()
	for id, why := range map[schemas.SubscriptionID]schemas.DisabledReason{"too_long": schemas.DisabledByTime, "too_often": schemas.DisabledByFailures} {
		s, said := records[id]
		if !said || s.Active || s.DisabledReason != why || s.Version != 2 {
			t.Errorf("published of %s: %+v", id, s)
		}
		if n := g.texts(`select id from webhook_subscriptions where updated_at = '` + s.UpdatedAt.Format(time.RFC3339Nano) + `'`); len(n) == 0 {
			t.Errorf("the row of %s has another moment than its record, %v", id, s.UpdatedAt)
		}
	}
	if len(records) != 2 || g.wakes == 0 {
		t.Errorf("%d records, %d wakes", len(records), g.wakes)
	}
	g.turn(time.Now().Add(3 * time.Hour))
	if again := g.published(); len(again) > 0 {
		t.Errorf("published again: %+v", again)
	}
}

// Whoever calls the function by hand gets the count, and the topic is told at the
// next turn.
func TestWhatTheFunctionDisabledIsPublishedByTheNextTurn(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.exec(`insert into webhook_subscriptions (id, version, agent_id, agent_name, webhook_url, events, platform, is_active, enabled_at, sealed_api_key,
			secrets, body_hash, created_at, updated_at)
		select id, 7, 'agent', '', id, '{}', false, true, now(), '', '[]', '', now(), now() from unnest('{a,b}'::text[]) id;
		insert into webhook_health (subscription_id, agent_id, failed_attempts) values ('a', 'agent', 5), ('b', 'agent', 4)`)
	if got := g.texts(`select disable_failed_webhook_subscriptions()::text`); !slices.Equal(got, []string{"1"}) {
		t.Errorf("the function says %q", got)
	}
	if early := g.published(); len(early) > 0 {
		t.Fatalf("published by the function: %+v", early)
	}
	g.turn(time.Now())
	if got := g.published(); len(got) != 1 || got["a"].Version != 8 || got["a"].Active {
		t.Errorf("published %+v", got)
	}
	if got := g.texts(subscribed); !slices.Equal(got, []string{"a false failures 8", "b true  7"}) {
		t.Errorf("left %q", got)
	}
}

// Attempts go by the month, once all of it is older than they are kept for.
func TestOldAttemptsAreDroppedByTheMonth(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	now := time.Date(2027, 6, 15, 12, 0, 0, 0, time.UTC) // 90 days before it is March 17
	g.exec(`select krib_attempt_partitions(at) from unnest('{2027-01-10,2027-03-10,2027-05-10}'::timestamptz[]) at`)
	g.exec(`insert into webhook_attempts (delivery_id, run, number, event_id, event_type, subscription_id, agent_id, booking_id, trigger, started_at,
			duration_ms, outcome, final, status, error_class, error, response_body, delivery_created_at)
		select at::text, 0, 1, '', '', '', '', '', '', now(), 0, '', true, 200, '', '', '', (at || ' 12:00+00')::timestamptz
		from unnest('{2026-01-31,2027-01-01,2027-02-28,2027-03-01,2027-04-30,2027-06-14,2031-01-01}'::text[]) at`)
	for range 2 { // the second time nothing is left to do
		g.turn(now)
		now = now.Add(25 * time.Hour)
	}
	got := g.texts(`select delivery_id from webhook_attempts order by 1`)
	if want := []string{"2027-03-01", "2027-04-30", "2027-06-14", "2031-01-01"}; !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
	months := g.texts(`select relname::text from pg_class where relispartition and relkind = 'r' and relname ~ '^webhook_attempts_2027' order by 1`)
	want := []string{"webhook_attempts_202703", "webhook_attempts_202704", "webhook_attempts_202705", "webhook_attempts_202706", "webhook_attempts_202707"}
	if !slices.Equal(months, want) {
		t.Errorf("partitions %q, want %q", months, want)
	}
}

// A month after a time with a zone is one in the session's zone: from the first of
// March in Paris it leads back into March.
func TestMonthsOfAttemptsAreCountedInUTC(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	for _, zone := range []string{"Europe/Paris", "America/New_York", "Asia/Dubai"} {
		g.exec(`set time zone '` + zone + `'; select krib_attempt_partitions('2031-03-01 12:00Z'); select krib_attempt_partitions('2031-12-31 23:59Z'); reset time zone`)
		got := g.texts(`select right(relname::text, 6) from pg_class where relispartition and relkind = 'r' and relname ~ '^webhook_attempts_203[12]' order by 1`)
		if want := []string{"203103", "203104", "203112", "203201"}; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", zone, got, want)
		}
		g.exec(`drop table webhook_attempts_203103, webhook_attempts_203104, webhook_attempts_203112, webhook_attempts_203201`)
	}
}
