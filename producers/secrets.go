package producers

import (
	"context"
	"time"

	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

const (
	// MaxOverlap bounds how long a rotated secret goes on signing, as Svix does.
	MaxOverlap = 7 * 24 * time.Hour
	// maxSecrets bounds how many secrets sign a request: each is a signature in one
	// header.
	maxSecrets = 10
)

// SecretRotation is the input of RotateSecret. SigningSecret is empty where Krib shall
// make one. Overlap is how long the secrets of before go on signing beside the new
// one: from 0 to MaxOverlap.
type SecretRotation struct {
	SigningSecret schemas.Secret
	Overlap       time.Duration
}

// RotateSecret gives a subscription a new signing secret, and a new ed25519 key
// if it has one. What signed until now goes on for the overlap, so a receiver that
// knows either secret can verify meanwhile.
func (p *Producer) RotateSecret(ctx context.Context, s store.Scope, o *Once, id schemas.SubscriptionID, in SecretRotation) (SubscriptionAnswer, error) {
	if in.Overlap < 0 || in.Overlap > MaxOverlap {
		return SubscriptionAnswer{}, schemas.Refuse(schemas.Malformed, "invalid_overlap", "overlap_seconds", "range",
			"overlap_seconds must be between 0 and %d", int64(MaxOverlap/time.Second))
	}
	raw, text, err := givenSecret(in.SigningSecret)
	if err != nil {
		return SubscriptionAnswer{}, err
	}
	if raw == nil {
		raw, text = schemas.NewSigningSecret()
	}
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (SubscriptionAnswer, error) {
		sub, err := tx.LockSubscription(ctx, id)
		if err != nil {
			return SubscriptionAnswer{}, err
		}
		now := schemas.Stamp(time.Now())
		asymmetric := currentKey(&sub) != nil
		sub.Secrets = retired(sub.Secrets, now, in.Overlap)
		if len(sub.Secrets) >= maxSecrets {
			return SubscriptionAnswer{}, schemas.Errorf(schemas.Conflict, "too_many_secrets",
				"%d secrets sign already; let the overlap of the oldest end first, or rotate with overlap_seconds 0", len(sub.Secrets))
		}
		sub.Secrets = append(sub.Secrets, p.sealSecret(&sub, raw, now))
		if asymmetric {
			sub.Secrets = append(sub.Secrets, p.newKey(&sub, now))
		}
		sub.Version, sub.UpdatedAt = sub.Version+1, now
		return SubscriptionAnswer{Subscription: sub, SigningSecret: text}, save(ctx, tx, &sub)
	})
}

// retired lets every secret end after the overlap, or earlier if it does already,
// and drops those that have ended.
func retired(have []schemas.SealedSecret, now time.Time, overlap time.Duration) []schemas.SealedSecret {
	end := schemas.Stamp(now.Add(overlap))
	var out []schemas.SealedSecret
	for _, x := range have {
		if x.ExpiresAt == nil || x.ExpiresAt.After(end) {
			x.ExpiresAt = &end
		}
		if x.ExpiresAt.After(now) {
			out = append(out, x)
		}
	}
	return out
}

// secrets are those of a subscription after its owner's choice: a given HMAC
// secret takes the place of the former ones, and there is a key pair if and only
// if v1a is asked for.
func (p *Producer) secrets(sub *store.Subscription, raw []byte, asymmetric bool, now time.Time) []schemas.SealedSecret {
	var out []schemas.SealedSecret
	if raw != nil {
		out = append(out, p.sealSecret(sub, raw, now))
	}
	for _, x := range sub.Secrets {
		if x.Algorithm == schemas.SignHMAC && raw == nil || x.Algorithm == schemas.SignEd25519 && asymmetric {
			out = append(out, x)
		}
	}
	if asymmetric && currentKey(sub) == nil {
		out = append(out, p.newKey(sub, now))
	}
	return out
}

func (p *Producer) sealSecret(sub *store.Subscription, raw []byte, now time.Time) schemas.SealedSecret {
	return schemas.SealedSecret{Sealed: p.o.Ring.Seal(raw, string(sub.ID), seal.FieldSigningSecret), CreatedAt: now}
}

func (p *Producer) newKey(sub *store.Subscription, now time.Time) schemas.SealedSecret {
	seed, public := schemas.NewSigningKey()
	x := p.sealSecret(sub, seed, now)
	x.Algorithm, x.PublicKey = schemas.SignEd25519, public
	return x
}

// currentKey is the subscription's key pair that no rotation has retired, or nil.
func currentKey(sub *store.Subscription) *schemas.SealedSecret {
	for i := range sub.Secrets {
		if x := &sub.Secrets[i]; x.Algorithm == schemas.SignEd25519 && x.ExpiresAt == nil {
			return x
		}
	}
	return nil
}
