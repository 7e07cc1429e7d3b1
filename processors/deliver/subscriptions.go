package deliver

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/schemas"
)

// A subscriber is a subscription with its secrets opened. It is immutable.
type subscriber struct {
	schemas.Subscription
	apiKey  schemas.Secret
	headers http.Header  // its own
	secrets []openSecret // the newest first
	// keyErr, headerErr and secretErr say that the API key, the headers, or a signing
	// secret, cannot be opened.
	keyErr, headerErr, secretErr error
}

type openSecret struct {
	algorithm schemas.SigningAlgorithm
	key       []byte
	expires   time.Time // zero: a current secret
}

// live are the secrets that sign at a moment, the newest first.
func (s *subscriber) live(now time.Time) []openSecret {
	var live []openSecret
	for _, o := range s.secrets {
		if o.expires.IsZero() || o.expires.After(now) {
			live = append(live, o)
		}
	}
	return live
}

// fault is what keeps a request from being made at a moment, which is our own
// fault. A secret that cannot be opened does not matter while another signs.
func (s *subscriber) fault(now time.Time) error {
	if err := cmp.Or(s.keyErr, s.headerErr); err != nil || len(s.live(now)) > 0 {
		return err
	}
	return s.secretErr
}

// subscriptions is the table webhook.subscriptions in memory.
type subscriptions struct {
	ring   *seal.Ring
	logger *slog.Logger
	poison func(*kgo.Record, error)
	// changed is told of each that has a new state.
	changed func(schemas.SubscriptionID)

	mu   sync.RWMutex
	byID map[schemas.SubscriptionID]*subscriber
	// deleted are those whose tombstone was seen, so that nobody waits for them.
	deleted map[schemas.SubscriptionID]struct{}
}

func newSubscriptions(ring *seal.Ring, logger *slog.Logger, poison func(*kgo.Record, error)) *subscriptions {
	return &subscriptions{
		ring: ring, logger: logger, poison: poison, changed: func(schemas.SubscriptionID) {},
		byID:    map[schemas.SubscriptionID]*subscriber{},
		deleted: map[schemas.SubscriptionID]struct{}{},
	}
}

// apply takes one record of the topic; a record without a value is a deletion.
func (s *subscriptions) apply(r *kgo.Record) {
	id := schemas.SubscriptionID(r.Key)
	if len(r.Value) == 0 {
		s.mu.Lock()
		delete(s.byID, id)
		s.deleted[id] = struct{}{}
		s.mu.Unlock()
		s.changed(id)
		return
	}
	sub, err := schemas.Decode[schemas.Subscription](r.Value)
	if err == nil && sub.ID != id {
		err = fmt.Errorf("the key is %q and the id %q", id, sub.ID)
	}
	if err != nil {
		s.poison(r, err)
		return
	}
	o := s.open(sub)
	if err := errors.Join(o.keyErr, o.headerErr, o.secretErr); err != nil {
		s.logger.Error("a subscription's secrets cannot be opened", slog.String("subscription_id", string(id)), slog.Any("error", err))
	}
	s.mu.Lock()
	s.byID[id] = o
	delete(s.deleted, id)
	s.mu.Unlock()
	s.changed(id)
}

func (s *subscriptions) open(sub schemas.Subscription) *subscriber {
	o := &subscriber{Subscription: sub}
	owner := string(sub.ID)
	if len(sub.SealedAPIKey) > 0 {
		key, err := s.ring.Open(sub.SealedAPIKey, owner, seal.FieldAPIKey)
		o.apiKey, o.keyErr = schemas.Secret(key), err
	}
	if len(sub.SealedHeaders) > 0 {
		o.headers, o.headerErr = s.openHeaders(sub.SealedHeaders, owner)
	}
	sealed := slices.Clone(sub.Secrets)
	slices.SortStableFunc(sealed, func(a, b schemas.SealedSecret) int { return b.CreatedAt.Compare(a.CreatedAt) })
	now := time.Now()
	for _, x := range sealed {
		var expires time.Time
		if x.ExpiresAt != nil {
			expires = *x.ExpiresAt
			if expires.Before(now) {
				continue // it will never sign again, so its key may be gone
			}
		}
		key, err := s.ring.Open(x.Sealed, owner, seal.FieldSigningSecret)
		if err == nil && x.Algorithm == schemas.SignEd25519 && len(key) != ed25519.SeedSize {
			err = fmt.Errorf("an ed25519 secret of %s has %d bytes and should have %d", owner, len(key), ed25519.SeedSize)
		}
		if err != nil {
			o.secretErr = err
			continue
		}
		o.secrets = append(o.secrets, openSecret{algorithm: x.Algorithm, key: key, expires: expires})
	}
	return o
}

func (s *subscriptions) openHeaders(sealed []byte, owner string) (http.Header, error) {
	plain, err := s.ring.Open(sealed, owner, seal.FieldHeaders)
	if err != nil {
		return nil, err
	}
	values, err := schemas.Decode[map[string]string](plain)
	if err != nil {
		return nil, fmt.Errorf("reading the headers of %s: they are no JSON object of texts", owner) // not err, which may repeat them
	}
	h := http.Header{}
	for name, value := range values {
		if !headerName(name) || !headerValue(value) {
			return nil, fmt.Errorf("reading the headers of %s: one is no header", owner)
		}
		if !reserved(name) {
			h.Set(name, value)
		}
	}
	return h, nil
}

// get is nil for what the table does not hold; deleted says that it did once.
func (s *subscriptions) get(id schemas.SubscriptionID) (sub *subscriber, deleted bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, deleted = s.deleted[id]
	return s.byID[id], deleted
}

// choices are those of a subscription, the zero value where the table does not hold
// it.
func (s *subscriptions) choices(id schemas.SubscriptionID) choices {
	sub, _ := s.get(id)
	if sub == nil {
		return choices{}
	}
	c := choices{url: sub.URL, ordering: sub.Ordering, perMinute: sub.RateLimit}
	if !sub.Active {
		c.perMinute = 0 // nothing is sent: what waits is withheld, and at once
	}
	return c
}

// lookup is nil only for what was deleted.
//
// A subscription that the table does not hold may be younger than the table is
// current: the relay writes it, fan-out sees it at once and writes a delivery,
// and that reaches us before our own fetch of the table returns. The delivery
// was written after the subscription, so whoever asks for the table's end now
// and waits for it has seen the subscription, if it was ever there.
func (s *subscriptions) lookup(ctx context.Context, id schemas.SubscriptionID, table *kafka.Table) (*subscriber, error) {
	if sub, deleted := s.get(id); sub != nil || deleted {
		return sub, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := table.WaitUntilCurrent(ctx); err != nil {
		return nil, fmt.Errorf("looking up the subscription %s: %w", id, err)
	}
	sub, _ := s.get(id)
	return sub, nil
}
