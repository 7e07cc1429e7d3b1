package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// An OutboxRow is one record on its way to the log. Key or Partition is set; a
// nil Value is a tombstone. ID and CreatedAt are given by the database.
type OutboxRow struct {
	ID        int64
	Topic     string
	Key       *string
	Partition *int32
	Headers   []schemas.Header
	Value     []byte
	CreatedAt time.Time
}

// Enqueue inserts rows in their order, in the command's own transaction. They are
// written with its next statement, or with the commit.
func (t *Tx) Enqueue(rows ...OutboxRow) {
	if len(rows) == 0 {
		return
	}
	// One statement for all: each text of it is prepared once, and commands have two
	// or three.
	sql := strings.Builder{}
	sql.WriteString(`insert into outbox (topic, key, partition, headers, value) values `)
	args := make([]any, 0, outboxColumns*len(rows))
	for i, r := range rows {
		if i > 0 {
			sql.WriteString(", ")
		}
		n := outboxColumns * i
		fmt.Fprintf(&sql, "($%d, $%d, $%d, $%d, $%d)", n+1, n+2, n+3, n+4, n+5)
		if r.Headers == nil {
			r.Headers = []schemas.Header{} // an empty JSON list, not null
		}
		args = append(args, r.Topic, r.Key, r.Partition, r.Headers, r.Value)
	}
	t.tx.queue("writing to the outbox", sql.String(), args...)
}

const outboxColumns = 5

// An OutboxLeader is the one session that may publish the outbox. It holds an
// advisory lock on a connection of its own, never the pool's and not through a
// transaction pooler; when the session is gone, so is the lock. It is not safe
// for concurrent use.
type OutboxLeader struct {
	conn   *pgx.Conn
	outbox string
}

// Outbox names this database's outbox; ids of rows mean something only with it.
func (l *OutboxLeader) Outbox() string { return l.outbox }

// outboxLock is the advisory lock's number; it means nothing else.
const outboxLock = 7010

// leaderIdle is how long the session may be silent: a leader that is stopped or
// cut off answers no keepalive, or sends nothing, and loses the lock. It is above
// the longest that one Kafka transaction may take.
const leaderIdle = 30 * time.Second

// LeadOutbox tries to become the leader, and returns nil if another one is.
func LeadOutbox(ctx context.Context, url string) (*OutboxLeader, error) {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", redacted(err))
	}
	conf.ConnectTimeout = 5 * time.Second
	conf.RuntimeParams["tcp_keepalives_idle"] = "5"
	conf.RuntimeParams["tcp_keepalives_interval"] = "2"
	conf.RuntimeParams["tcp_keepalives_count"] = "3"
	conf.RuntimeParams["idle_session_timeout"] = fmt.Sprint(leaderIdle.Milliseconds())
	conf.RuntimeParams["application_name"] = "krib-relay"
	// A delete that a crash of Postgres takes back is found on the topics and made
	// again; to wait for the disk would be a third of each pass.
	conf.RuntimeParams["synchronous_commit"] = "off"
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("connecting the relay: %w", err)
	}
	l := &OutboxLeader{conn: conn}
	var got bool
	err = become(ctx, conn, RoleRelay)
	if err == nil {
		err = conn.QueryRow(ctx, `select pg_try_advisory_lock($1), (select id from outbox_identity)`, outboxLock).Scan(&got, &l.outbox)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("asking for the relay's lock: %w", err)
	}
	if !got {
		l.Close()
		return nil, nil // "another one leads" is no error and no leader
	}
	return l, nil
}

// Close ends the session and with it the lock.
func (l *OutboxLeader) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = l.conn.Close(ctx) // a session that cannot be ended politely is cut
}

// Oldest reads the first rows by id, no more than fit the bounds (one row always
// does).
func (l *OutboxLeader) Oldest(ctx context.Context, maxRows, maxBytes int) ([]OutboxRow, error) {
	rows, _ := l.conn.Query(ctx, `
		select id, topic, key, partition, headers, value, created_at from (
		  select *, sum(coalesce(length(value), 0) + 300) over (order by id) as running, row_number() over (order by id) as nth
		  from (select * from outbox order by id limit $1) o
		) o where running <= $2 or nth = 1 order by id`, maxRows, maxBytes) // CollectRows reports the error
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[OutboxRow])
	if err != nil {
		return nil, fmt.Errorf("reading the outbox: %w", err)
	}
	return out, nil
}

// Delete forgets rows that are published. It runs on the lock's own session, so
// one that lost the lock cannot do it.
func (l *OutboxLeader) Delete(ctx context.Context, ids []int64) error {
	if _, err := l.conn.Exec(ctx, `delete from outbox where id = any($1)`, ids); err != nil {
		return fmt.Errorf("deleting published rows: %w", err)
	}
	return nil
}

// SetAside moves a row that Kafka refuses for good out of the way of the others.
func (l *OutboxLeader) SetAside(ctx context.Context, id int64, why string) error {
	_, err := l.conn.Exec(ctx, `
		with gone as (delete from outbox where id = $1 returning *)
		insert into outbox_stuck (id, topic, key, partition, headers, value, created_at, error)
		select id, topic, key, partition, headers, value, created_at, $2 from gone`, id, why)
	if err != nil {
		return fmt.Errorf("setting outbox row %d aside: %w", id, err)
	}
	return nil
}

// An OutboxState is what waits in the outbox.
type OutboxState struct {
	// Rows are counted to 10,000 at most.
	Rows int
	// Age is that of the oldest row, by the database's clock; 0 when there is none.
	Age time.Duration
	// SetAside are the rows that Kafka refused for good, to 10,000 at most.
	SetAside int
}

// OutboxState reads how full the outbox is. Every role may ask.
func (db *DB) OutboxState(ctx context.Context) (s OutboxState, err error) {
	var seconds float64
	err = db.pool.QueryRow(ctx, `select waiting, oldest_seconds, set_aside from krib_outbox_state()`).Scan(&s.Rows, &seconds, &s.SetAside)
	if err != nil {
		return s, fmt.Errorf("counting the outbox: %w", err)
	}
	s.Age = time.Duration(seconds * float64(time.Second))
	return s, nil
}

// OutboxDepth counts the rows that wait; it needs RoleJobs or RoleRelay.
func (t *Tx) OutboxDepth(ctx context.Context) (int, error) {
	var n int
	if err := t.tx.QueryRow(ctx, `select count(*) from outbox`).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting the outbox: %w", err)
	}
	return n, nil
}
