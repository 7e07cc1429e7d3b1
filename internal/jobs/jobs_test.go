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
)

func TestMain(m *testing.M) { testenv.Main(m) }

// Old answers go, and notifications that nobody has any more once the topic has
// forgotten them; what is younger, or still in somebody's inbox, stays. What has
// run out leaves its inbox.
func TestHousekeepingRemovesOnlyWhatNobodyNeeds(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	_, err = c.Exec(t.Context(), `
		insert into idempotency_keys (caller, method, path, key, body_hash, created_at)
		select 'agent:1', 'POST', '/', k, '', now() - age from (values ('old', interval '25 hours'), ('young', interval '23 hours')) v (k, age);
		insert into host_notifications (id, host_id, type, title, message, booking_id, property_id, priority, action_required, action_url,
		  created_at, updated_at, deleted_at, expires_at)
		select id, 'host_1', 'urgent', '', '', '', '', 'high', false, '', now() - age, now(), deleted, expires from (values
		  ('deleted long ago', interval '9 days', now(), null::timestamptz),
		  ('expired long ago', interval '9 days', null, now() - interval '1 day'),
		  ('deleted and still in the log', interval '7 days', now(), null),
		  ('expired and still in the log', interval '7 days', null, now() - interval '1 second'),
		  ('old and still there', interval '90 days', null, null)) v (id, age, deleted, expires)`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Exec(t.Context(), `insert into stripe_events (id, type, booking_id, received_at) values ('old', '', '', now() - interval '31 days'),
		('evt', '', '', now() - interval '29 days')`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Exec(t.Context(), `insert into stream_tickets (hash, host_id, until, expires_at) values
		('dead', 'host_1', now() + interval '1 hour', now() - interval '1 second'), ('ticket', 'host_1', now() + interval '1 hour', now() + interval '1 minute')`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Exec(t.Context(), `
		insert into emails (id, host_id, recipient, content, urgent, happened_at, state, due_at, queued_at)
		select 'mail ' || state || ' ' || age, 'host_1', '', '{}', false, now(), state, now(), now() - age
		from (values ('sent', interval '15 days'), ('waiting', '15 days'), ('sent', '13 days')) v (state, age)`)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), url, store.RoleJobs, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	jobs.New(jobs.Options{DB: db, Logger: testenv.Logger(t), FeedRetention: 7 * 24 * time.Hour}).Scheduled(t.Context(), time.Now())
	rows, _ := c.Query(t.Context(), `select key from idempotency_keys union all select id from stripe_events union all select id from emails union all select convert_from(hash, 'UTF8') from stream_tickets union all select id || ' ' || (deleted_at is null) from host_notifications order by 1`)
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"deleted and still in the log false", "evt", "expired and still in the log false", "mail sent 13 days", "old and still there true", "ticket", "young"}
	if !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
}

// A key that ends by itself leaves its agent's subscriptions to the job. Agents
// whose keys are live, and those that never had one, are left alone.
func TestKeysThatExpiredNarrowTheSubscriptionsOfTheirAgents(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	_, err = c.Exec(t.Context(), `
		insert into agents (id, name) select unnest('{sees_less,cut_off,as_before,plain,keyless}'::text[]), '';
		insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes, platform, expires_at)
		select 'key_' || row_number() over (), agent, '', sha256(row_number() over ()::text::bytea), '', array[scope], platform, now() + ends from (values
		  ('sees_less', 'webhooks:manage', true, interval '-1 hour'), ('sees_less', 'bookings:read', false, null),
		  ('cut_off', 'webhooks:manage', true, interval '-1 hour'),
		  ('as_before', 'webhooks:manage', true, interval '-1 hour'), ('as_before', 'admin', true, interval '1 hour'),
		  ('plain', 'bookings:read', false, null)) v (agent, scope, platform, ends);
		insert into webhook_subscriptions (id, version, agent_id, agent_name, webhook_url, events, platform, is_active, enabled_at, sealed_api_key,
		  secrets, body_hash, created_at, updated_at)
		select 'sub_' || id, 1, id, '', '', '{}', id <> 'plain', true, now(), '', '[]', '', now(), now() from agents`)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), url, store.RoleJobs, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for turn := range 2 { // the second time there is nothing left to do
		at := time.Now().Add(time.Duration(turn) * time.Hour)
		jobs.New(jobs.Options{DB: db, Logger: testenv.Logger(t), FeedRetention: 7 * 24 * time.Hour}).Scheduled(t.Context(), at)
	}
	rows, _ := c.Query(t.Context(), `select agent_id || ' ' || platform || ' ' || is_active || ' ' || disabled_reason || ' ' || version
		from webhook_subscriptions order by agent_id`)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"as_before true true  1", "cut_off false false no_live_key 2", "keyless true true  1", "plain false true  1", "sees_less false true  2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var published int
	if err := c.QueryRow(t.Context(), `select count(*) from outbox where topic = 'webhook.subscriptions'`).Scan(&published); err != nil || published != 2 {
		t.Errorf("%d records published (%v), want 2", published, err)
	}
}
