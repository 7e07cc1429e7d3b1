package producers

import (
	"context"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// narrow takes from the subscriptions of a locked agent what its live keys no
// longer allow, and publishes them: the sight of every agent's bookings without a
// platform key, and everything without any key at all. Nothing gives it back: the
// owner writes or toggles the subscription with the key that it has then.
func narrow(ctx context.Context, tx *store.Tx, agent schemas.AgentID) error {
	allow, err := tx.KeysAllow(ctx, agent)
	if err != nil {
		return err
	}
	subs, err := tx.SubscriptionsBeyond(ctx, agent, allow)
	if err != nil {
		return err
	}
	now := schemas.Stamp(time.Now())
	for i := range subs {
		sub := &subs[i]
		sub.Platform = sub.Platform && allow.Platform
		if sub.Active && !allow.Any {
			sub.Active, sub.DisabledReason = false, schemas.DisabledByKeys
		}
		sub.Version, sub.UpdatedAt = sub.Version+1, now
		if err := tx.SaveSubscription(ctx, sub); err != nil {
			return err
		}
		if err := publish(ctx, tx, sub); err != nil {
			return err
		}
	}
	return nil
}

// agentsAtOnce bounds a transaction of NarrowSubscriptions.
const agentsAtOnce = 100

// NarrowSubscriptions does for keys that expired what a revocation does at once,
// and for a subscription that was written while its key was being revoked. It
// runs in the caller's own transaction and says how many agents it found.
func NarrowSubscriptions(ctx context.Context, tx *store.Tx) (int64, error) {
	agents, err := tx.AgentsBeyondTheirKeys(ctx, agentsAtOnce)
	if err != nil {
		return 0, err
	}
	for _, id := range agents {
		if _, err := tx.LockAgent(ctx, id); err != nil {
			return 0, err
		}
		if err := narrow(ctx, tx, id); err != nil {
			return 0, err
		}
	}
	return int64(len(agents)), nil
}
