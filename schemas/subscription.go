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
	// Algorithm is empty for HMAC-SHA256, the signature v1. An ed25519 secret is the
	// seed of a key pair and signs v1a.
	Algorithm SigningAlgorithm `json:"algorithm,omitempty"`
	// PublicKey is what verifies v1a: whpk_ and base64. Empty for HMAC.
	PublicKey string `json:"public_key,omitempty"`
}

// SigningAlgorithm says how a secret signs.
type SigningAlgorithm string

// The algorithms. The empty one is HMAC-SHA256.
const (
	SignHMAC    SigningAlgorithm = ""
	SignEd25519 SigningAlgorithm = "ed25519"
)

// Ordering says what a failed delivery means for the others of its booking, for
// one subscription.
type Ordering string

// The orderings. First attempts are made in the booking's order in each.
const (
	// OrderNone: later events do not wait for one that failed; sequence in the body
	// says which is newer.
	OrderNone Ordering = "none"
	// OrderBooking: later events of the booking wait until one that failed was
	// delivered, or has run out of attempts.
	OrderBooking Ordering = "booking"
	// OrderLatest: an attempt is not made again once a later event of the booking is
	// there.
	OrderLatest Ordering = "latest"
)

// Orderings is the closed list, in the order in which errors show it.
func Orderings() []Ordering { return []Ordering{OrderNone, OrderBooking, OrderLatest} }

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
	Description  string         `json:"description,omitempty"`
	// Filter is a CEL expression over event and booking; empty matches every event.
	Filter string `json:"filter,omitempty"`
	// Ordering is never empty on what is written now; older records have none, which
	// means OrderNone.
	Ordering Ordering `json:"ordering,omitempty"`
	// RateLimit is how many requests a minute its endpoint wants at most; 0 for no
	// limit.
	RateLimit int `json:"rate_limit_per_minute,omitempty"`
	// SealedHeaders is a JSON object of the headers that its requests carry besides
	// Krib's own, sealed: their values may be credentials. HeaderNames are not.
	SealedHeaders []byte    `json:"sealed_headers,omitempty"`
	HeaderNames   []string  `json:"header_names,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	UpdatedAt     time.Time `json:"updated_at"`
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
