package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver that goose opens
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Outdated says whether err means that the database lacks what this version of the
// code needs: it was never migrated, or not lately.
func Outdated(err error) bool {
	// undefined_table, undefined_column, undefined_function; and what SET ROLE says of
	// a role that is not there.
	return isCode(err, "42P01") || isCode(err, "42703") || isCode(err, "42883") || isCode(err, "22023")
}

// Migrate brings the database to this version of the code. Several processes may
// call it at once: a session lock lets one work and the others wait. The URL's
// user must be allowed to create roles and the extension btree_gist.
func Migrate(ctx context.Context, url string) error {
	// Parsed here first, since the driver's own error repeats parts of the URL.
	if _, err := pgx.ParseConfig(url); err != nil {
		return fmt.Errorf("reading the database URL: %w", redacted(err))
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer func() { _ = db.Close() }()
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("connecting to Postgres: %w", err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("opening the migrations: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("making the migration lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	return nil
}
