package schemas

import (
	"slices"
	"time"
)

// A SealedSecret is a signing secret as it lies on the topic and in Postgres.
// Sealed can be opened only with the key ring; it holds the raw bytes that both
// HMACs use.
type SealedSecret struct {
	Sealed    []byte     `json:"sealed"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"` // nil: the current secret
}

// DisabledReason says why a subscription does not deliver; empty if it does.
type DisabledReason string

// The reasons for which a subscription is switched off.
const (
	DisabledByOwner    DisabledReason = "owner"
	DisabledByFailures DisabledReason = "failures"
	DisabledByTime     DisabledReason = "failing_too_long"
	DisabledByGone     DisabledReason = "gone"
	// DisabledByKeys: its agent has no live API key left.
	DisabledByKeys DisabledReason = "no_live_key"
)

// A Subscription is the value on webhook.subscriptions: the whole subscription
// after a change, its secrets sealed. A deleted one is a tombstone.
type Subscription struct {
	ID        SubscriptionID `json:"id"`
	Version   int64          `json:"version"`
	AgentID   AgentID        `json:"agent_id"`
	AgentName string         `json:"agent_name"`
	URL       string         `json:"webhook_url"`
	Events    []EventType    `json:"events"`
	// Platform subscriptions match the bookings of every agent. It is copied from
	// the API key at each write, and rewritten when the key changes.
	Platform       bool           `json:"platform"`
	Active         bool           `json:"active"`
	DisabledReason DisabledReason `json:"disabled_reason,omitempty"`
	// EnabledAt is when it was last switched on; older attempts do not count
	// against its health.
	EnabledAt    time.Time      `json:"enabled_at"`
	SealedAPIKey []byte         `json:"sealed_api_key"`
	Secrets      []SealedSecret `json:"secrets"`
	CreatedAt    time.Time      `json:"created_at"`
	UpdatedAt    time.Time      `json:"updated_at"`
}

// Matches says whether an event of an agent's booking goes to s. It does not ask
// whether s is active: deliver says so in an attempt, so that the accounting of
// matched events adds up.
func (s *Subscription) Matches(agent AgentID, e EventType) bool {
	if !s.Platform && s.AgentID != agent {
		return false
	}
	return slices.Contains(s.Events, e)
}
