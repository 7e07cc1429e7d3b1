package store_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func exec(t *testing.T, db, query string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	if _, err := c.Exec(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// An installation's user is seldom a superuser. It may create roles and owns its
// database; the functions that look over row level security run as it.
func TestAPlainOwnerCanMigrateAndServe(t *testing.T) {
	t.Parallel()
	testenv.Database(t) // its migration, a superuser's, has made the cluster's roles
	admin := testenv.PostgresURL(t)
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	name := "owner_" + strings.TrimPrefix(u.Path, "/")
	exec(t, admin, `create role `+name+` login createrole password 'pw'`)
	exec(t, admin, `alter database `+strings.TrimPrefix(u.Path, "/")+` owner to `+name)
	t.Cleanup(func() {
		c, err := pgx.Connect(context.WithoutCancel(t.Context()), admin)
		if err != nil {
			return
		}
		_, _ = c.Exec(context.WithoutCancel(t.Context()), `drop owned by `+name+`; drop role `+name)
		_ = c.Close(context.WithoutCancel(t.Context()))
	})
	exec(t, admin, `grant krib_api, krib_relay, krib_sink, krib_jobs to `+name+` with admin option`)
	u.User = url.UserPassword(name, "pw")
	owner := u.String()
	if err := store.Migrate(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	exec(t, owner, `insert into hosts (id, name) values ('host_1', 'H')`)
	exec(t, owner, `insert into host_settings (host_id, webhook_notifications) values ('host_1', false)`)
	db, err := store.Open(t.Context(), owner, store.RoleAPI, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Read(t.Context(), store.Scope{Agent: "agent_1"}, func(ctx context.Context, tx *store.Tx) error {
		p, err := tx.HostPolicy(ctx, "host_1")
		if p.Webhooks {
			t.Error("the function does not see the host's setting")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// schemaAt goes to a version of the schema, and back up to the last one.
func schemaAt(t *testing.T, url string, version int64) (up func()) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	files, err := fs.Sub(store.Migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := p.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// What confirmed before goes on confirming; what is over, or never could, gets nothing.
func TestKeysInUseGoOnConfirmingAfterTheMigration(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	up := schemaAt(t, url, 18)
	exec(t, url, `insert into agents (id, name) values ('a', 'A')`)
	exec(t, url, `insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes, platform, revoked_at, expires_at, rate_limit_per_minute) values
		('live', 'a', 'k', sha256('1'), 'p', '{bookings:read,bookings:write}', false, null, null, 0),
		('ends', 'a', 'k', sha256('2'), 'p', '{bookings:write}', false, null, now() + interval '1 hour', 0),
		('platform', 'a', 'k', sha256('3'), 'p', '{bookings:write,webhooks:manage}', true, null, null, 0),
		('reader', 'a', 'k', sha256('4'), 'p', '{bookings:read,events:read}', false, null, null, 0),
		('revoked', 'a', 'k', sha256('5'), 'p', '{bookings:write}', false, now(), null, 0),
		('expired', 'a', 'k', sha256('6'), 'p', '{bookings:write}', false, null, now() - interval '1 second', 0)`)
	up()
	got := map[string]string{}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	rows, err := pool.Query(t.Context(), `select id, array_to_string(scopes, ' ') from api_keys`)
	if err != nil {
		t.Fatal(err)
	}
	var id, scopes string
	if _, err := pgx.ForEachRow(rows, []any{&id, &scopes}, func() error { got[id] = scopes; return nil }); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"live": "bookings:read bookings:write bookings:confirm", "ends": "bookings:write bookings:confirm",
		"platform": "bookings:write webhooks:manage bookings:confirm", "reader": "bookings:read events:read", "revoked": "bookings:write", "expired": "bookings:write",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scopes (-want +got):\n%s", diff)
	}
}

func TestManyMayMigrateAtOnce(t *testing.T) {
	t.Parallel()
	one, other := testenv.PostgresURL(t), testenv.PostgresURL(t)
	var wg sync.WaitGroup
	for i := range 6 {
		db := one
		if i%2 == 1 {
			db = other
		}
		wg.Go(func() {
			if err := store.Migrate(t.Context(), db); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Every scope's literal reaches the server inside a statement without
// parameters.
func TestAScopeIsQuotedWhateverItHolds(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), testenv.Database(t), store.RoleAPI, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, id := range []string{`'`, `\`, `\'`, `'); drop table bookings; --`, "a\x00b", `"`, "é\n", `E'\047`} {
		err := db.Read(t.Context(), store.Scope{Agent: schemas.AgentID(id), Host: schemas.HostID(id)}, func(ctx context.Context, tx *store.Tx) error {
			_, _, err := tx.UnreadNotifications(ctx, schemas.HostID(strings.ReplaceAll(id, "\x00", "")))
			return err
		})
		if err != nil {
			t.Errorf("scope %q: %v", id, err)
		}
	}
}

// Two transactions lock the same homes in opposite orders. Postgres ends one of
// them; it runs again, and neither caller learns of it.
func TestADeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), testenv.Database(t), store.RoleJobs, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	homes := []schemas.PropertyID{"prop_a", "prop_b"}
	for i, id := range homes {
		s := store.Seed{AgentID: "agent_1", KeyID: "key_1", KeyHash: make([]byte, 32), Scopes: []string{}, HostID: "host_1"}
		s.Property = store.Property{ID: id, Title: "Home", Currency: "AED", PricePerNight: 100, MaxGuests: 1 + i, TimeZone: "UTC"}
		if err := db.Update(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error { return tx.PlantSeed(ctx, s) }); err != nil {
			t.Fatal(err)
		}
	}
	var both, done sync.WaitGroup
	both.Add(2)
	var runs atomic.Int32
	for i := range 2 {
		done.Go(func() {
			first := true
			err := db.Update(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
				runs.Add(1)
				if _, err := tx.LockStay(ctx, homes[i], "2027-01-01", "2027-01-02"); err != nil {
					return err
				}
				if first {
					first = false
					both.Done()
					both.Wait()
				}
				_, err := tx.LockStay(ctx, homes[1-i], "2027-01-01", "2027-01-02")
				return err
			})
			if err != nil {
				t.Errorf("transaction %d: %v", i, err)
			}
		})
	}
	done.Wait()
	if n := runs.Load(); n < 3 {
		t.Errorf("%d runs: there was no deadlock to try again", n)
	}
}

func TestAnErrorOfTheCommandIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), testenv.Database(t), store.RoleAPI, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	boom, runs := errors.New("a rule"), 0
	err = db.Update(t.Context(), store.Scope{}, func(context.Context, *store.Tx) error {
		runs++
		return boom
	})
	if !errors.Is(err, boom) || runs != 1 {
		t.Errorf("got %v after %d runs", err, runs)
	}
}

// A row from an odd clock lies in the default partition when its month's own is
// to be made. That month stays there, and the sink goes on.
func TestAnOddClockDoesNotStopTheAttempts(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), testenv.Database(t), store.RoleSink, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	odd := time.Now().AddDate(0, 3, 0)
	write := func(id schemas.DeliveryID, at time.Time) {
		t.Helper()
		err := db.Update(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
			if err := tx.EnsureAttemptPartitions(ctx, at); err != nil {
				return err
			}
			_, err := tx.InsertAttempts(ctx, []schemas.Attempt{{DeliveryID: id, Number: 1, SubscriptionID: "sub_1", Outcome: schemas.Delivered, StartedAt: at, DeliveryCreatedAt: odd}})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write("dlv_1", time.Now())
	write("dlv_2", time.Now().AddDate(0, 2, 0))
	write("dlv_3", odd)
}
