package schemas

import (
	"time"

	"github.com/segmentio/encoding/json"
)

// A Pull is what an agent asks of the log of booking events.
type Pull struct {
	// For says whose events, and of which types, by the rule of subscriptions; see
	// [Subscription.Matches]. It is no subscription that anybody has made.
	For Subscription
	// Key is the API key that asks. What goes on at a time is counted by it.
	Key KeyID
	// After is the cursor of the answer before. Without it, reading begins with what
	// was published at Since or later, and without that with what comes from now on.
	After string
	Since time.Time
	// Limit is how many events one answer may have, Wait how long to wait for the
	// first of them. A stream has neither.
	Limit int
	Wait  time.Duration
}

// Pulled is the answer: events as their webhooks' bodies, and how to go on.
type Pulled struct {
	Events     []json.RawMessage `json:"events"`
	NextCursor string            `json:"next_cursor"`
	// HasMore says that there is more to read behind the cursor at once. It need not
	// be for this agent.
	HasMore bool `json:"has_more"`
	// CompleteSince is from when on every event is there. Of what is older, only the
	// last event of each booking is sure to be.
	CompleteSince time.Time `json:"complete_since"`
}
