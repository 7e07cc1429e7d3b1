package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/internal/embedded"
	"github.com/krib-ai/krib/internal/store"
)

// stopWithin bounds what is done after a test, whose own context has ended.
const stopWithin = 30 * time.Second

// shared is the one cluster of this test process. A start takes a second or two,
// so it happens once, at the first test that asks.
var shared = cluster{spares: make(chan string, spare), failed: make(chan error, 1)}

type cluster struct {
	mu       sync.Mutex
	err      error // of the first start; it would not go better a second time
	base     string
	template string // the migrated database, empty until a test asks for a copy
	server   *embedded.Postgres
	dir      string

	// Copies are made ahead and dropped behind, both while tests run: together they
	// are as long as a short test.
	spares chan string
	behind sync.WaitGroup
	failed chan error // the first error of a drop; the cap is one
}

// spare is how many copies of the template wait for the next test.
const spare = 2

// PostgresURL is a fresh, empty database in this process's cluster: the server of
// DATABASE_URL when that is set, else one of our own. After the test it takes no
// connection, those that are open end, and it is dropped.
func PostgresURL(tb testing.TB) string {
	tb.Helper()
	base, err := shared.url(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	name := databaseName()
	if err := create(tb.Context(), base, name, ""); err != nil {
		tb.Fatal(err)
	}
	return lend(tb, base, name)
}

// Database is a fresh database with every migration done, copied from one that
// was migrated once in this process.
func Database(tb testing.TB) string {
	tb.Helper()
	base, template, err := shared.migrated(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	select {
	case name := <-shared.spares:
		shared.prepare(base, template)
		return lend(tb, base, name)
	default: // the first test, or several at once
	}
	name := databaseName()
	if err := create(tb.Context(), base, name, template); err != nil {
		tb.Fatal(err)
	}
	return lend(tb, base, name)
}

// lend closes the database at the test's end, and has it dropped while others run.
func lend(tb testing.TB, base, name string) string {
	tb.Helper()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), stopWithin)
		defer cancel()
		if err := run(ctx, base, fmt.Sprintf(`alter database %[1]s with allow_connections false;
			select pg_terminate_backend(pid) from pg_stat_activity where datname = '%[1]s'`, name)); err != nil {
			tb.Errorf("closing database %s: %v", name, err)
		}
		after := context.WithoutCancel(tb.Context())
		shared.behind.Go(func() {
			ctx, cancel := context.WithTimeout(after, stopWithin)
			defer cancel()
			if err := drop(ctx, base, name); err != nil {
				select {
				case shared.failed <- err:
				default:
				}
			}
		})
	})
	return withDatabase(base, name)
}

// prepare makes one more spare copy, unless there are enough. A copy that fails is
// tried again by the test that needs it, which reports the error.
func (c *cluster) prepare(base, template string) {
	c.behind.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		name := databaseName()
		if create(ctx, base, name, template) != nil {
			return
		}
		select {
		case c.spares <- name:
		default:
			_ = drop(ctx, base, name) // it goes with the cluster otherwise
		}
	})
}

// databaseName is never one of another process on the same server.
func databaseName() string { return "krib_test_" + strings.ToLower(rand.Text()) }

func create(ctx context.Context, base, name, template string) error {
	statement := "create database " + name
	if template != "" {
		statement += " template " + template
	}
	if err := run(ctx, base, statement); err != nil {
		return fmt.Errorf("creating database %s: %w", name, err)
	}
	return nil
}

func drop(ctx context.Context, base, name string) error {
	if err := run(ctx, base, "drop database if exists "+name+" with (force)"); err != nil {
		return fmt.Errorf("dropping database %s: %w", name, err)
	}
	return nil
}

func run(ctx context.Context, base, statement string) error {
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, statement)
	return err
}

func withDatabase(base, name string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base // checked when it was read
	}
	u.Path = "/" + name
	return u.String()
}

func (c *cluster) url(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.start(ctx)
}

// start is called under the lock.
func (c *cluster) start(ctx context.Context) (string, error) {
	if c.base != "" || c.err != nil {
		return c.base, c.err
	}
	if given := os.Getenv(databaseURL); given != "" {
		if u, err := url.Parse(given); err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
			c.err = fmt.Errorf("%s is not of the form postgres://user:password@host/database", databaseURL)
			return "", c.err
		}
		c.base = given
		return c.base, nil
	}
	if c.dir, c.err = os.MkdirTemp("", "krib-test-postgres-"); c.err != nil {
		return "", c.err
	}
	// The cluster outlives the test that starts it.
	ctx = context.WithoutCancel(ctx)
	c.server, c.err = embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: c.dir, Throwaway: true})
	if c.err != nil {
		return "", c.err
	}
	c.base = c.server.URL()
	return c.base, nil
}

// migrated makes the template once. A migration that fails fails every test that
// asks, each with its reason.
func (c *cluster) migrated(ctx context.Context) (base, template string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if base, err = c.start(ctx); err != nil || c.template != "" {
		return base, c.template, err
	}
	name := databaseName()
	if err := create(ctx, base, name, ""); err != nil {
		return "", "", err
	}
	c.template = name
	if err := store.Migrate(ctx, withDatabase(base, name)); err != nil {
		c.template = ""
		return "", "", errors.Join(fmt.Errorf("migrating the template: %w", err), drop(ctx, base, name))
	}
	for range spare {
		c.prepare(base, name)
	}
	return base, name, nil
}

func (c *cluster) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	c.behind.Wait()
	var errs []error
	select {
	case err := <-c.failed:
		errs = append(errs, err)
	default:
	}
	for c.server == nil && len(c.spares) > 0 {
		errs = append(errs, drop(ctx, c.base, <-c.spares))
	}
	if c.template != "" && c.server == nil {
		errs = append(errs, drop(ctx, c.base, c.template))
	}
	if c.server != nil {
		errs = append(errs, c.server.Stop(ctx))
	}
	if c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}
