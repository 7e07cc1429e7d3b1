package store_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
)

// witnesses are rows of agent_a and host_a, in an order that foreign keys allow.
// Each table on which the API's role has rights has one here or stands in shared;
// a table that is in neither fails the test.
var witnesses = []struct{ table, row string }{
	{"agents", `insert into agents (id, name) values ('agent_a', 'A')`},
	{"api_keys", `insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes) values ('key_a', 'agent_a', 'A', sha256('a'), 'krib_test_a', '{bookings:read}')`},
	{"hosts", `insert into hosts (id, name) values ('host_a', 'A')`},
	{"host_settings", `insert into host_settings (host_id) values ('host_a')`},
	{"properties", `insert into properties (id, host_id, title, address, city, state, country, property_type, bedrooms, bathrooms, max_guests, status, currency, price_per_night)
		values ('prop_a', 'host_a', '', '', '', '', '', '', 1, 1, 1, 'draft', 'AED', 1)`},
	{"bookings", `insert into bookings (id, version, agent_id, host_id, property_id, status, check_in, check_out, guests, guest_first_name, guest_last_name,
		guest_email, guest_phone, guest_country_code, special_requests, total_amount, currency, payment_method, created_at, updated_at)
		values ('bkg_a', 1, 'agent_a', 'host_a', 'prop_a', 'pending', '2030-01-01', '2030-01-02', 1, '', '', '', '', '', '', 1, 'AED', '', now(), now())`},
	{"idempotency_keys", `insert into idempotency_keys (caller, method, path, key, body_hash) values ('agent:agent_a', 'POST', '/', 'k', '')`},
	{"idempotency_keys", `insert into idempotency_keys (caller, method, path, key, body_hash) values ('host:host_a', 'POST', '/', 'k', '')`},
	{"webhook_subscriptions", `insert into webhook_subscriptions (id, version, agent_id, agent_name, webhook_url, events, platform, is_active, enabled_at,
		sealed_api_key, secrets, body_hash, created_at, updated_at) values ('sub_a', 1, 'agent_a', '', '', '{}', false, true, now(), '', '[]', '', now(), now())`},
	{"webhook_health", `insert into webhook_health (subscription_id, agent_id) values ('sub_a', 'agent_a')`},
	{"webhook_attempts", `insert into webhook_attempts (delivery_id, run, number, event_id, event_type, subscription_id, agent_id, booking_id, trigger, started_at,
		duration_ms, outcome, final, status, error_class, error, response_body, delivery_created_at)
		values ('dlv_a', 0, 1, '', '', 'sub_a', 'agent_a', '', '', now(), 0, '', true, 200, '', '', '', now())`},
	{"webhook_replays", `insert into webhook_replays (id, agent_id, subscription_id, run, trigger, dry_run, booking_id, event_types, only_failed, delivery_id,
		lease_until, created_at, saved_at) values ('rpl_a', 'agent_a', 'sub_a', 1, 'replay', false, '', '{}', false, '', now(), now(), now())`},
	{"webhook_deliveries", `insert into webhook_deliveries (delivery_id, run, created_at, subscription_id, agent_id, event_id, event_type, booking_id, trigger, state,
		attempts, last_number, status, error_class, first_attempt_at, last_attempt_at) values ('dlv_a', 0, now(), 'sub_a', 'agent_a', '', '', '', '', 'delivered', 1, 1, 200, '', now(), now())`},
	{"webhook_statistics", `insert into webhook_statistics values ('sub_a', 'agent_a', 5, now(), 1, 0, 0, 0, 1, 0, '{1}')`},
	{"payments", `insert into payments (id, booking_id, agent_id, host_id, provider, reference, method, amount, currency, created_at)
		values ('pay_a', 'bkg_a', 'agent_a', 'host_a', '', '', '', 1, 'AED', now())`},
	{"stripe_events", `insert into stripe_events (id, type, booking_id) values ('evt_a', '', 'bkg_a')`},
	{"stripe_refunds", `insert into stripe_refunds (payment, id, charge, amount, failed) values ('pi_a', 're_a', false, 1, false)`},
	{"stream_tickets", `insert into stream_tickets (hash, host_id, until, expires_at) values ('\x01', 'host_a', now() + interval '1 hour', now() + interval '1 minute')`},
	{"host_notifications", `insert into host_notifications (id, host_id, type, title, message, booking_id, property_id, priority, action_required, action_url, created_at, updated_at)
		values ('ntf_a', 'host_a', 'urgent', '', '', '', '', 'high', false, '', now(), now())`},
}

// shared are relations whose rows are nobody's, with all that the API's role may
// do to them.
var shared = map[string]string{
	"outbox":              "INSERT", // commands write it; what has been written is the relay's
	"sink_offsets":        "SELECT", // positions, which the cursor of a list is made of
	"krib_host_switches":  "SELECT", // what a booking's changes need of its host's settings
	"krib_market":         "SELECT", // the active homes, which every caller may read
	"krib_property_names": "SELECT", // what a booking shows of its home, also after that left the market
}

var verbs = []string{"SELECT", "INSERT", "UPDATE", "DELETE"}

// strangers see nothing that is agent_a's or host_a's.
var strangers = []store.Scope{
	{},
	{Agent: "agent_b"},
	{Host: "host_b"},
	{Agent: "agent_b", Host: "host_b"},
	{Agent: "host_a", Host: "agent_a"}, // an id is of its own kind
	{Agent: "agent_a' or true --", Host: `\' or true --`},
}

// A relation is what pg_catalog says of a table or a view.
type relation struct {
	Name           string
	Enabled, Force bool     // row level security
	Verbs          []string // on any column
	Updates        []string // the columns that may be updated
	Columns        []string // the columns that can be inserted
}

func relations(t *testing.T, c *pgx.Conn) []relation {
	t.Helper()
	rows, _ := c.Query(t.Context(), `
		select c.relname, c.relrowsecurity, c.relforcerowsecurity,
		  array(select v from unnest($1::text[]) v where has_table_privilege('krib_api', c.oid, v) or v <> 'DELETE' and has_any_column_privilege('krib_api', c.oid, v)),
		  array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		    and has_column_privilege('krib_api', c.oid, a.attnum, 'UPDATE')),
		  array(select quote_ident(a.attname) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = '')
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
		order by c.relname`, verbs)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A session acts as the API's role, in a scope.
type session struct {
	t    *testing.T
	conn *pgx.Conn
}

func login(t *testing.T, database string) session {
	t.Helper()
	c := connect(t, database)
	// A superuser can take the role on as if it had logged in as it; others act as it.
	if _, err := c.Exec(t.Context(), `set session authorization krib_api`); err != nil {
		if _, err := c.Exec(t.Context(), `set role krib_api`); err != nil {
			t.Fatal(err)
		}
	}
	return session{t, c}
}

func connect(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

// try runs a statement in a scope and takes back what it did. It returns the
// number of rows.
func (s session) try(scope store.Scope, sql string, args ...any) (int64, error) {
	s.t.Helper()
	tx, err := s.conn.Begin(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(s.t.Context()) }()
	on := map[bool]string{true: "on"}
	_, err = tx.Exec(s.t.Context(), `select set_config('krib.agent_id', $1, true), set_config('krib.host_id', $2, true),
		set_config('krib.platform', $3, true), set_config('krib.admin', $4, true)`, string(scope.Agent), string(scope.Host), on[scope.Platform], on[scope.Admin])
	if err != nil {
		s.t.Fatal(err)
	}
	tag, err := tx.Exec(s.t.Context(), sql, args...)
	return tag.RowsAffected(), err
}

func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501" // insufficient_privilege, also a row that a policy refuses
}

func TestTheAPIsRoleCannotTouchWhatIsOthersInAnyTable(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	owner, api := connect(t, database), login(t, database)
	have := map[string]bool{}
	for _, w := range witnesses {
		if _, err := owner.Exec(t.Context(), w.row); err != nil {
			t.Fatalf("%s: %v", w.table, err)
		}
		have[w.table] = true
	}
	for _, r := range relations(t, owner) {
		may, isShared := shared[r.Name]
		switch {
		case len(r.Verbs) == 0 || isShared:
			mayOnly(api, &r, may)
		case !have[r.Name]:
			t.Errorf("krib_api may %v %s: give the test a row of it that is agent_a's or host_a's", r.Verbs, r.Name)
		case !r.Enabled || !r.Force:
			t.Errorf("%s has no row level security, or does not force it", r.Name)
		default:
			hidden(api, owner, &r)
		}
	}
}

// mayOnly holds the role's rights on a relation without row level security to
// the verb, if any.
func mayOnly(api session, r *relation, may string) {
	api.t.Helper()
	if got := strings.Join(r.Verbs, " "); got != may {
		api.t.Errorf("krib_api may %q %s, want %q", got, r.Name, may)
	}
	column := r.Columns[0]
	for verb, sql := range map[string]string{
		"SELECT": `select * from ` + r.Name, "DELETE": `delete from ` + r.Name,
		"INSERT": `insert into ` + r.Name + ` default values`, "UPDATE": `update ` + r.Name + ` set ` + column + ` = default`,
	} {
		for _, scope := range []store.Scope{{Agent: "agent_b"}, {Agent: "agent_b", Platform: true}, {Host: "host_b"}} {
			if _, err := api.try(scope, sql); verb != may && !refused(err) {
				api.t.Errorf("%s by %+v: %v, want it refused", sql, scope, err)
			}
		}
	}
}

// hidden tries everything on a table whose only rows are agent_a's and host_a's.
func hidden(api session, owner *pgx.Conn, r *relation) {
	t := api.t
	t.Helper()
	all := store.Scope{Agent: "agent_a", Host: "host_a", Platform: true, Admin: true}
	count := `select ` + one(api, r) + ` from ` + r.Name
	if n, err := api.try(all, count); err != nil || n == 0 {
		t.Errorf("the owner sees %d rows of %s, %v: the test would show nothing", n, r.Name, err)
	}
	var rows []string
	got, _ := owner.Query(t.Context(), `select to_jsonb(t)::text from `+r.Name+` t`)
	rows, err := pgx.CollectRows(got, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	columns := strings.Join(r.Columns, ", ")
	for _, scope := range strangers {
		if n, err := api.try(scope, count); err != nil || n != 0 {
			t.Errorf("%+v reads %d rows of %s, %v", scope, n, r.Name, err)
		}
		if n, err := api.try(scope, `delete from `+r.Name); !refused(err) && (err != nil || n != 0) {
			t.Errorf("%+v deletes %d rows of %s, %v", scope, n, r.Name, err)
		}
		for _, c := range r.Updates {
			c = pgx.Identifier{c}.Sanitize()
			if n, err := api.try(scope, `update `+r.Name+` set `+c+` = `+c); !refused(err) && (err != nil || n != 0) {
				t.Errorf("%+v updates %s in %d rows of %s, %v", scope, c, n, r.Name, err)
			}
		}
		for _, row := range rows {
			_, err := api.try(scope, `insert into `+r.Name+` (`+columns+`) select `+columns+` from jsonb_populate_record(null::`+r.Name+`, $1::jsonb)`, row)
			if !refused(err) {
				t.Errorf("%+v inserts into %s what is another's: %v", scope, r.Name, err)
			}
		}
	}
}

// one is a column that the role may read.
func one(api session, r *relation) string {
	api.t.Helper()
	for _, c := range r.Columns {
		if _, err := api.try(store.Scope{}, `select `+c+` from `+r.Name); err == nil {
			return c
		}
	}
	api.t.Errorf("krib_api can read no column of %s", r.Name)
	return "*"
}

// An active home is on the market, and booking it locks its row; all the same it
// stays its host's.
func TestAHostCannotMakeAnothersHomeItsOwn(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	exec(t, database, `insert into hosts (id, name) values ('host_a', 'A'), ('host_b', 'B')`)
	exec(t, database, `insert into properties (id, host_id, title, address, city, state, country, property_type, bedrooms, bathrooms, max_guests, status, currency, price_per_night)
		values ('prop_a', 'host_a', '', '', '', '', '', '', 1, 1, 1, 'active', 'AED', 1)`)
	api := login(t, database)
	for _, sql := range []string{
		`update properties set host_id = 'host_b'`, `update properties set host_id = 'host_b', title = 'mine'`,
		`update properties set id = 'prop_b'`, `update properties set price_per_night = 2`,
	} {
		for _, scope := range []store.Scope{{Host: "host_b"}, {Agent: "agent_b"}, {Agent: "agent_b", Platform: true}} {
			if n, err := api.try(scope, sql); !refused(err) {
				t.Errorf("%s by %+v: %d rows, %v", sql, scope, n, err)
			}
		}
	}
	for scope, sql := range map[store.Scope]string{
		{Host: "host_a"}: `update properties set price_per_night = 2`, {Agent: "agent_b"}: `select id from properties for no key update`,
	} {
		if n, err := api.try(scope, sql); err != nil || n != 1 {
			t.Errorf("%s by %+v: %d rows, %v", sql, scope, n, err)
		}
	}
}

// A host answers bookings and makes none, least of all in an agent's name.
func TestAHostCannotForgeABooking(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	for _, w := range witnesses[:5] {
		exec(t, database, w.row)
	}
	api := login(t, database)
	forge := witnesses[slices.IndexFunc(witnesses, func(w struct{ table, row string }) bool { return w.table == "bookings" })].row
	if _, err := api.try(store.Scope{Host: "host_a"}, forge); !refused(err) {
		t.Errorf("a host made a booking: %v", err)
	}
	if n, err := api.try(store.Scope{Agent: "agent_a"}, forge); err != nil || n != 1 {
		t.Errorf("the agent could not: %v", err)
	}
}

// Not even the platform's sight shows keys, and nobody reads a hash or widens a
// key that is there.
func TestKeysAreForAdministratorsAndTheirHashesForNobody(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	exec(t, database, witnesses[0].row)
	exec(t, database, witnesses[1].row)
	api := login(t, database)
	platform, admin := store.Scope{Agent: "agent_a", Platform: true}, store.Scope{Agent: "agent_b", Platform: true, Admin: true}
	for _, table := range []string{"agents", "api_keys"} {
		if n, err := api.try(platform, `select id from `+table); err != nil || n != 0 {
			t.Errorf("the platform sees %d rows of %s, %v", n, table, err)
		}
		if n, err := api.try(admin, `select id from `+table); err != nil || n != 1 {
			t.Errorf("an administrator sees %d rows of %s, %v", n, table, err)
		}
	}
	for _, sql := range []string{
		`select key_hash from api_keys`, `select * from api_keys`, `update api_keys set scopes = '{admin}', platform = true`, `update api_keys set platform = true`,
		`update api_keys set key_hash = sha256('b')`, `update api_keys set agent_id = 'agent_b'`, `update api_keys set rate_limit_per_minute = 0`, `delete from api_keys`,
	} {
		if _, err := api.try(admin, sql); !refused(err) {
			t.Errorf("%s: %v, want it refused", sql, err)
		}
	}
}

// What none of the roles may be, for policies to hold.
func TestNoRoleCanStepOverRowLevelSecurity(t *testing.T) {
	t.Parallel()
	c := connect(t, testenv.Database(t))
	roles := []string{string(store.RoleAPI), string(store.RoleRelay), string(store.RoleSink), string(store.RoleJobs)}
	for what, sql := range map[string]string{
		"is more than a plain role":       `select rolname from pg_roles where rolname = any($1) and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication or rolcanlogin)`,
		"owns something":                  `select distinct refobjid::regrole::text from pg_shdepend where deptype = 'o' and refclassid = 'pg_authid'::regclass and refobjid in (select oid from pg_roles where rolname = any($1))`,
		"can become another role":         `select distinct member::regrole::text from pg_auth_members where member in (select oid from pg_roles where rolname = any($1))`,
		"can make tables in the schema":   `select r from unnest($1::text[]) r where has_schema_privilege(r, 'public', 'CREATE')`,
		"is shown more by a policy":       `select tablename from pg_policies where 'public' = any(roles) and $1::text[] is not null`,
		"gets a function's rights (all)":  `select proname from pg_proc where prosecdef and pronamespace = 'public'::regnamespace and has_function_privilege('public', oid, 'EXECUTE') and $1::text[] is not null`,
		"gets a function's path from you": `select proname from pg_proc where prosecdef and pronamespace = 'public'::regnamespace and not coalesce(array_to_string(proconfig, ' ') ~ 'search_path=.*pg_temp$', false) and $1::text[] is not null`,
	} {
		rows, _ := c.Query(t.Context(), sql, roles)
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(found) > 0 {
			t.Errorf("%s: %v", what, found)
		}
	}
}
