package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	secrets []openSecret // the newest first
	// keyErr and secretErr say that the API key, or a signing secret, cannot be
	// opened.
	keyErr, secretErr error
}

type openSecret struct {
	key     []byte
	expires time.Time // zero: the current secret
}

// live are the keys that sign at a moment, the newest first.
func (s *subscriber) live(now time.Time) [][]byte {
	var keys [][]byte
	for _, o := range s.secrets {
		if o.expires.IsZero() || o.expires.After(now) {
			keys = append(keys, o.key)
		}
	}
	return keys
}

// fault is what keeps a request from being made at a moment, which is our own
// fault. A secret that cannot be opened does not matter while another signs.
func (s *subscriber) fault(now time.Time) error {
	if s.keyErr != nil || len(s.live(now)) > 0 {
		return s.keyErr
	}
	return s.secretErr
}

// subscriptions is the table webhook.subscriptions in memory.
type subscriptions struct {
	ring   *seal.Ring
	logger *slog.Logger
	poison func(*kgo.Record, error)

	mu   sync.RWMutex
	byID map[schemas.SubscriptionID]*subscriber
	// deleted are those whose tombstone was seen, so that nobody waits for them.
	deleted map[schemas.SubscriptionID]struct{}
}

func newSubscriptions(ring *seal.Ring, logger *slog.Logger, poison func(*kgo.Record, error)) *subscriptions {
	return &subscriptions{
		ring: ring, logger: logger, poison: poison,
		byID:    map[schemas.SubscriptionID]*subscriber{},
		deleted: map[schemas.SubscriptionID]struct{}{},
	}
}

// apply takes one record of the topic; a record without a value is a deletion.
func (s *subscriptions) apply(r *kgo.Record) {
	id := schemas.SubscriptionID(r.Key)
	if len(r.Value) == 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.byID, id)
		s.deleted[id] = struct{}{}
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
	if err := errors.Join(o.keyErr, o.secretErr); err != nil {
		s.logger.Error("a subscription's secrets cannot be opened", slog.String("subscription_id", string(id)), slog.Any("error", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[id] = o
	delete(s.deleted, id)
}

func (s *subscriptions) open(sub schemas.Subscription) *subscriber {
	o := &subscriber{Subscription: sub}
	owner := string(sub.ID)
	if len(sub.SealedAPIKey) > 0 {
		key, err := s.ring.Open(sub.SealedAPIKey, owner, seal.FieldAPIKey)
		o.apiKey, o.keyErr = schemas.Secret(key), err
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
		if err != nil {
			o.secretErr = err
			continue
		}
		o.secrets = append(o.secrets, openSecret{key: key, expires: expires})
	}
	return o
}

// get is nil for what the table does not hold; deleted says that it did once.
func (s *subscriptions) get(id schemas.SubscriptionID) (sub *subscriber, deleted bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, deleted = s.deleted[id]
	return s.byID[id], deleted
}

// url is the URL of a subscription, empty where the table does not hold it.
func (s *subscriptions) url(id schemas.SubscriptionID) string {
	if sub, _ := s.get(id); sub != nil {
		return sub.URL
	}
	return ""
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
