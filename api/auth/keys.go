package auth

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/krib-ai/krib/internal/caller"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

const (
	// maxCached bounds the memory of the cache; beyond it, it is emptied.
	maxCached = 10_000
	// lookupTimeout bounds a look-up that several requests wait for.
	lookupTimeout = 5 * time.Second
	// usedEvery is how exact a key's last use is. Postgres holds all processes
	// together to it; a process by itself asks no more often.
	usedEvery = time.Minute
)

// A keyCache believes a valid key for a moment, and refuses an unknown one for
// another. Postgres is asked about a key that was good in this process whatever else
// comes from its address; what was never seen here passes the guard.
type keyCache struct {
	db      *store.DB
	ttl     time.Duration
	refusal time.Duration
	guard   *guard
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
	k, known := c.known[id]
	c.mu.Unlock()
	now := time.Now()
	switch {
	case known && now.Before(k.until):
		return k.key, nil
	case known:
		return c.ask(ctx, id, hash)
	case c.guard.refused(id, now):
		return store.APIKey{}, unknownKey()
	}
	return c.askForStranger(ctx, id, hash)
}

// askForStranger is ask within the share of callers that are not known. The allowance of
// the address is asked for in its turn, so that any number of good keys may come at once,
// as they do after a restart, and use up as much as runs at a time.
func (c *keyCache) askForStranger(ctx context.Context, id string, hash []byte) (store.APIKey, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	select {
	case c.guard.slots <- struct{}{}:
		defer func() { <-c.guard.slots }()
	case <-ctx.Done():
		return store.APIKey{}, ctx.Err()
	}
	addr := caller.Of(ctx)
	if err := c.guard.take(addr, time.Now()); err != nil {
		return store.APIKey{}, err
	}
	key, err := c.ask(ctx, id, hash)
	if schemas.KindOf(err) != schemas.Unauthorized {
		c.guard.giveBack(addr, time.Now())
	}
	return key, err
}

// ask asks Postgres, once for all who ask for the same key at a time.
func (c *keyCache) ask(ctx context.Context, id string, hash []byte) (store.APIKey, error) {
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
		if schemas.KindOf(err) == schemas.Unauthorized {
			c.forget(id, asked)
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

// forget refuses a key for a moment. One that was good has ended for good; one that
// was never seen is made within that moment only by a caller who chose its text.
func (c *keyCache) forget(id string, asked time.Time) {
	c.guard.refuse(id, asked.Add(c.refusal))
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, id)
}

func unknownKey() error {
	return unauthorized("invalid_api_key", "the API key is unknown, revoked or expired")
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
