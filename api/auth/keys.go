package auth

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

const (
	maxKey = 128
	// maxCached bounds the memory of the cache; beyond it, it is emptied.
	maxCached = 10_000
	// lookupTimeout bounds a look-up that several requests wait for.
	lookupTimeout = 5 * time.Second
	// usedEvery is how exact a key's last use is. Postgres holds all processes
	// together to it; a process by itself asks no more often.
	usedEvery = time.Minute
)

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
	noted time.Time // when its use was last written down from here
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
		if err == nil && c.keep(id, key, asked) {
			// No request waits for this write, and none fails with it: a use that was not
			// noted is noted at the next.
			go c.used(context.WithoutCancel(ctx), key.ID)
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

// keep believes a key from a moment on. It says whether its use is to be noted.
func (c *keyCache) keep(id string, key store.APIKey, asked time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxCached {
		c.known = map[string]cachedKey{}
	}
	k := cachedKey{key: key, until: asked.Add(c.ttl), noted: c.known[id].noted}
	due := asked.Sub(k.noted) >= usedEvery
	if due {
		k.noted = asked
	}
	c.known[id] = k
	return due
}

func (c *keyCache) used(ctx context.Context, id schemas.KeyID) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	_ = c.db.KeyUsed(ctx, id) // the database's state is told by those who need it
}
