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

// Queries of a search, as SearchProperties sends them.
func (f PropertyFilter) CountSQL() (string, []any)             { return f.countSQL() }
func (f PropertyFilter) PageSQL(frequent bool) (string, []any) { return f.pageSQL(frequent) }

// Setting is the value of a parameter of Postgres in this session.
func (t *Tx) Setting(ctx context.Context, name string) (v string, err error) {
	err = t.tx.QueryRow(ctx, `select current_setting($1)`, name).Scan(&v)
	return v, err
}
