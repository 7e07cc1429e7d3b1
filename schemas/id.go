package schemas

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// Identifiers are opaque text: a short prefix that says what they name, an
// underscore, and 32 hex digits. Callers may also bring ids of their own for
// hosts, so nothing outside this file may rely on the form.
type (
	// AgentID names the owner of API keys, subscriptions and bookings.
	AgentID string
	// HostID names the person who rents a home out; it is the JWT's subject.
	HostID string
	// PropertyID names a home.
	PropertyID string
	// BookingID names a booking and is the key of its events.
	BookingID string
	// EventID names one accepted change; it is the webhook-id of its deliveries.
	EventID string
	// SubscriptionID names a webhook subscription and keys its deliveries.
	SubscriptionID string
	// DeliveryID names the delivery of one event to one subscription.
	DeliveryID string
	// NotificationID names one notification of a host.
	NotificationID string
	// PaymentID names one payment towards a booking.
	PaymentID string
	// KeyID names an API key; it is not the key.
	KeyID string
	// ReplayID names one replay of the log to a subscription.
	ReplayID string
)

// NewBookingID returns a fresh id; ids made later sort later.
func NewBookingID() BookingID { return BookingID(newID("bkg_")) }

// NewEventID returns a fresh id without a dot: Standard Webhooks signs
// "id.timestamp.body", where a dot in the id would be ambiguous.
func NewEventID() EventID { return EventID(newID("evt_")) }

// NewSubscriptionID returns a fresh id.
func NewSubscriptionID() SubscriptionID { return SubscriptionID(newID("sub_")) }

// NewNotificationID returns a fresh id, for a notification that no event derives.
func NewNotificationID() NotificationID { return NotificationID(newID("ntf_")) }

// NewDeliveryID returns a fresh id, for a delivery that no event derives (a test).
func NewDeliveryID() DeliveryID { return DeliveryID(newID("dlv_")) }

// NewPaymentID returns a fresh id.
func NewPaymentID() PaymentID { return PaymentID(newID("pay_")) }

// NewPropertyID returns a fresh id.
func NewPropertyID() PropertyID { return PropertyID(newID("prop_")) }

// NewHostID returns a fresh id.
func NewHostID() HostID { return HostID(newID("host_")) }

// NewAgentID returns a fresh id.
func NewAgentID() AgentID { return AgentID(newID("agent_")) }

// NewKeyID returns a fresh id.
func NewKeyID() KeyID { return KeyID(newID("key_")) }

// NewReplayID returns a fresh id.
func NewReplayID() ReplayID { return ReplayID(newID("rpl_")) }

// DeliveryFor derives the id from what the delivery is: the same event for the
// same subscription is the same delivery, however often it is computed.
func DeliveryFor(e EventID, s SubscriptionID) DeliveryID {
	return DeliveryID(derivedID("dlv_", string(e), string(s)))
}

// NotificationFor derives the id of the notification that an event creates.
func NotificationFor(e EventID) NotificationID {
	return NotificationID(derivedID("ntf_", string(e), "notification"))
}

// newID lays 48 bits of Unix milliseconds before 80 random bits, the order of
// RFC 9562 version 7, so that an index on ids grows at one end.
func newID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(time.Now().UnixMilli()))
	copy(b[:6], ms[2:])
	return prefix + hex.EncodeToString(b[:])
}

func derivedID(prefix string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0}) // so that ("ab","c") and ("a","bc") differ
	}
	return prefix + hex.EncodeToString(h.Sum(nil)[:16])
}
