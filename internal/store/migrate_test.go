package store_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func exec(t *testing.T, db, sql string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	if _, err := c.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
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
			_, err := tx.InsertAttempts(ctx, []schemas.Attempt{{DeliveryID: id, Number: 1, SubscriptionID: "sub_1", StartedAt: at, DeliveryCreatedAt: odd}})
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
