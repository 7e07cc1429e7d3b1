package store

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// KeyUsed notes that a key is in use. It writes nothing when that was noted
// within the last minute, by whatever process.
func (db *DB) KeyUsed(ctx context.Context, id schemas.KeyID) error {
	if _, err := db.pool.Exec(ctx, `select krib_key_used($1)`, string(id)); err != nil {
		return fmt.Errorf("noting the use of key %s: %w", id, err)
	}
	return nil
}

// A Key is an API key as its administrators see it: never the key, nor its hash.
type Key struct {
	ID                 schemas.KeyID
	AgentID            schemas.AgentID
	AgentName          string
	Name               string
	Prefix             string
	Scopes             []string
	Platform           bool
	RateLimitPerMinute int
	ExpiresAt          *time.Time
	RevokedAt          *time.Time
	LastUsedAt         *time.Time // to the minute
	CreatedAt          time.Time
}

// A KeyState is whether a key works.
type KeyState string

// The states of a key. There is no way back from the last two.
const (
	KeyLive    KeyState = "live"
	KeyExpired KeyState = "expired"
	KeyRevoked KeyState = "revoked"
)

// State is whether the key works at a moment.
func (k *Key) State(now time.Time) KeyState {
	switch {
	case k.RevokedAt != nil:
		return KeyRevoked
	case k.ExpiresAt != nil && !k.ExpiresAt.After(now):
		return KeyExpired
	}
	return KeyLive
}

// The columns are named: the API's role may not read the hash.
const selectKeys = `
select k.id, k.agent_id, a.name, k.name, k.key_prefix, k.scopes, k.platform, k.rate_limit_per_minute,
  k.expires_at, k.revoked_at, k.last_used_at, k.created_at
from api_keys k join agents a on a.id = k.agent_id `

func scanKey(row pgx.CollectableRow) (Key, error) {
	var k Key
	err := row.Scan(&k.ID, &k.AgentID, &k.AgentName, &k.Name, &k.Prefix, &k.Scopes, &k.Platform, &k.RateLimitPerMinute,
		&k.ExpiresAt, &k.RevokedAt, &k.LastUsedAt, &k.CreatedAt)
	for _, t := range []*time.Time{k.ExpiresAt, k.RevokedAt, k.LastUsedAt, &k.CreatedAt} {
		if t != nil {
			*t = schemas.Stamp(*t)
		}
	}
	return k, err
}

// Key is one that the scope may administer.
func (t *Tx) Key(ctx context.Context, id schemas.KeyID) (Key, error) { return t.oneKey(ctx, id, "") }

// LockKey reads one and keeps others from changing it. Its agent must be locked
// by this transaction.
func (t *Tx) LockKey(ctx context.Context, id schemas.KeyID) (Key, error) {
	return t.oneKey(ctx, id, " for no key update of k")
}

func (t *Tx) oneKey(ctx context.Context, id schemas.KeyID, rest string) (Key, error) {
	rows, _ := t.tx.Query(ctx, selectKeys+`where k.id = $1`+rest, string(id)) // CollectExactlyOneRow reports the error
	k, err := pgx.CollectExactlyOneRow(rows, scanKey)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return k, schemas.Errorf(schemas.NotFound, "key_not_found", "there is no API key with the id %q", id)
	case err != nil:
		return k, fmt.Errorf("reading key %s: %w", id, err)
	}
	return k, nil
}

// A KeyFilter narrows a list; zero members do not filter. Without a Limit it is
// whole.
type KeyFilter struct {
	Agent         schemas.AgentID
	LiveOnly      bool
	Limit, Offset int
}

// Keys lists keys, the newest first, and counts all that match.
func (t *Tx) Keys(ctx context.Context, f KeyFilter) ([]Key, int, error) {
	const where = ` where ($1 = '' or k.agent_id = $1)
		and (not $2 or` + liveKey + `) `
	args := []any{string(f.Agent), f.LiveOnly}
	var total int
	if err := t.tx.QueryRow(ctx, `select count(*) from api_keys k`+where, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("counting keys: %w", err)
	}
	rows, _ := t.tx.Query(ctx, selectKeys+where+`order by k.created_at desc, k.id desc limit nullif($3, 0) offset $4`,
		append(args, f.Limit, f.Offset)...) // CollectRows reports the error
	keys, err := pgx.CollectRows(rows, scanKey)
	if err != nil {
		return nil, 0, fmt.Errorf("listing keys: %w", err)
	}
	return keys, total, nil
}

// InsertKey writes a new one. Its agent must be there.
func (t *Tx) InsertKey(ctx context.Context, k *Key, hash []byte) error {
	_, err := t.tx.Exec(ctx, `
		insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes, platform, rate_limit_per_minute, expires_at, created_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		string(k.ID), string(k.AgentID), k.Name, hash, k.Prefix, k.Scopes, k.Platform, k.RateLimitPerMinute, k.ExpiresAt, k.CreatedAt)
	if err != nil {
		return fmt.Errorf("inserting key %s: %w", k.ID, err)
	}
	return nil
}

// EndKey writes when a locked key ends or has ended.
func (t *Tx) EndKey(ctx context.Context, k *Key) error {
	_, err := t.tx.Exec(ctx, `update api_keys set expires_at = $2, revoked_at = $3 where id = $1`, string(k.ID), k.ExpiresAt, k.RevokedAt)
	if err != nil {
		return fmt.Errorf("ending key %s: %w", k.ID, err)
	}
	return nil
}
