package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// An APIKey is what a valid key allows.
type APIKey struct {
	ID                 schemas.KeyID   `db:"id"`
	AgentID            schemas.AgentID `db:"agent_id"`
	Scopes             []string        `db:"scopes"`
	Platform           bool            `db:"platform"`
	RateLimitPerMinute int             `db:"rate_limit_per_minute"`
}

// APIKey looks a key up by its SHA-256. Unknown, revoked and expired ones are
// all Unauthorized.
func (db *DB) APIKey(ctx context.Context, hash []byte) (APIKey, error) {
	rows, _ := db.pool.Query(ctx, `select * from krib_api_key($1)`, hash) // CollectExactlyOneRow reports the error
	k, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[APIKey])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return k, schemas.Errorf(schemas.Unauthorized, "invalid_api_key", "the API key is unknown, revoked or expired")
	case err != nil:
		return k, fmt.Errorf("looking an API key up: %w", err)
	}
	return k, nil
}
