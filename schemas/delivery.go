package schemas

import "time"

// Trigger says what made an attempt happen.
type Trigger string

// The triggers of an attempt.
const (
	TriggerEvent       Trigger = "event"
	TriggerRetry       Trigger = "retry"
	TriggerManual      Trigger = "manual"
	TriggerReplay      Trigger = "replay"
	TriggerTest        Trigger = "test"
	TriggerOperational Trigger = "operational"
)

// A Delivery is the value on webhook.deliveries, on every webhook.retry tier and
// on webhook.dead: one event on its way to one subscription.
//
// (ID, Run, Attempt, Hop) names one record of that way. Run is 0 for the event's
// own delivery; a replay, a manual retry and a requeue have runs of their own.
// Attempt counts the POSTs made before, so it is the ladder's position. Hop
// grows with every record written, so a record that comes back from a tier is
// not taken for a repeat of the one that went there.
type Delivery struct {
	ID             DeliveryID     `json:"id"`
	EventID        EventID        `json:"event_id"`
	EventType      EventType      `json:"event_type"`
	SubscriptionID SubscriptionID `json:"subscription_id"`
	AgentID        AgentID        `json:"agent_id"` // the subscription's owner
	BookingID      BookingID      `json:"booking_id,omitempty"`
	Sequence       int64          `json:"sequence"` // the booking's version
	Run            int64          `json:"run"`
	Attempt        int            `json:"attempt"`
	Hop            int            `json:"hop"`
	Trigger        Trigger        `json:"trigger"`
	CreatedAt      time.Time      `json:"created_at"` // of this run
	// AttemptsBefore are the POSTs that former runs have made, as far as the log of
	// attempts knew when this run began. They count for X-Webhook-Attempt only.
	AttemptsBefore int `json:"attempts_before,omitempty"`
	// NotBefore is set when a wait is longer than the tier that it was put on.
	NotBefore *time.Time `json:"not_before,omitempty"`
	// TurnAt is when its turn comes under its subscription's rate limit; it holds only
	// for the lane that gave it out.
	TurnAt *time.Time `json:"turn_at,omitempty"`
	// DeadReason is set on webhook.dead only.
	DeadReason string `json:"dead_reason,omitempty"`
	// LastStatus and LastError are those of the attempt before, if any.
	LastStatus int    `json:"last_status,omitempty"`
	LastError  string `json:"last_error,omitempty"`
	// FilterNotAsked says that the subscription's filter was not asked about the event,
	// because its agent's filters had used up their time.
	FilterNotAsked bool `json:"filter_not_asked,omitempty"`
	// Payload is the request body, as text inside the JSON: its bytes are what is
	// signed and sent, the same on every attempt.
	Payload string `json:"payload"`
}

// DeliveryOf is the event's own delivery to a subscription, before its first
// attempt. body is the event's, of no subscription; see [BodyOf].
func DeliveryOf(e *Event, s *Subscription, body WebhookBody) (Delivery, error) {
	payload, err := Encode(body.For(s.URL, s.ID))
	if err != nil {
		return Delivery{}, err
	}
	return Delivery{
		ID: DeliveryFor(e.ID, s.ID), EventID: e.ID, EventType: e.Type, SubscriptionID: s.ID, AgentID: s.AgentID,
		BookingID: e.Booking.ID, Sequence: e.Version, Trigger: TriggerEvent, CreatedAt: e.OccurredAt, Payload: string(payload),
	}, nil
}

// Outcome is the verdict on one attempt.
type Outcome string

// The outcomes. Withheld means that no POST was made, because the subscription
// was disabled or deleted meanwhile; Superseded that none was made, because a
// later event of the booking was there and the subscription wants the latest only.
// Parked attempts do not exist, since parking uses up none.
const (
	Delivered Outcome = "delivered"
	Retry     Outcome = "retry" // failed; the next tier has it
	Dead      Outcome = "dead"  // failed; nothing will try again by itself
	Gone      Outcome = "gone"  // the receiver wants no more; the subscription is disabled
	Withheld  Outcome = "withheld"

	Superseded Outcome = "superseded"
)

// ErrorClass is the closed set of what can go wrong with an attempt. It labels
// metrics, so it must stay small.
type ErrorClass string

// The error classes.
const (
	ErrorNone       ErrorClass = ""
	ErrorStatus     ErrorClass = "status"  // an answer that is not 2xx
	ErrorTimeout    ErrorClass = "timeout" // no whole answer before the deadline
	ErrorConnect    ErrorClass = "connect" // refused, reset, unreachable
	ErrorDNS        ErrorClass = "dns"     // the name does not resolve, and others do
	ErrorTLS        ErrorClass = "tls"
	ErrorRefused    ErrorClass = "refused_address" // an address we do not call
	ErrorBadURL     ErrorClass = "bad_url"
	ErrorProtocol   ErrorClass = "protocol" // not HTTP, a torn answer
	ErrorOurs       ErrorClass = "ours"     // our fault: never charged
	ErrorDisabled   ErrorClass = "subscription_disabled"
	ErrorDeleted    ErrorClass = "subscription_deleted"
	ErrorOutOfTime  ErrorClass = "expired" // parked until older than the ladder
	ErrorOutOfTries ErrorClass = "exhausted"
	ErrorSuperseded ErrorClass = "superseded" // a later event of the booking is there
)

// An Attempt is the value on webhook.attempts: one POST and what came of it, or
// the word that none was made (Withheld, or a dead letter without an attempt).
// One attempt may have several records: a worker that is killed before what follows
// from an attempt is written makes it again. See [Attempt.Outweighs].
type Attempt struct {
	DeliveryID     DeliveryID     `json:"delivery_id"`
	EventID        EventID        `json:"event_id"`
	EventType      EventType      `json:"event_type"`
	SubscriptionID SubscriptionID `json:"subscription_id"`
	AgentID        AgentID        `json:"agent_id"`
	BookingID      BookingID      `json:"booking_id,omitempty"`
	Run            int64          `json:"run"`
	Number         int            `json:"number"` // from 1
	Trigger        Trigger        `json:"trigger"`
	StartedAt      time.Time      `json:"started_at"`
	DurationMS     int64          `json:"duration_ms"`
	Outcome        Outcome        `json:"outcome"`
	Final          bool           `json:"final"` // nothing follows by itself
	Status         int            `json:"status,omitempty"`
	ErrorClass     ErrorClass     `json:"error_class,omitempty"`
	Error          string         `json:"error,omitempty"`
	// ResponseBody is at most 4 KB, valid UTF-8, without U+0000.
	ResponseBody  string     `json:"response_body,omitempty"`
	NextAttemptAt *time.Time `json:"next_attempt_at,omitempty"`
	// DeliveryCreatedAt decides the partition of the attempts table.
	DeliveryCreatedAt time.Time `json:"delivery_created_at"`
	FilterNotAsked    bool      `json:"filter_not_asked,omitempty"` // the delivery's
}

// Outweighs says that of two records of one attempt the other says less: a request
// that was taken ends the delivery, whatever another came to; then comes that the
// receiver wants no more, then any other end. Of two that weigh the same the first is
// kept.
func (a *Attempt) Outweighs(other *Attempt) bool { return a.weight() > other.weight() }

func (a *Attempt) weight() int {
	switch {
	case a.Outcome == Delivered:
		return 3
	case a.Outcome == Gone:
		return 2
	case a.Final:
		return 1
	}
	return 0
}

// CountsForHealth says whether an attempt may change a subscription's health:
// tests and operational deliveries never do, nor does what was not sent, nor what
// failed for a reason on our side.
func (a *Attempt) CountsForHealth() bool {
	return a.Trigger != TriggerTest && a.Trigger != TriggerOperational && a.Outcome != Withheld && a.Outcome != Superseded && a.ErrorClass != ErrorOurs
}
