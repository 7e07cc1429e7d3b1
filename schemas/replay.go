package schemas

import (
	"maps"
	"slices"
	"time"
)

// ReplayState says how far a replay is.
type ReplayState string

// The states of a replay. Done says that everything in its range was sent on its
// way; what of it has arrived is in its progress.
const (
	ReplayWaiting   ReplayState = "waiting"
	ReplayRunning   ReplayState = "running"
	ReplayDone      ReplayState = "done"
	ReplayCancelled ReplayState = "cancelled"
	ReplayFailed    ReplayState = "failed"
)

// Ended says whether nothing more will be sent.
func (s ReplayState) Ended() bool {
	return s == ReplayDone || s == ReplayCancelled || s == ReplayFailed
}

// ReplayReason says why a replay failed.
type ReplayReason string

// The reasons.
const (
	ReplayDisabled  ReplayReason = "subscription_disabled" // while it ran
	ReplayEventGone ReplayReason = "event_gone"            // the one event asked for is no longer in the log
	ReplayLogGone   ReplayReason = "log_changed"           // the log does not reach back to where it was read
)

// A ReplayRange says which events of the log are meant. Zero members do not
// narrow it.
type ReplayRange struct {
	Since      *time.Time  `json:"since,omitempty"` // inclusive, by when the event occurred
	Until      *time.Time  `json:"until,omitempty"` // exclusive
	BookingID  BookingID   `json:"booking_id,omitempty"`
	EventTypes []EventType `json:"event_types,omitempty"`
	// OnlyFailed leaves only those whose delivery has ended without being delivered.
	OnlyFailed bool `json:"only_failed,omitempty"`
	// DeliveryID names one delivery, which is sent again whatever has become of it.
	DeliveryID DeliveryID `json:"delivery_id,omitempty"`
}

// Single says whether the range is one delivery.
func (r *ReplayRange) Single() bool { return r.DeliveryID != "" }

// Matches says whether an event is in the range and goes to s. What may be seen
// by whom holds for every range; what the subscription asks for now does not hold
// for a delivery that is named, since it asked for that one when it was made.
func (r *ReplayRange) Matches(e *Event, s *Subscription) bool {
	switch {
	case !e.HostWebhooks, !s.Sees(e.Booking.AgentID), r.BookingID != "" && r.BookingID != e.Booking.ID:
		return false
	case r.Single():
		return DeliveryFor(e.ID, s.ID) == r.DeliveryID
	case r.Since != nil && e.OccurredAt.Before(*r.Since), r.Until != nil && !e.OccurredAt.Before(*r.Until):
		return false
	case len(r.EventTypes) > 0 && !slices.Contains(r.EventTypes, e.Type):
		return false
	}
	return s.Matches(e.Booking.AgentID, e.Type)
}

// A ReplaySpan is how far a partition of the log was read: everything before Next.
// Start and End were fixed when the replay began.
type ReplaySpan struct {
	Partition int32 `json:"partition"`
	Start     int64 `json:"start"`
	Next      int64 `json:"next"`
	End       int64 `json:"end"`
}

// ReplayProgress is what a replay has done, as it was last saved. What was
// produced after that is produced again by whoever goes on.
type ReplayProgress struct {
	Spans    []ReplaySpan `json:"spans,omitempty"` // none before it began
	Matched  int64        `json:"matched"`
	Produced int64        `json:"produced"`
	// Waiting are the deliveries that were produced and had not ended; there are
	// never more than a replay may have on the way.
	Waiting []DeliveryID `json:"waiting,omitempty"`
	// Ended counts those that had, by their last outcome.
	Ended map[Outcome]int64 `json:"ended,omitempty"`
}

// Settle moves the deliveries that have ended out of those that wait.
func (p *ReplayProgress) Settle(ended map[DeliveryID]Outcome) {
	if len(ended) == 0 {
		return
	}
	counts := make(map[Outcome]int64, len(p.Ended)+1)
	maps.Copy(counts, p.Ended)
	var waiting []DeliveryID
	for _, id := range p.Waiting {
		if o, ok := ended[id]; ok {
			counts[o]++
		} else {
			waiting = append(waiting, id)
		}
	}
	p.Waiting, p.Ended = waiting, counts
}

// Read is the share of the range that was read, from 0 to 1.
func (p *ReplayProgress) Read() float64 {
	var read, all int64
	for _, s := range p.Spans {
		read += s.Next - s.Start
		all += s.End - s.Start
	}
	if all == 0 {
		return 0
	}
	return float64(read) / float64(all)
}

// A Replay is a job: events of the log on their way to one subscription once more,
// as a run of their own. A dry one counts them and sends nothing.
type Replay struct {
	ID             ReplayID       `json:"id"`
	AgentID        AgentID        `json:"agent_id"` // the subscription's owner
	SubscriptionID SubscriptionID `json:"subscription_id"`
	Run            int64          `json:"run"`     // of the deliveries
	Trigger        Trigger        `json:"trigger"` // of the deliveries: replay or manual
	DryRun         bool           `json:"dry_run,omitempty"`
	Range          ReplayRange    `json:"range"`
	State          ReplayState    `json:"state"`
	Reason         ReplayReason   `json:"reason,omitempty"`
	Progress       ReplayProgress `json:"progress"`
	CreatedAt      time.Time      `json:"created_at"`
	StartedAt      *time.Time     `json:"started_at,omitempty"`
	FinishedAt     *time.Time     `json:"finished_at,omitempty"`
	// SavedAt is when the progress was last saved.
	SavedAt time.Time `json:"saved_at"`
}
