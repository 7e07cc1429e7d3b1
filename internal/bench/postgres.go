package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// This file is the only one here that speaks to Postgres past internal/store: a
// raw limit must not share the code that is measured against it.

func (b *bench) postgresVersion(ctx context.Context) (string, error) {
	c, err := pgx.Connect(ctx, b.child.dev.DatabaseURL)
	if err != nil {
		return "", fmt.Errorf("asking Postgres for its version: %w", err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	v := c.PgConn().ParameterStatus("server_version")
	if b.o.GivenPostgres {
		return v + ", given by DATABASE_URL: not counted as Krib's", nil
	}
	return v + ", started by Krib", nil
}

// commits is what the same Postgres does when a transaction is one insert of one
// short row, in one round trip: each waits for the disk once, as a booking does.
func (b *bench) commits(ctx context.Context) (*pace, error) {
	conf, err := pgxpool.ParseConfig(b.child.dev.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", err)
	}
	conf.MaxConns = pool
	db, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("opening the pool: %w", err)
	}
	defer db.Close()
	table := pgx.Identifier{"krib_bench"}.Sanitize()
	if _, err := db.Exec(ctx, "create table if not exists "+table+" (v text not null)"); err != nil {
		return nil, fmt.Errorf("making a table for the raw limit: %w", err)
	}
	defer func() { _, _ = db.Exec(context.WithoutCancel(ctx), "drop table "+table) }()
	return closedLoop(ctx, clients, b.o.Duration, func(ctx context.Context) error {
		_, err := db.Exec(ctx, "insert into "+table+" values ($1)", "a short row")
		return err
	})
}
