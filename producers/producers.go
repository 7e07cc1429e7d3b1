// Package producers is the write path: one function a command. A command is one
// Postgres transaction that checks the rules under row locks, writes its rows and
// inserts its records into the outbox; it answers after the commit. Nothing here
// talks to Kafka: what a command's transaction committed, the relay publishes.
//
// Errors that callers may see are *schemas.Error; everything else is internal.
package producers

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// Options of a Producer. DB and Ring are required.
type Options struct {
	DB   *store.DB // in RoleAPI
	Ring *seal.Ring
	// Feed is the life of host.notifications: an announcement is written to each of
	// its partitions. Without it there are none.
	Feed schemas.Feed
	// BookingTTL is how long a host has to answer a request. Default 24 hours.
	BookingTTL time.Duration
	// PendingNights is how many nights of one property an agent's pending requests may
	// hold, PendingRequests how many of these the agent may have with one host. Zero
	// for no bound. Platform keys have none.
	PendingNights, PendingRequests int
	// AllowHTTP lets webhooks go to plain http; otherwise https only.
	AllowHTTP bool
	// AllowedAddress says whether webhooks may go to an address that a URL names
	// literally. Nil allows none.
	AllowedAddress func(netip.Addr) bool
	// Wake is called after each commit that wrote to the outbox. It must not block;
	// nil for nothing.
	Wake func()
	// Now is the clock by which rules of time are decided: what is past, what has run
	// out, what a stay may become. Default time.Now.
	Now func() time.Time
}

// A Producer runs commands. It is safe for concurrent use.
type Producer struct {
	o       Options
	flights singleflight.Group
}

// New makes a Producer.
func New(o Options) *Producer {
	if o.BookingTTL == 0 {
		o.BookingTTL = 24 * time.Hour
	}
	if o.Wake == nil {
		o.Wake = func() {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AllowedAddress == nil {
		o.AllowedAddress = func(netip.Addr) bool { return false }
	}
	return &Producer{o: o}
}

// Now is the moment by the producer's clock, as records hold it.
func (p *Producer) Now() time.Time { return schemas.Stamp(p.o.Now()) }

// Once identifies a request by its Idempotency-Key: the first one runs the
// command, the others get its answer for 24 hours. A nil *Once runs always.
type Once struct {
	Method, Path, Key string
	Body              []byte // as received; only its hash is kept
	// By is the API key that the request came with; empty for a host. Answers may hold
	// secrets that another key of the same agent may not see, so each has its own.
	By schemas.KeyID
	// Replayed is set by the command: the answer is that of an earlier request.
	Replayed bool
}

// scoped is the key with whose it is. A key of a caller has no space.
func (o *Once) scoped() string {
	if o.By == "" {
		return o.Key
	}
	return string(o.By) + " " + o.Key
}

// flightTimeout bounds a command that several callers wait for, since it must
// not end when the first of them leaves.
const flightTimeout = 20 * time.Second

// once runs a command under an idempotency key. The answer is kept as its JSON,
// sealed, since it may hold a secret; a later caller gets the same value.
func once[T any](ctx context.Context, p *Producer, s store.Scope, o *Once, run func(context.Context, *store.Tx) (T, error)) (T, error) {
	if o == nil {
		return update(ctx, p, s, run)
	}
	hash := sha256.Sum256(o.Body)
	k := store.IdempotencyKey{Caller: s.Caller(), Method: o.Method, Path: o.Path, Key: o.scoped(), BodyHash: hash[:]}
	flight := fmt.Sprintf("%q %q %q %q %x", k.Caller, k.Method, k.Path, k.Key, hash)
	ran := false
	v, err, _ := p.flights.Do(flight, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
		defer cancel()
		return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (T, error) {
			return claimed(ctx, p, tx, k, func(ctx context.Context, tx *store.Tx) (T, error) {
				ran = true
				return run(ctx, tx)
			})
		})
	})
	o.Replayed = err == nil && !ran // of several at a time, one runs the command
	if err != nil {
		var zero T
		return zero, err
	}
	return v.(T), nil // what the flight's function returns
}

func claimed[T any](ctx context.Context, p *Producer, tx *store.Tx, k store.IdempotencyKey, run func(context.Context, *store.Tx) (T, error)) (T, error) {
	var v T
	stored, err := tx.ClaimIdempotency(ctx, k)
	if err != nil {
		return v, err
	}
	owner := k.Caller + " " + k.Method + " " + k.Path + " " + k.Key
	if stored != nil {
		plain, err := p.o.Ring.Open(stored, owner, seal.FieldResponse)
		if err != nil {
			return v, err
		}
		return schemas.Decode[T](plain)
	}
	if v, err = run(ctx, tx); err != nil {
		return v, err
	}
	plain, err := schemas.Encode(v)
	if err != nil {
		return v, err
	}
	return v, tx.StoreAnswer(ctx, k, p.o.Ring.Seal(plain, owner, seal.FieldResponse))
}

// update runs a command in a transaction of its scope and wakes the relay.
func update[T any](ctx context.Context, p *Producer, s store.Scope, run func(context.Context, *store.Tx) (T, error)) (T, error) {
	var v T
	err := p.o.DB.Update(ctx, s, func(ctx context.Context, tx *store.Tx) error {
		var err error
		v, err = run(ctx, tx)
		return err
	})
	if err != nil {
		var zero T
		return zero, err
	}
	p.o.Wake()
	return v, nil
}

// row makes an outbox row of a value, keyed.
func row(ctx context.Context, topic, key string, meta schemas.Meta, v any) (store.OutboxRow, error) {
	meta.TraceParent = schemas.TraceOf(ctx)
	b, err := schemas.Encode(v)
	if err != nil {
		return store.OutboxRow{}, err
	}
	if len(b) > schemas.MaxEventBytes {
		return store.OutboxRow{}, schemas.Errorf(schemas.TooLarge, "event_too_large", "the change makes an event of %d bytes; at most %d are allowed", len(b), schemas.MaxEventBytes)
	}
	return store.OutboxRow{Topic: topic, Key: &key, Headers: meta.Headers(), Value: b}, nil
}

// actor is who a scope acts as.
func actor(s store.Scope) schemas.Actor {
	if s.Host != "" {
		return schemas.Actor{Kind: schemas.ActorHost, ID: string(s.Host)}
	}
	return schemas.Actor{Kind: schemas.ActorAgent, ID: string(s.Agent), Platform: s.Platform}
}
