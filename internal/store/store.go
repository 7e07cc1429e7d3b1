// Package store is the only package that speaks SQL. Each query stands beside
// its function, and what a function returns is made of the words of package
// schemas.
//
// Every query runs inside a transaction of [DB.Update] or [DB.Read] that is
// scoped to its caller, under a role that cannot step over row level security:
// a forgotten where clause shows nothing of others.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/schemas"
)

// A Role is the Postgres role that a pool's sessions act as.
type Role string

// The roles. Each can do its own job only; see the first migration.
const (
	RoleAPI   Role = "krib_api"
	RoleRelay Role = "krib_relay"
	RoleSink  Role = "krib_sink"
	RoleJobs  Role = "krib_jobs"
)

// A Scope says on whose behalf a transaction runs; row level security shows it
// nothing else. The zero Scope sees nothing that belongs to somebody.
type Scope struct {
	Agent    schemas.AgentID
	Platform bool // sees every agent's rows
	Host     schemas.HostID
	Admin    bool // sees and changes agents and their keys
	// Confirms says that the caller may answer a request in its host's place: the host
	// itself, the platform, or a key with that scope. It is no matter of rows.
	Confirms bool
}

// Caller names the scope's owner in idempotency keys.
func (s Scope) Caller() string {
	if s.Host != "" {
		return "host:" + string(s.Host)
	}
	return "agent:" + string(s.Agent)
}

// A DB is a pool of connections in one role. It is safe for concurrent use.
type DB struct {
	pool  *pgxpool.Pool
	share *share // nil for no bound
}

// statementTimeouts are how long Postgres works on one statement of a role: the API's
// end before their request does, a batch of a sink and a job's step take longer. A
// statement_timeout in the database's URL goes before them.
var statementTimeouts = map[Role]string{RoleAPI: "10s", RoleRelay: "30s", RoleSink: "60s", RoleJobs: "5min"}

// An Option changes a DB that is being opened.
type Option func(*DB)

// SharePerCaller bounds how many connections the transactions of one agent or one
// host hold at once. A transaction above it waits for its turn, for ten seconds, then
// it is TooMany. A scope of the platform has no bound, nor has one without agent and host.
func SharePerCaller(connections int) Option {
	return func(db *DB) { db.share = &share{each: int64(connections), of: map[string]*turns{}} }
}

// Open connects and checks the connection. maxConns bounds the pool; 0 means
// pgx's default. Close the DB when nothing uses it any more.
func Open(ctx context.Context, url string, role Role, maxConns int32, options ...Option) (*DB, error) {
	conf, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", redacted(err))
	}
	if maxConns > 0 {
		conf.MaxConns = maxConns
	}
	conf.ConnConfig.ConnectTimeout = 5 * time.Second
	conf.ConnConfig.RuntimeParams["lock_timeout"] = "5s"
	if _, given := conf.ConnConfig.RuntimeParams["statement_timeout"]; !given {
		conf.ConnConfig.RuntimeParams["statement_timeout"] = statementTimeouts[role]
	}
	conf.AfterConnect = func(ctx context.Context, c *pgx.Conn) error { return become(ctx, c, role) }
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("opening the pool: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connecting to Postgres: %w", err)
	}
	db := &DB{pool: pool}
	for _, set := range options {
		set(db)
	}
	return db, nil
}

// CheckURL reports whether a URL can be a database's, without connecting to it. The
// error does not repeat the URL.
func CheckURL(url string) error {
	if _, err := pgxpool.ParseConfig(url); err != nil {
		return redacted(err)
	}
	return nil
}

// redacted drops the text of a parse error, which repeats the URL and so its
// password.
func redacted(error) error {
	return errors.New("it must be postgres://user:password@host:port/database")
}

func become(ctx context.Context, c *pgx.Conn, role Role) error {
	// pgx's own codec is the standard library's, which takes three times as long for
	// the headers of each outbox row.
	c.TypeMap().RegisterType(&pgtype.Type{Name: "json", OID: pgtype.JSONOID, Codec: &pgtype.JSONCodec{Marshal: json.Marshal, Unmarshal: json.Unmarshal}})
	if _, err := c.Exec(ctx, "set role "+pgx.Identifier{string(role)}.Sanitize()); err != nil {
		return fmt.Errorf("becoming %s: %w", role, err)
	}
	return nil
}

// Close waits for borrowed connections and closes all.
func (db *DB) Close() { db.pool.Close() }

// Ping asks the server for an answer.
func (db *DB) Ping(ctx context.Context) error { return db.pool.Ping(ctx) }

// A Tx is one transaction; its methods are the queries of this package. It is
// valid only inside the function that it was handed to.
type Tx struct {
	tx    *session
	scope Scope
}

// Update runs fn in a transaction and commits. A deadlock or a serialisation
// failure is tried again, three times in all, then it is a Conflict; so fn must
// not do anything but through tx. Any other error of fn rolls back and is
// returned as it is.
func (db *DB) Update(ctx context.Context, s Scope, fn func(context.Context, *Tx) error) error {
	var err error
	for range 3 {
		err = db.run(ctx, s, "begin", fn)
		if !retryable(err) {
			break
		}
	}
	switch {
	case retryable(err):
		return schemas.Errorf(schemas.Conflict, "concurrent_change", "others changed the same things at the same time; try again")
	case isCode(err, "55P03"): // lock_not_available
		return schemas.Errorf(schemas.Conflict, "in_progress", "another request holds what this one needs; try again")
	case violates(err, "bookings_no_overlap"):
		return ErrDatesTaken
	}
	return err
}

// Read runs fn in a read-only transaction in which every query sees the same
// moment.
func (db *DB) Read(ctx context.Context, s Scope, fn func(context.Context, *Tx) error) error {
	return db.run(ctx, s, "begin isolation level repeatable read read only", fn)
}

func (db *DB) run(ctx context.Context, s Scope, begin string, fn func(context.Context, *Tx) error) (err error) {
	if db.share != nil && !s.Platform && (s.Agent != "" || s.Host != "") {
		give, err := db.share.take(ctx, s.Caller())
		if err != nil {
			return err
		}
		defer give()
	}
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx := &session{conn: conn}
	tx.queue("beginning", begin)
	// All four are always set, so that a pooled session never carries the scope of
	// another.
	tx.queue("setting the scope", `select set_config('krib.agent_id', $1, true), set_config('krib.host_id', $2, true), set_config('krib.platform', $3, true), set_config('krib.admin', $4, true)`,
		noNUL(string(s.Agent)), noNUL(string(s.Host)), s.platform(), flag(s.Admin))
	committed := false
	defer func() { // also when fn panics
		if !committed {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			tx.rollback(ctx)
		}
	}()
	if err := fn(ctx, &Tx{tx, s}); err != nil {
		return err
	}
	if err := tx.commit(ctx); err != nil {
		return err
	}
	committed = true
	return nil
}

// rollbackTimeout bounds the end of a transaction whose own context may be over.
const rollbackTimeout = 5 * time.Second

// noNUL drops what Postgres cannot take; no id of ours has it.
func noNUL(s string) string { return strings.ReplaceAll(s, "\x00", "") }

func (s Scope) platform() string { return flag(s.Platform) }

// flag is a setting that is on, or unset.
func flag(on bool) string {
	if on {
		return "on"
	}
	return ""
}

const setPlatform = `select set_config('krib.platform', $1, true)`

// AsPlatform runs fn inside the same transaction with the platform's sight: for
// the few steps of a command that touch what is not its caller's.
func (t *Tx) AsPlatform(ctx context.Context, fn func() error) error {
	t.tx.queue("widening the scope", setPlatform, "on")
	if err := fn(); err != nil {
		return err
	}
	t.tx.queue("narrowing the scope", setPlatform, t.scope.platform())
	return nil
}

func retryable(err error) bool {
	return isCode(err, "40P01") || isCode(err, "40001") // deadlock_detected, serialization_failure
}

func isCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

func violates(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.ConstraintName == constraint
}

// Unavailable says whether err means that Postgres cannot be reached or is going
// down: trying again later may help.
func Unavailable(err error) bool {
	var (
		pg      *pgconn.PgError
		connect *pgconn.ConnectError
		network net.Error
	)
	switch {
	case errors.As(err, &connect): // whatever the server says while it is being connected to
		return true
	case errors.As(err, &pg):
		class := pg.Code[:2]
		return class == "57" || class == "53" || class == "08" // operator intervention, out of resources, connection
	}
	// A connection that breaks in the middle says so in no code of Postgres.
	return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err)
}

// Notify wakes the listeners of a channel in every process. It runs outside the
// command's transaction: inside, each commit would take a lock of the whole
// database, and commits would no longer be grouped.
func (db *DB) Notify(ctx context.Context, channel string) error {
	if _, err := db.pool.Exec(ctx, `select pg_notify($1, '')`, channel); err != nil {
		return fmt.Errorf("notifying %s: %w", channel, err)
	}
	return nil
}

// The channels.
const (
	ChannelOutbox = "krib_outbox"
	ChannelSink   = "krib_sink"
)

// Listen calls wake for each notification of the channel, and once after each
// (re)connection, since some may have been missed. It holds a connection of its
// own and returns when ctx ends.
func Listen(ctx context.Context, url, channel string, log *slog.Logger, wake func()) {
	for ctx.Err() == nil {
		if err := listen(ctx, url, channel, wake); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "listening was interrupted", slog.String("channel", channel), slog.Any("error", err))
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

func listen(ctx context.Context, url, channel string, wake func()) error {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	if _, err := c.Exec(ctx, "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	for {
		wake()
		if _, err := c.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("waiting: %w", err)
		}
	}
}
