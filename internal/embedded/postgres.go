package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	database = "krib"
	// A server that was killed first replays its log, which may take a while.
	startWithin = time.Minute
	// How long an immediate shutdown gets, and a server that was found running, to
	// answer.
	quitWithin = 10 * time.Second
	lookEvery  = 20 * time.Millisecond
)

// PostgresOptions say where the cluster lives and what it is for.
type PostgresOptions struct {
	// Dir holds the cluster, its password and the server's log. It is made when
	// missing. Required.
	Dir string
	// Logger hears of what was found broken and repaired. Nil discards it.
	Logger *slog.Logger
	// Throwaway is for tests: nothing is synced to disk, and when this process dies,
	// even by a kill, the server dies and what is in Dir is removed.
	Throwaway bool
}

// Postgres is a PostgreSQL server of our own, on a port of the loopback address
// that is another one after each start. It outlives this process if nobody calls
// Stop, unless it is a throwaway; the next start takes it over.
type Postgres struct {
	dir, data string
	throwaway bool
	log       *slog.Logger
	lock      *folderLock
	bin       binaries
	account   account
	password  string
	pid, port int
	exited    chan struct{} // closed when our child is reaped; nil when adopted
}

// StartPostgres returns when the server answers and the database "krib" exists.
// A server that a killed process left running on o.Dir is adopted, or stopped if
// it does not answer: there are never two on the same data. The caller stops what
// it gets; ctx bounds the start only. The error of a server that does not start
// ends with its last words.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	p := &Postgres{throwaway: o.Throwaway, log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler))}
	if err := p.enter(o.Dir); err != nil {
		return nil, fmt.Errorf("starting postgres: %w", err)
	}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting postgres in %s: %w", p.dir, err), p.lock.release())
	}
	return p, nil
}

// enter makes the folder ours.
func (p *Postgres) enter(dir string) error {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711 // another user passes through to the data, and sees nothing
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	// The server's command line names its data, which is how a later start knows it:
	// one name, however the folder was called.
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("following %s: %w", dir, err)
	}
	if p.dir, err = filepath.Abs(real); err != nil {
		return fmt.Errorf("finding %s: %w", dir, err)
	}
	p.data = filepath.Join(p.dir, dataName)
	p.lock, err = lockFolder(p.dir)
	return err
}

func (p *Postgres) start(ctx context.Context) error {
	adopted, err := p.adopt(ctx)
	if err != nil {
		return err
	}
	if !adopted {
		if err := p.bringUp(ctx); err != nil {
			return err
		}
	}
	if err := p.createDatabase(ctx); err != nil {
		return errors.Join(err, p.stop(ctx))
	}
	return nil
}

func (p *Postgres) bringUp(ctx context.Context) error {
	major, err := clusterMajor(p.dir)
	if err != nil {
		return err
	}
	if p.bin, err = findBinaries(ctx, major); err != nil {
		return err
	}
	if p.account, err = chooseAccount(p.dir, p.bin); err != nil {
		return err
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	return p.launch(ctx)
}

// URL is what clients dial: the database "krib" as its superuser. It holds the
// password.
func (p *Postgres) URL() string { return p.url(database) }

func (p *Postgres) url(db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, p.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Stop ends every connection, writes what is in memory and waits for the server
// to be gone. When ctx ends first the server is told to quit at once: nothing is
// lost, the next start takes longer. A throwaway is always told so.
func (p *Postgres) Stop(ctx context.Context) error {
	err := p.stop(ctx)
	if e := p.lock.release(); e != nil && !errors.Is(e, os.ErrClosed) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("stopping postgres: %w", err)
	}
	return nil
}

func (p *Postgres) stop(ctx context.Context) error {
	if p.gone() {
		return nil
	}
	if !p.throwaway {
		// Fast shutdown; SIGTERM would wait for clients to leave by themselves.
		if err := syscall.Kill(p.pid, syscall.SIGINT); err != nil {
			return fmt.Errorf("asking process %d to end: %w", p.pid, err)
		}
		if p.waitGone(ctx) {
			return nil
		}
	}
	if err := syscall.Kill(p.pid, syscall.SIGQUIT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("telling process %d to quit: %w", p.pid, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), quitWithin)
	defer cancel()
	if !p.waitGone(ctx) {
		return fmt.Errorf("process %d does not quit", p.pid)
	}
	return nil
}

// gone says whether the server has ended: our child by being reaped, an adopted
// one by its pid, which may be another program's by now.
func (p *Postgres) gone() bool {
	if p.exited == nil {
		return identify(p.pid, p.data) != ours
	}
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *Postgres) waitGone(ctx context.Context) bool {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !p.gone() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// waitReady connects until it works, the server ends, or ctx does.
func (p *Postgres) waitReady(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		err := p.ping(ctx)
		if err == nil {
			return nil
		}
		if p.gone() {
			return errGone
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the server to answer: %w", err)
		}
	}
}

func (p *Postgres) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.url("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (p *Postgres) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.url("postgres"))
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var exists bool
	err = conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, database).Scan(&exists)
	if err != nil {
		return fmt.Errorf("looking for database %s: %w", database, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, `create database `+database); err != nil {
		return fmt.Errorf("creating database %s: %w", database, err)
	}
	return nil
}
