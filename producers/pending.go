package producers

import (
	"context"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// makesRoom is the end of a refusal's detail.
const makesRoom = "an answer of the host, a cancellation or the end of a request's time makes room"

// checkPending refuses a request with which the agent would have more unanswered
// ones than the bounds allow. A request occupies its nights for all other agents
// until its host answers or it expires, and costs its agent nothing. A platform key
// books for many agents and has no bound. The property must be locked.
func (c *change) checkPending(ctx context.Context, s store.Scope, p *store.Property, b *schemas.Booking, o *Options) error {
	if s.Platform || o.PendingNights == 0 && o.PendingRequests == 0 {
		return nil
	}
	have, err := c.tx.LockPending(ctx, s.Agent, p.HostID, p.ID, c.now)
	if err != nil {
		return err
	}
	// A property that takes longer stays only can be asked for one of the shortest.
	if nights := max(o.PendingNights, p.MinimumNights); o.PendingNights > 0 && have.Nights+b.Nights > nights {
		e := schemas.Refuse(schemas.Conflict, "too_many_pending_nights", "check_out", "max",
			"your pending requests may hold %d nights of this property; they hold %d, and this one has %d; %s", nights, have.Nights, b.Nights, makesRoom)
		e.Extra = map[string]any{"limit": nights, "pending": have.Nights}
		return e
	}
	if o.PendingRequests > 0 && have.Requests >= o.PendingRequests {
		e := schemas.Errorf(schemas.Conflict, "too_many_pending_requests",
			"you may have %d pending requests to the host of this property, and have %d; %s", o.PendingRequests, have.Requests, makesRoom)
		e.Extra = map[string]any{"limit": o.PendingRequests, "pending": have.Requests}
		return e
	}
	return nil
}
