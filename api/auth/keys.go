package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

const (
	keyPrefix = "krib_"
	maxKey    = 128
	// maxCached bounds the memory of the cache; beyond it, it is emptied.
	maxCached = 10_000
	// lookupTimeout bounds a look-up that several requests wait for.
	lookupTimeout = 5 * time.Second
)

// NewAPIKey makes a key of the environment, its hash, which is all that is kept,
// and the prefix by which people recognise it.
func NewAPIKey(env string) (key schemas.Secret, hash []byte, prefix string) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	text := keyPrefix + env + "_" + hex.EncodeToString(b[:])
	return schemas.Secret(text), HashAPIKey(text), text[:len(text)-24]
}

// HashAPIKey is what Postgres holds of a key. A plain SHA-256 is enough: a key is
// 128 random bits, not a password.
func HashAPIKey(key string) []byte {
	h := sha256.Sum256([]byte(key))
	return h[:]
}

// A keyCache believes a valid key for a moment. Refusals are not kept: a key that
// was just made works at once.
type keyCache struct {
	db      *store.DB
	ttl     time.Duration
	flights singleflight.Group

	mu    sync.Mutex
	known map[string]cachedKey
}

type cachedKey struct {
	key   store.APIKey
	until time.Time
}

func (c *keyCache) lookup(ctx context.Context, hash []byte) (store.APIKey, error) {
	id := string(hash)
	c.mu.Lock()
	k, ok := c.known[id]
	c.mu.Unlock()
	if ok && time.Now().Before(k.until) {
		return k.key, nil
	}
	// The flight does not end when the first of its callers leaves.
	flight := c.flights.DoChan(id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
		defer cancel()
		asked := time.Now()
		key, err := c.db.APIKey(ctx, hash)
		if err == nil {
			c.keep(id, cachedKey{key, asked.Add(c.ttl)})
		}
		return key, err
	})
	select {
	case <-ctx.Done():
		return store.APIKey{}, ctx.Err()
	case r := <-flight:
		return r.Val.(store.APIKey), r.Err // the flight's function returns one
	}
}

func (c *keyCache) keep(id string, k cachedKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxCached {
		c.known = map[string]cachedKey{}
	}
	c.known[id] = k
}
