package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// An IdempotencyKey names one intended change of a caller.
type IdempotencyKey struct {
	Caller, Method, Path, Key string
	BodyHash                  []byte
}

// ClaimIdempotency takes the key for this transaction and returns nil, or
// returns the stored answer of the one that had it. It waits for a transaction
// that holds the key, up to the lock timeout. The same key with another body is
// refused.
func (t *Tx) ClaimIdempotency(ctx context.Context, k IdempotencyKey) ([]byte, error) {
	tag, err := t.tx.Exec(ctx, `
		insert into idempotency_keys (caller, method, path, key, body_hash) values ($1, $2, $3, $4, $5)
		on conflict do nothing`, k.Caller, k.Method, k.Path, k.Key, k.BodyHash)
	if err != nil {
		return nil, fmt.Errorf("claiming an idempotency key: %w", err)
	}
	if tag.RowsAffected() == 1 {
		return nil, nil
	}
	var hash, response []byte
	err = t.tx.QueryRow(ctx, `
		select body_hash, response from idempotency_keys where caller = $1 and method = $2 and path = $3 and key = $4`,
		k.Caller, k.Method, k.Path, k.Key).Scan(&hash, &response)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // purged in between
		return nil, schemas.Errorf(schemas.Conflict, "in_progress", "another request with this Idempotency-Key has just ended; try again")
	case err != nil:
		return nil, fmt.Errorf("reading an idempotency key: %w", err)
	case !bytes.Equal(hash, k.BodyHash):
		return nil, schemas.Refuse(schemas.Malformed, "idempotency_key_reused", "Idempotency-Key", "unique",
			"this Idempotency-Key was used with another body")
	}
	return response, nil
}

// StoreAnswer keeps the sealed answer of a claimed key.
func (t *Tx) StoreAnswer(ctx context.Context, k IdempotencyKey, sealed []byte) error {
	_, err := t.tx.Exec(ctx, `
		update idempotency_keys set response = $5 where caller = $1 and method = $2 and path = $3 and key = $4`,
		k.Caller, k.Method, k.Path, k.Key, sealed)
	if err != nil {
		return fmt.Errorf("storing the answer of an idempotency key: %w", err)
	}
	return nil
}

// PurgeIdempotency forgets keys older than the given age; it needs RoleJobs.
func (t *Tx) PurgeIdempotency(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := t.tx.Exec(ctx, `delete from idempotency_keys where created_at < now() - $1::interval`, olderThan)
	if err != nil {
		return 0, fmt.Errorf("purging idempotency keys: %w", err)
	}
	return tag.RowsAffected(), nil
}
