package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A session is one transaction on one connection. What is queued is sent together
// with the next statement that has an answer, or with the commit: the time of a
// command is mostly round trips, each of which wakes a process on either side. So
// a command's writes cost none of their own, and neither does its begin.
//
// The order of statements is the order of calls. An error of a queued statement is
// returned by the call that sent it.
type session struct {
	conn   *pgxpool.Conn
	queued []statement
	began  bool // something was sent
}

// A statement's what is the gerund of its error.
type statement struct {
	what, sql string
	args      []any
}

// queue keeps a statement whose answer nobody waits for.
func (s *session) queue(what, sql string, args ...any) {
	s.queued = append(s.queued, statement{what, sql, args})
}

// start sends what is queued and then the batch, and reads the answers of what
// was queued. The rest is the caller's, who closes the results also when there is
// an error.
func (s *session) start(ctx context.Context, tail ...*pgx.QueuedQuery) (pgx.BatchResults, error) {
	all := &pgx.Batch{}
	for _, q := range s.queued {
		all.Queue(q.sql, q.args...)
	}
	all.QueuedQueries = append(all.QueuedQueries, tail...)
	sent := s.queued
	s.queued, s.began = nil, true
	results := s.conn.SendBatch(ctx, all)
	for _, q := range sent {
		if _, err := results.Exec(); err != nil {
			return results, fmt.Errorf("%s: %w", q.what, err)
		}
	}
	return results, nil
}

// sendBatch sends b and closes its results.
func (s *session) sendBatch(ctx context.Context, b *pgx.Batch) error {
	results, err := s.start(ctx, b.QueuedQueries...)
	if err != nil {
		_ = results.Close() // says the same again
		return err
	}
	return results.Close()
}

// Exec is [pgx.Conn.Exec] inside the transaction; so are Query and QueryRow.
func (s *session) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if len(s.queued) == 0 {
		return s.conn.Exec(ctx, sql, args...)
	}
	b := &pgx.Batch{}
	b.Queue(sql, args...).Exec(func(t pgconn.CommandTag) error {
		tag = t
		return nil
	})
	return tag, s.sendBatch(ctx, b)
}

func (s *session) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if len(s.queued) == 0 {
		return s.conn.Query(ctx, sql, args...)
	}
	b := &pgx.Batch{}
	b.Queue(sql, args...)
	results, err := s.start(ctx, b.QueuedQueries...)
	if err != nil {
		_ = results.Close() // says the same again
		return &lastRows{err: err}, err
	}
	rows, err := results.Query()
	return &lastRows{Rows: rows, results: results, err: err}, err
}

func (s *session) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, _ := s.Query(ctx, sql, args...) // Scan reports the error
	return oneRow{rows}
}

// lastRows are the rows of a batch's last statement; the batch ends with them.
// Rows is nil where it was never reached.
type lastRows struct {
	pgx.Rows

	results pgx.BatchResults
	err     error
}

func (r *lastRows) Close() {
	if r.results == nil {
		return
	}
	if r.Rows != nil {
		r.Rows.Close()
	}
	if err := r.results.Close(); r.err == nil {
		r.err = err
	}
	r.results = nil
}

func (r *lastRows) Err() error {
	if r.err != nil || r.Rows == nil {
		return r.err
	}
	return r.Rows.Err()
}

func (r *lastRows) Next() bool {
	if r.err != nil || r.Rows == nil || r.results == nil {
		return false
	}
	if r.Rows.Next() {
		return true
	}
	r.Close() // as pgx's own rows do at their end
	return false
}

// oneRow does what pgx's own row does.
type oneRow struct{ rows pgx.Rows }

func (r oneRow) Scan(dest ...any) error {
	defer r.rows.Close()
	if err := r.rows.Err(); err != nil {
		return err
	}
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// commit ends the transaction, with what is still queued before its end. A
// transaction that never sent anything needs no end.
func (s *session) commit(ctx context.Context) error {
	b := &pgx.Batch{}
	var tag pgconn.CommandTag
	b.Queue("commit").Exec(func(t pgconn.CommandTag) error {
		tag = t
		return nil
	})
	if err := s.sendBatch(ctx, b); err != nil {
		return err
	}
	if tag.String() == "ROLLBACK" {
		return pgx.ErrTxCommitRollback
	}
	return nil
}

// rollback leaves a connection on which it fails to the pool, which closes what is
// still in a transaction.
func (s *session) rollback(ctx context.Context) {
	s.queued = nil
	if s.began && !s.conn.Conn().IsClosed() {
		_, _ = s.conn.Exec(ctx, "rollback")
	}
}
