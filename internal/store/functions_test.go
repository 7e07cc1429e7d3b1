package store_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
)

// inRole runs a query that answers one number, as a role and in a scope.
func inRole(t *testing.T, c *pgx.Conn, role store.Role, scope store.Scope, sql string) (n int64, err error) {
	t.Helper()
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), `select set_config('role', $1, true), set_config('krib.agent_id', $2, true), set_config('krib.host_id', $3, true),
		set_config('krib.platform', $4, true)`, string(role), string(scope.Agent), string(scope.Host), map[bool]string{true: "on"}[scope.Platform])
	if err != nil {
		t.Fatal(err)
	}
	err = tx.QueryRow(t.Context(), sql).Scan(&n)
	return n, err
}

// The functions that people know by name count and clean, for those whose job it
// is. A host counts its own only, whomever it asks about.
func TestTheNamedFunctionsKeepToTheirCallers(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	c := connect(t, database)
	exec(t, database, `
		insert into host_notifications (id, host_id, type, title, message, booking_id, property_id, priority, action_required, action_url,
		  created_at, updated_at, read_at, deleted_at, expires_at)
		select id, host, 'urgent', '', '', '', '', 'high', false, '', now(), now(), seen, gone, expires from (values
		  ('unread', 'host_a', null::timestamptz, null::timestamptz, null::timestamptz), ('unread too', 'host_a', null, null, now() + interval '1 hour'),
		  ('read', 'host_a', now(), null, null), ('deleted', 'host_a', null, now(), null), ('expired', 'host_a', null, null, now() - interval '1 second'),
		  ('read and expired', 'host_a', now(), null, now() - interval '1 hour'), ('of another', 'host_b', null, null, null)) v (id, host, seen, gone, expires);
		insert into webhook_subscriptions (id, version, agent_id, agent_name, webhook_url, events, platform, is_active, enabled_at, sealed_api_key,
		  secrets, body_hash, created_at, updated_at)
		values ('sub_a', 1, 'agent_a', '', '', '{}', false, true, now(), '', '[]', '', now(), now());
		insert into webhook_health (subscription_id, agent_id, failed_attempts) values ('sub_a', 'agent_a', 5)`)
	for host, want := range map[string]int64{"host_a": 2, "host_b": 0, "": 0, `\' or true --`: 0} {
		sql := `select get_unread_notification_count(` + quoted(host) + `)`
		if n, err := inRole(t, c, store.RoleAPI, store.Scope{Host: "host_a"}, sql); err != nil || n != want {
			t.Errorf("host_a counts %d of %q (%v), want %d", n, host, err, want)
		}
		if n, err := inRole(t, c, store.RoleAPI, store.Scope{Agent: "agent_a", Platform: true}, sql); err != nil || n != 0 {
			t.Errorf("the platform counts %d of %q (%v)", n, host, err)
		}
	}
	if n, err := inRole(t, c, store.RoleAPI, store.Scope{Host: "host_a"}, `select get_unread_notification_count('host_a', 1)`); err != nil || n != 1 {
		t.Errorf("of two it counts %d when it may count one, %v", n, err)
	}
	for call, want := range map[string]int64{
		`cleanup_expired_notifications()`: 2, `cleanup_expired_notifications(1)`: 1, `disable_failed_webhook_subscriptions()`: 1,
		`krib_drop_attempt_partitions(now() - interval '1 year')`: 0,
	} {
		if n, err := inRole(t, c, store.RoleJobs, store.Scope{}, `select `+call); err != nil || n != want {
			t.Errorf("%s is %d (%v), want %d", call, n, err, want)
		}
		for _, role := range []store.Role{store.RoleAPI, store.RoleSink, store.RoleRelay} {
			if _, err := inRole(t, c, role, store.Scope{Agent: "agent_a", Host: "host_a", Platform: true, Admin: true}, `select `+call); !refused(err) {
				t.Errorf("%s may call %s: %v", role, call, err)
			}
		}
	}
}

func quoted(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// Rows that somebody changes by hand get a new updated_at; what says its own
// moment keeps it, for the event says the same.
func TestARowThatIsChangedWithoutAMomentGetsOne(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	c := connect(t, database)
	for _, w := range witnesses {
		exec(t, database, w.row)
	}
	exec(t, database, `insert into sink_offsets (topic_id, partition, next_offset) values ('t', 0, 0)`)
	changes := map[string]string{
		"properties": "title = 'other'", "bookings": "guests = 2", "webhook_subscriptions": "agent_name = 'other'", "host_notifications": "read_at = now()",
		"host_settings": "instant_approval = true", "sink_offsets": "next_offset = 1",
	}
	const long = `timestamptz '2001-02-03 04:05:06.789012+00'`
	rows, _ := c.Query(t.Context(), `select table_name::text from information_schema.columns join information_schema.tables using (table_schema, table_name)
		where table_schema = 'public' and column_name = 'updated_at' and table_type = 'BASE TABLE'`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	since := func(table string) (is bool) {
		t.Helper()
		if err := c.QueryRow(t.Context(), `select bool_and(updated_at = `+long+`) from `+table).Scan(&is); err != nil {
			t.Fatal(err)
		}
		return is
	}
	for _, table := range tables {
		change, known := changes[table]
		if !known {
			t.Errorf("%s has an updated_at: give the test a change of it", table)
			continue
		}
		exec(t, database, `update `+table+` set updated_at = `+long+`, `+change)
		if !since(table) {
			t.Errorf("the trigger of %s overwrote a moment that was said", table)
		}
		exec(t, database, `update `+table+` set `+change)
		if since(table) {
			t.Errorf("a change of %s leaves updated_at as it was", table)
		}
	}
	exec(t, database, `update host_notifications set updated_at = `+long)
	exec(t, database, `update host_notifications set log_offset = 7`)
	if !since("host_notifications") {
		t.Error("the sink's own mark counts as a change of the notification")
	}
}
