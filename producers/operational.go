package producers

import (
	"context"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/schemas"
)

// maxTold bounds how many endpoints of one agent are told of one change.
const maxTold = 100

// operationalData is the data of an operational webhook.
type operationalData struct {
	SubscriptionID       schemas.SubscriptionID `json:"subscription_id"`
	AgentName            string                 `json:"agent_name"`
	URL                  string                 `json:"webhook_url"`
	Active               bool                   `json:"is_active"`
	DisabledReason       schemas.DisabledReason `json:"disabled_reason,omitempty"`
	FailedAttempts       int                    `json:"failed_attempts"`
	MaxFailedAttempts    int                    `json:"max_failed_attempts"`
	FailingSince         *time.Time             `json:"failing_since"`
	LastSuccessfulCallAt *time.Time             `json:"last_successful_call"`
}

// TellOwner writes an operational event about a subscription to the other active
// ones of its agent that ask for it. It runs in the caller's own transaction. What
// is told is delivered once, without a ladder, and counts for nobody's health, so
// that it cannot go round in circles.
func TellOwner(ctx context.Context, tx *store.Tx, about *store.Subscription, event schemas.EventType) error {
	subs, _, err := tx.Subscriptions(ctx, store.SubscriptionFilter{ActiveOnly: true, Agent: about.AgentID, Event: event, Limit: maxTold})
	if err != nil {
		return err
	}
	data, err := schemas.Encode(operationalData{
		SubscriptionID: about.ID, AgentName: about.AgentName, URL: webhook.Shown(about.URL), Active: about.Active, DisabledReason: about.DisabledReason,
		FailedAttempts: about.FailedAttempts, MaxFailedAttempts: about.MaxFailedAttempts, FailingSince: about.FirstFailureAt,
		LastSuccessfulCallAt: about.LastSuccessfulCall,
	})
	if err != nil {
		return err
	}
	now, id := schemas.Stamp(time.Now()), schemas.NewEventID()
	for i := range subs {
		to := &subs[i].Subscription
		if to.ID == about.ID {
			continue
		}
		_, r, err := direct(ctx, to, id, event, schemas.TriggerOperational, data, now)
		if err != nil {
			return err
		}
		tx.Enqueue(r)
	}
	return nil
}
