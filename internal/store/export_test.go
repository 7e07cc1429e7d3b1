package store

import "context"

// Migrations are the files, for tests of one of them.
var Migrations = migrations

// RowsRead grows with the rows of a table that this session fetches, by scans and
// by indexes, as Postgres counts them. Only differences within a transaction mean
// something.
func (t *Tx) RowsRead(ctx context.Context, table string) (n int64, err error) {
	err = t.tx.QueryRow(ctx, `
		select coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0)::bigint
		from pg_stat_xact_user_tables where relname = $1`, table).Scan(&n)
	return n, err
}
