package schemas

import (
	"slices"
	"time"

	"github.com/segmentio/encoding/json"
)

// NotificationType is what a notification is about.
type NotificationType string

// The types of notification.
const (
	NewBooking        NotificationType = "new_booking"
	NotifyPayment     NotificationType = "payment_received"
	GuestMessage      NotificationType = "guest_message"
	Urgent            NotificationType = "urgent"
	NotifyBookingMove NotificationType = "booking_update"
)

// NotificationTypes is the closed list, in the order in which errors show it.
func NotificationTypes() []NotificationType {
	return []NotificationType{NewBooking, NotifyPayment, GuestMessage, Urgent, NotifyBookingMove}
}

// Known says whether t is in the closed list.
func (t NotificationType) Known() bool { return slices.Contains(NotificationTypes(), t) }

// Priority orders notifications for people; nothing is delivered earlier for it.
type Priority string

// The priorities.
const (
	High   Priority = "high"
	Medium Priority = "medium"
	Low    Priority = "low"
)

// Priorities is the closed list, in the order in which errors show it.
func Priorities() []Priority { return []Priority{High, Medium, Low} }

// Known says whether p is in the closed list.
func (p Priority) Known() bool { return slices.Contains(Priorities(), p) }

// A Notification is one entry of a host's inbox, in the contract's fields.
type Notification struct {
	ID             NotificationID   `json:"id"`
	HostID         HostID           `json:"host_id"`
	Type           NotificationType `json:"type"`
	Title          string           `json:"title"`
	Message        string           `json:"message"`
	BookingID      string           `json:"booking_id,omitempty"`  // as the sender gave it
	PropertyID     string           `json:"property_id,omitempty"` // as the sender gave it
	Priority       Priority         `json:"priority"`
	ActionRequired bool             `json:"action_required"`
	ActionURL      string           `json:"action_url,omitempty"`
	ExpiresAt      *time.Time       `json:"expires_at,omitempty"`
	IsRead         bool             `json:"is_read"`
	ReadAt         *time.Time       `json:"read_at,omitempty"`
	CreatedAt      time.Time        `json:"created_at"`
	UpdatedAt      time.Time        `json:"updated_at"`
}

// FeedKind is the type of a record on host.notifications, and of the SSE event
// that it becomes.
type FeedKind string

// The kinds of feed record.
const (
	FeedNotification FeedKind = "notification"
	FeedUpdate       FeedKind = "notification_update"
	FeedBooking      FeedKind = "booking_update"
	FeedAnnouncement FeedKind = "system_announcement"
)

// FeedAction is what happened to a notification in a FeedUpdate record.
type FeedAction string

// The actions of a notification_update.
const (
	MarkedRead   FeedAction = "read"
	MarkedUnread FeedAction = "unread"
	Deleted      FeedAction = "deleted"
	// MarkedAllRead is of every notification up to one.
	MarkedAllRead FeedAction = "read_all"
)

// A NotificationUpdate says what happened to a notification.
type NotificationUpdate struct {
	NotificationID NotificationID `json:"notification_id"`
	Action         FeedAction     `json:"action"`
	At             time.Time      `json:"at"`
	// UpTo is set on MarkedAllRead: every notification that was created earlier is
	// read, and of those created then the ones whose id is not above NotificationID.
	UpTo *time.Time `json:"up_to,omitempty"`
}

// A BookingUpdate is what a dashboard shows of a booking, in the contract's
// fields.
type BookingUpdate struct {
	BookingID     BookingID     `json:"booking_id"`
	Version       int64         `json:"version"`
	EventType     EventType     `json:"event_type"`
	Status        BookingStatus `json:"status"`
	PropertyID    PropertyID    `json:"property_id"`
	PropertyTitle string        `json:"property_title"`
	GuestName     string        `json:"guest_name"`
	CheckIn       Date          `json:"check_in"`
	CheckOut      Date          `json:"check_out"`
	TotalAmount   Amount        `json:"total_amount"`
	Currency      string        `json:"currency"`
	UpdatedAt     time.Time     `json:"updated_at"`
	CreatedAt     time.Time     `json:"created_at"`
}

// A FeedRecord is the value on host.notifications: one SSE event of one host.
// Exactly the member that its Kind names is set.
type FeedRecord struct {
	Kind         FeedKind            `json:"kind"`
	HostID       HostID              `json:"host_id,omitempty"` // empty on an announcement
	At           time.Time           `json:"at"`
	EventID      EventID             `json:"event_id,omitempty"` // the booking event behind it
	Notification *Notification       `json:"notification,omitempty"`
	Update       *NotificationUpdate `json:"update,omitempty"`
	Booking      *BookingUpdate      `json:"booking,omitempty"`
	Announcement json.RawMessage     `json:"announcement,omitempty"`
}

// A Progress is the value on outbox.progress: the outbox rows that were
// published by the transaction that this record is part of.
type Progress struct {
	// Outbox names the database whose rows they are: a new or restored one gives
	// the same ids to other rows.
	Outbox string    `json:"outbox"`
	IDs    []int64   `json:"ids"`
	At     time.Time `json:"at"`
}

// A Poison is the value on krib.poison: a record that its reader could not
// decode, whole, and why.
type Poison struct {
	Reader    string            `json:"reader"`
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Error     string            `json:"error"`
	Key       []byte            `json:"key,omitempty"`
	Value     []byte            `json:"value,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
	At        time.Time         `json:"at"`
}
