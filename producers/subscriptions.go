package producers

import (
	"context"
	"errors"
	"time"

	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/schemas"
)

// A SubscriptionAnswer is the subscription after the command. SigningSecret is
// set only when the command made or took a new one.
type SubscriptionAnswer struct {
	Subscription  store.Subscription
	SigningSecret schemas.Secret `json:",omitempty"`
	Existing      bool
}

// CreateSubscription registers a URL. The same agent registering the same URL
// with the same input gets the subscription that it has, without the secret;
// with another one a Conflict. The URL is checked for its form and for literal
// addresses; its name is neither resolved nor contacted.
func (p *Producer) CreateSubscription(ctx context.Context, s store.Scope, o *Once, in NewSubscription) (SubscriptionAnswer, error) {
	former := webhook.FormerURL(in.URL)
	if err := p.check(&in, ""); err != nil {
		return SubscriptionAnswer{}, err
	}
	raw, text, err := givenSecret(in.SigningSecret)
	if err != nil {
		return SubscriptionAnswer{}, err
	}
	if raw == nil {
		raw, text = schemas.NewSigningSecret()
	}
	create := func(ctx context.Context, tx *store.Tx) (SubscriptionAnswer, error) {
		have, err := registered(ctx, tx, s.Agent, in.URL, former)
		if err != nil {
			return SubscriptionAnswer{}, err
		}
		if have != nil {
			same := in
			same.URL = have.URL
			if !have.SameBody(fingerprint(&same)) {
				return SubscriptionAnswer{}, urlTaken()
			}
			return SubscriptionAnswer{Subscription: *have, Existing: true}, nil
		}
		if err := mayHaveAnother(ctx, tx, s); err != nil {
			return SubscriptionAnswer{}, err
		}
		now := schemas.Stamp(time.Now())
		sub := store.Subscription{}
		sub.ID, sub.AgentID, sub.CreatedAt, sub.EnabledAt, sub.Active = schemas.NewSubscriptionID(), s.Agent, now, now, true
		p.fill(&sub, s, &in, raw, now)
		if err := tx.InsertSubscription(ctx, &sub); err != nil {
			return SubscriptionAnswer{}, err
		}
		return SubscriptionAnswer{Subscription: sub, SigningSecret: text}, publish(ctx, tx, &sub)
	}
	a, err := once(ctx, p, s, o, create)
	if errors.Is(err, store.ErrURLTaken) {
		// By a transaction that ran at the same time. It may be the same request twice,
		// so look once more: now its row is there to be compared.
		a, err = once(ctx, p, s, o, create)
	}
	if errors.Is(err, store.ErrURLTaken) {
		err = urlTaken()
	}
	return a, err
}

// registered is the agent's subscription of a URL, or nil: also one that an earlier
// version stored in the form that it gave the same text.
func registered(ctx context.Context, tx *store.Tx, agent schemas.AgentID, url, former string) (*store.Subscription, error) {
	have, err := tx.SubscriptionByURL(ctx, agent, url)
	if err != nil || have != nil || former == "" || former == url {
		return have, err
	}
	return tx.SubscriptionByURL(ctx, agent, former)
}

// MaxSubscriptions bounds what one agent has. Each event of its bookings may go to
// all of them in one transaction of fan-out, which everybody else's events wait for;
// a test goes to all of them too. The platform's are its operator's own.
const MaxSubscriptions = 100

func mayHaveAnother(ctx context.Context, tx *store.Tx, s store.Scope) error {
	if s.Platform {
		return nil
	}
	_, have, err := tx.Subscriptions(ctx, store.SubscriptionFilter{Agent: s.Agent, Limit: 1})
	if err == nil && have >= MaxSubscriptions {
		err = schemas.Errorf(schemas.Conflict, "too_many_subscriptions", "you have %d webhook subscriptions, which is the most that there may be; delete one first", have)
	}
	return err
}

// UpdateSubscription replaces what the owner may choose. It neither enables nor
// disables. A signing secret, if given, takes the old ones' place at once.
func (p *Producer) UpdateSubscription(ctx context.Context, s store.Scope, id schemas.SubscriptionID, in NewSubscription) (SubscriptionAnswer, error) {
	if err := p.check(&in, ""); err != nil {
		return SubscriptionAnswer{}, err
	}
	raw, text, err := givenSecret(in.SigningSecret)
	if err != nil {
		return SubscriptionAnswer{}, err
	}
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (SubscriptionAnswer, error) {
		sub, err := tx.LockSubscription(ctx, id)
		if err != nil {
			return SubscriptionAnswer{}, err
		}
		p.fill(&sub, s, &in, raw, schemas.Stamp(time.Now()))
		return SubscriptionAnswer{Subscription: sub, SigningSecret: text}, save(ctx, tx, &sub)
	})
}

// PatchSubscription changes what the patch names. Switching on or off is what
// ToggleSubscription does, except that the same state again changes nothing.
func (p *Producer) PatchSubscription(ctx context.Context, s store.Scope, id schemas.SubscriptionID, in SubscriptionPatch) (store.Subscription, error) {
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (store.Subscription, error) {
		sub, err := tx.LockSubscription(ctx, id)
		if err != nil {
			return sub, err
		}
		now := schemas.Stamp(time.Now())
		if in.choices() {
			whole, err := p.choicesOf(&sub)
			if err != nil {
				return sub, err
			}
			in.over(&whole)
			if err := p.check(&whole, sub.URL); err != nil {
				return sub, err
			}
			p.fill(&sub, s, &whole, nil, now)
			sub.BodyHash = patched
		} else {
			sub.Version++
			sub.UpdatedAt = now
		}
		if in.Active != nil && *in.Active != sub.Active {
			if err := p.turn(ctx, tx, &sub, *in.Active, now); err != nil {
				return sub, err
			}
		}
		return sub, save(ctx, tx, &sub)
	})
}

// patched is the fingerprint of what no single request has made: no request is
// the same one again.
var patched = []byte{}

// turn switches a locked subscription on or off. Its health starts anew in both
// directions.
func (p *Producer) turn(ctx context.Context, tx *store.Tx, sub *store.Subscription, on bool, now time.Time) error {
	sub.Active, sub.DisabledReason = on, schemas.DisabledByOwner
	if on {
		sub.DisabledReason, sub.EnabledAt = "", now
	}
	sub.FailedAttempts, sub.FirstFailureAt = 0, nil
	return tx.ResetHealth(ctx, sub.ID)
}

// save writes a locked subscription and publishes it.
func save(ctx context.Context, tx *store.Tx, sub *store.Subscription) error {
	if err := tx.SaveSubscription(ctx, sub); err != nil {
		if errors.Is(err, store.ErrURLTaken) {
			err = urlTaken()
		}
		return err
	}
	return publish(ctx, tx, sub)
}

// fill writes the input over a subscription and counts its version up. The
// platform edits for its owner, and lends it no sight.
func (p *Producer) fill(sub *store.Subscription, s store.Scope, in *NewSubscription, raw []byte, now time.Time) {
	owner := string(sub.ID)
	sub.Version++
	if sub.AgentID == s.Agent {
		sub.Platform = s.Platform
	}
	sub.AgentName, sub.URL, sub.Events, sub.UpdatedAt = in.AgentName, in.URL, in.Events, now
	sub.Description, sub.Filter, sub.Ordering, sub.RateLimit = in.Description, in.Filter, in.Ordering, in.RateLimit
	sub.MaxFailedAttempts = in.MaxFailedAttempts
	sub.SealedAPIKey = p.o.Ring.Seal([]byte(in.APIKey.Reveal()), owner, seal.FieldAPIKey)
	sub.SealedHeaders, sub.HeaderNames = p.sealHeaders(owner, in.Headers)
	sub.Secrets = p.secrets(sub, raw, in.Asymmetric, now)
	sub.BodyHash = fingerprint(in)
}

// DeleteSubscription removes one; what is on its way to it is withheld.
func (p *Producer) DeleteSubscription(ctx context.Context, s store.Scope, id schemas.SubscriptionID) (store.Subscription, error) {
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (store.Subscription, error) {
		sub, err := tx.LockSubscription(ctx, id)
		if err != nil {
			return sub, err
		}
		if err := tx.DeleteSubscription(ctx, id); err != nil {
			return sub, err
		}
		key := string(id)
		sub.Version++
		sub.UpdatedAt = schemas.Stamp(time.Now())
		meta := sub.Meta()
		meta.TraceParent = schemas.TraceOf(ctx)
		tx.Enqueue(store.OutboxRow{Topic: string(schemas.Subscriptions), Key: &key, Headers: meta.Headers()})
		return sub, nil
	})
}

// A ToggleAnswer is what ToggleSubscription has done.
type ToggleAnswer struct {
	ID        schemas.SubscriptionID
	AgentName string
	Old, New  bool // whether it is active
}

// ToggleSubscription switches a subscription that is off on, whoever switched it
// off, and one that is on off. Its health starts anew in both directions.
func (p *Producer) ToggleSubscription(ctx context.Context, s store.Scope, o *Once, id schemas.SubscriptionID) (ToggleAnswer, error) {
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (ToggleAnswer, error) {
		sub, err := tx.LockSubscription(ctx, id)
		if err != nil {
			return ToggleAnswer{}, err
		}
		now := schemas.Stamp(time.Now())
		a := ToggleAnswer{ID: id, AgentName: sub.AgentName, Old: sub.Active, New: !sub.Active}
		sub.Version, sub.UpdatedAt = sub.Version+1, now
		if err := p.turn(ctx, tx, &sub, a.New, now); err != nil {
			return a, err
		}
		return a, save(ctx, tx, &sub)
	})
}

// Disable switches a subscription off if it has not been switched on again since
// the caller looked, and tells its owner. It runs in the caller's own transaction.
func Disable(ctx context.Context, tx *store.Tx, id schemas.SubscriptionID, why schemas.DisabledReason, seen time.Time) (bool, error) {
	sub, err := tx.LockSubscription(ctx, id)
	if schemas.KindOf(err) == schemas.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !sub.Active || !sub.EnabledAt.Equal(schemas.Stamp(seen)) {
		return false, nil
	}
	sub.Active, sub.DisabledReason, sub.Version, sub.UpdatedAt = false, why, sub.Version+1, schemas.Stamp(time.Now())
	if err := save(ctx, tx, &sub); err != nil {
		return false, err
	}
	return true, TellOwner(ctx, tx, &sub, schemas.SubscriptionDisabled)
}

// DisableFailed switches up to limit subscriptions off that have failed for the
// time of after, or too often, though no attempt comes any more that would say so;
// and it publishes them and tells their owners, with what others have disabled by
// the database's function alone. It runs in the caller's own transaction, in RoleJobs, and says how many
// it published.
func DisableFailed(ctx context.Context, tx *store.Tx, after time.Duration, limit int) (int64, error) {
	if err := tx.DisableFailedSubscriptions(ctx, after, limit); err != nil {
		return 0, err
	}
	subs, err := tx.UnpublishedSubscriptions(ctx, limit)
	if err != nil {
		return 0, err
	}
	for i := range subs {
		sub := &subs[i]
		sub.UpdatedAt = schemas.Stamp(time.Now()) // else the row would get a moment of its own
		if err := save(ctx, tx, sub); err != nil {
			return 0, err
		}
		if err := TellOwner(ctx, tx, sub, schemas.SubscriptionDisabled); err != nil {
			return 0, err
		}
	}
	return int64(len(subs)), nil
}

func publish(ctx context.Context, tx *store.Tx, sub *store.Subscription) error {
	r, err := row(ctx, string(schemas.Subscriptions), string(sub.ID), sub.Meta(), &sub.Subscription)
	if err != nil {
		return err
	}
	tx.Enqueue(r)
	return nil
}

func urlTaken() error {
	return schemas.Refuse(schemas.Conflict, "url_taken", "webhook_url", "unique", "you have a subscription of this URL with other settings")
}
