package schemas

import (
	"fmt"
	"time"
)

// A Hold is the value on webhook.holds: what of one run of a booking's events is
// on its way to one subscription and away from webhook.deliveries. It is written
// only where the subscription's ordering asks for it; a tombstone says that
// nothing is outstanding any more.
type Hold struct {
	SubscriptionID SubscriptionID `json:"subscription_id"`
	BookingID      BookingID      `json:"booking_id"`
	Run            int64          `json:"run"`
	// Newest is the highest sequence that has been seen while something was
	// outstanding.
	Newest int64 `json:"newest"`
	// Outstanding are the deliveries that have failed or wait on a tier, the lowest
	// sequence first.
	Outstanding []Outstanding `json:"outstanding"`
}

// An Outstanding is one delivery of a Hold.
type Outstanding struct {
	DeliveryID DeliveryID `json:"delivery_id"`
	Sequence   int64      `json:"sequence"`
	// DueAt is when its tier lets it go.
	DueAt time.Time `json:"due_at"`
}

// Key is the hold's key on the topic. The run is part of it, since the events of
// a replay do not wait for those of another run.
func (h *Hold) Key() string {
	return fmt.Sprintf("%s|%s|%d", h.SubscriptionID, h.BookingID, h.Run)
}
