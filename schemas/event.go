package schemas

import (
	"slices"
	"time"
)

// EventType says what happened. Agents subscribe to these names.
type EventType string

// The types of event. TestWebhook and those of subscriptions never enter
// booking.events.
const (
	BookingCreated     EventType = "booking.created"
	BookingConfirmed   EventType = "booking.confirmed"
	BookingCancelled   EventType = "booking.cancelled"
	PaymentReceived    EventType = "payment.received"
	HostResponseNeeded EventType = "host.response_needed"
	// BookingCompleted and BookingNoShow are on the topic for its readers; the
	// contract's list of subscribable events does not have them.
	BookingCompleted EventType = "booking.completed"
	BookingNoShow    EventType = "booking.no_show"
	TestWebhook      EventType = "test.webhook"

	// What happens to an agent's subscription is told to the agent's other ones.
	// These never enter booking.events either.
	SubscriptionFailing   EventType = "subscription.failing"
	SubscriptionRecovered EventType = "subscription.recovered"
	SubscriptionDisabled  EventType = "subscription.disabled"
)

// SubscribableEvents is the closed list an agent may subscribe to, in the order
// in which errors show it.
func SubscribableEvents() []EventType {
	return []EventType{
		BookingCreated, BookingConfirmed, BookingCancelled, PaymentReceived, HostResponseNeeded, TestWebhook,
		SubscriptionFailing, SubscriptionRecovered, SubscriptionDisabled,
	}
}

// Operational says whether e is about a subscription and not about a booking.
func (e EventType) Operational() bool {
	return e == SubscriptionFailing || e == SubscriptionRecovered || e == SubscriptionDisabled
}

// Subscribable says whether an agent may name e in a subscription.
func (e EventType) Subscribable() bool { return slices.Contains(SubscribableEvents(), e) }

// BookingEventTypes are the types that stand on booking.events.
func BookingEventTypes() []EventType {
	return []EventType{BookingCreated, BookingConfirmed, BookingCancelled, PaymentReceived, HostResponseNeeded, BookingCompleted, BookingNoShow}
}

// StatusEvent is the event of a move to status s; empty for pending, which
// nothing moves to.
func StatusEvent(s BookingStatus) EventType {
	switch s {
	case Confirmed:
		return BookingConfirmed
	case Cancelled:
		return BookingCancelled
	case Completed:
		return BookingCompleted
	case NoShow:
		return BookingNoShow
	case Pending:
	}
	return ""
}

// ActorKind says who caused a change.
type ActorKind string

// The kinds of actor.
const (
	ActorAgent  ActorKind = "agent"
	ActorHost   ActorKind = "host"
	ActorSystem ActorKind = "system"
)

// An Actor is who caused a change; ID is an agent's, a host's, or a job's name.
type Actor struct {
	Kind ActorKind `json:"kind"`
	ID   string    `json:"id"`
	// Platform says that an agent acted with a key of the platform, which may change
	// every agent's bookings.
	Platform bool `json:"platform,omitempty"`
}

// ReminderKind says why host.response_needed was sent.
type ReminderKind string

// The kinds of reminder: at creation, at half and at nine tenths of the time
// that a host has to answer.
const (
	ReminderCreated    ReminderKind = "created"
	ReminderHalf       ReminderKind = "half"
	ReminderNineTenths ReminderKind = "nine_tenths"
)

// A Payment is one payment towards a booking.
type Payment struct {
	Method    string    `json:"method"`
	Amount    Amount    `json:"amount"`
	Currency  string    `json:"currency"`
	Reference string    `json:"reference"`
	At        time.Time `json:"at"`
	// Provider is who took it; the reference is the provider's. Empty on records
	// from before it was kept.
	Provider string `json:"provider,omitempty"`
	// PaidTotal is what has been paid towards the booking, this payment included.
	PaidTotal Amount `json:"paid_total,omitempty"`
}

// An Event is the value on booking.events: one accepted change of one booking,
// with the whole booking after it. The latest event of a key is its state.
type Event struct {
	ID         EventID   `json:"id"`
	Type       EventType `json:"type"`
	Version    int64     `json:"version"` // equals Booking.Version
	OccurredAt time.Time `json:"occurred_at"`
	Actor      Actor     `json:"actor"`
	Booking    Booking   `json:"booking"`
	// Changed names the booking's members that differ from the version before.
	Changed        []string      `json:"changed"`
	PreviousStatus BookingStatus `json:"previous_status,omitempty"`
	Reminder       ReminderKind  `json:"reminder,omitempty"`
	Payment        *Payment      `json:"payment,omitempty"`
	// HostWebhooks is the host's own switch at the time of the change; when it is
	// off, fan-out writes no deliveries for the event.
	HostWebhooks bool `json:"host_webhooks"`
	// HostMuted are the types of notification that the host had switched off at the
	// time of the change; fan-out makes none of them.
	HostMuted []NotificationType `json:"host_muted,omitempty"`
	// AutoApproved says that a booking was confirmed by its host's settings, without
	// being asked.
	AutoApproved bool `json:"auto_approved,omitempty"`
}

// Complete says whether e has what every reader relies on. A value can be valid
// JSON and no event.
func (e *Event) Complete() bool {
	return e.ID != "" && e.Type != "" && e.Booking.ID != "" && e.Booking.CheckIn != "" && e.Booking.CheckOut != ""
}
