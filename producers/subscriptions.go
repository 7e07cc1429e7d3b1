package producers

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// NewSubscription is the input of CreateSubscription and UpdateSubscription.
// SigningSecret is empty where Krib shall make one (create) or keep the one that
// there is (update).
type NewSubscription struct {
	AgentName     string
	URL           string
	Events        []schemas.EventType
	APIKey        schemas.Secret
	SigningSecret schemas.Secret
}

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
	link, raw, text, err := p.checkSubscription(&in)
	if err != nil {
		return SubscriptionAnswer{}, err
	}
	if raw == nil {
		raw, text = schemas.NewSigningSecret()
	}
	create := func(ctx context.Context, tx *store.Tx) (SubscriptionAnswer, error) {
		have, err := tx.SubscriptionByURL(ctx, s.Agent, link)
		if err != nil {
			return SubscriptionAnswer{}, err
		}
		if have != nil {
			if !have.SameBody(fingerprint(&in)) {
				return SubscriptionAnswer{}, urlTaken()
			}
			return SubscriptionAnswer{Subscription: *have, Existing: true}, nil
		}
		now := schemas.Stamp(time.Now())
		sub := store.Subscription{MaxFailedAttempts: 5}
		sub.ID, sub.AgentID, sub.CreatedAt, sub.EnabledAt, sub.Active = schemas.NewSubscriptionID(), s.Agent, now, now, true
		p.fill(&sub, s, link, &in, raw, now)
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

// UpdateSubscription replaces what the owner may choose. It neither enables nor
// disables. A signing secret, if given, takes the old one's place at once.
func (p *Producer) UpdateSubscription(ctx context.Context, s store.Scope, id schemas.SubscriptionID, in NewSubscription) (SubscriptionAnswer, error) {
	link, raw, text, err := p.checkSubscription(&in)
	if err != nil {
		return SubscriptionAnswer{}, err
	}
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (SubscriptionAnswer, error) {
		sub, err := tx.LockSubscription(ctx, id)
		if err != nil {
			return SubscriptionAnswer{}, err
		}
		platform := sub.Platform
		p.fill(&sub, s, link, &in, raw, schemas.Stamp(time.Now()))
		if sub.AgentID != s.Agent {
			sub.Platform = platform // the platform edits for its owner, and lends it no sight
		}
		if err := tx.SaveSubscription(ctx, &sub); err != nil {
			if errors.Is(err, store.ErrURLTaken) {
				err = urlTaken()
			}
			return SubscriptionAnswer{}, err
		}
		return SubscriptionAnswer{Subscription: sub, SigningSecret: text}, publish(ctx, tx, &sub)
	})
}

// fill writes the input over a subscription and counts its version up.
func (p *Producer) fill(sub *store.Subscription, s store.Scope, link string, in *NewSubscription, raw []byte, now time.Time) {
	owner := string(sub.ID)
	sub.Version++
	sub.AgentName, sub.URL, sub.Events, sub.Platform, sub.UpdatedAt = in.AgentName, link, in.Events, s.Platform, now
	sub.SealedAPIKey = p.o.Ring.Seal([]byte(in.APIKey.Reveal()), owner, seal.FieldAPIKey)
	if raw != nil {
		sub.Secrets = []schemas.SealedSecret{{Sealed: p.o.Ring.Seal(raw, owner, seal.FieldSigningSecret), CreatedAt: now}}
	}
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
		sub.Active, sub.DisabledReason, sub.Version, sub.UpdatedAt = a.New, schemas.DisabledByOwner, sub.Version+1, now
		if a.New {
			sub.DisabledReason, sub.EnabledAt = "", now
		}
		if err := tx.SaveSubscription(ctx, &sub); err != nil {
			return a, err
		}
		if err := tx.ResetHealth(ctx, id); err != nil {
			return a, err
		}
		return a, publish(ctx, tx, &sub)
	})
}

// Disable switches a subscription off if it has not been switched on again since
// the caller looked. It runs in the caller's own transaction.
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
	if err := tx.SaveSubscription(ctx, &sub); err != nil {
		return false, err
	}
	return true, publish(ctx, tx, &sub)
}

// DisableFailed switches up to limit subscriptions off that have failed for the
// time of after, or too often, though no attempt comes any more that would say so;
// and it publishes them, with what others have disabled by the database's function
// alone. It runs in the caller's own transaction, in RoleJobs, and says how many
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
		if err := tx.SaveSubscription(ctx, sub); err != nil {
			return 0, err
		}
		if err := publish(ctx, tx, sub); err != nil {
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

// fingerprint recognises the same input again, the secret of the agent included.
func fingerprint(in *NewSubscription) []byte {
	b, err := json.Marshal([]any{in.AgentName, in.URL, in.Events, in.APIKey.Reveal(), in.SigningSecret.Reveal()})
	if err != nil {
		panic(err) // strings always encode
	}
	h := sha256.Sum256(b)
	return h[:]
}

// checkSubscription returns the URL in its one form and the secret's bytes.
func (p *Producer) checkSubscription(in *NewSubscription) (link string, raw []byte, text schemas.Secret, err error) {
	if err := checkEvents("events", in.Events); err != nil {
		return "", nil, "", err
	}
	if link, err = p.checkURL(in.URL); err != nil {
		return "", nil, "", err
	}
	if in.SigningSecret != "" {
		raw, err = schemas.ParseSigningSecret(in.SigningSecret)
		if err != nil {
			return "", nil, "", schemas.Refuse(schemas.Malformed, "invalid_signing_secret", "signing_secret", "format", "signing_secret %s", err)
		}
	}
	return link, raw, in.SigningSecret, nil
}

// checkEvents blames the field that the caller gave them in.
func checkEvents(field string, events []schemas.EventType) error {
	bad := []schemas.EventType{}
	for _, e := range events {
		if !e.Subscribable() {
			bad = append(bad, e)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	e := schemas.Refuse(schemas.Rule, "invalid_events", field, "enum", "unknown events: %v", bad)
	e.Extra = map[string]any{"invalid_events": bad, "valid_events": schemas.SubscribableEvents()}
	return e
}

// checkURL refuses what can never be delivered to. A name may still resolve to a
// refused address later: the dialer looks at the address that it really dials.
func (p *Producer) checkURL(s string) (string, error) {
	bad := func(rule, format string, args ...any) error {
		return schemas.Refuse(schemas.Malformed, "invalid_url", "webhook_url", rule, format, args...)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || len(s) > 2048:
		return "", bad("format", "webhook_url must be an absolute URL of at most 2048 characters")
	case u.Scheme != "https" && u.Scheme != "http":
		return "", bad("scheme", "webhook_url must begin with https://")
	case u.Scheme == "http" && !p.o.AllowHTTP:
		return "", bad("scheme", "webhook_url must begin with https://; plain http is not allowed here")
	case u.User != nil:
		return "", bad("userinfo", "webhook_url must not hold a user or password")
	case !validPort(u.Port()):
		return "", bad("port", "webhook_url must name a port from 1 to 65535, or none")
	case u.Fragment != "":
		return "", bad("fragment", "webhook_url must not have a fragment")
	}
	if ip, err := netip.ParseAddr(strings.Trim(u.Hostname(), "[]")); err == nil && !p.o.AllowedAddress(ip) {
		return "", bad("address", "webhook_url must not name a private, local or reserved address")
	}
	u.Host = strings.ToLower(u.Host)
	if u.Path == "" {
		u.Path = "/" // as the original normalised it
	}
	return u.String(), nil
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && n > 0
}
