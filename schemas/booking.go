package schemas

import (
	"strings"
	"time"
)

// BookingStatus is where a booking is in its life. See [BookingStatus.CanBecome].
type BookingStatus string

// The statuses of a booking.
const (
	Pending   BookingStatus = "pending"
	Confirmed BookingStatus = "confirmed"
	Cancelled BookingStatus = "cancelled"
	Completed BookingStatus = "completed"
	NoShow    BookingStatus = "no_show"
)

// CanBecome says whether a booking may move from s to next. The same status
// again is not a move: it is a no-op, and callers check it first.
func (s BookingStatus) CanBecome(next BookingStatus) bool {
	switch s {
	case Pending:
		return next == Confirmed || next == Cancelled
	case Confirmed:
		return next == Cancelled || next == Completed || next == NoShow
	case Cancelled, Completed, NoShow:
		return false
	}
	return false
}

// Holds says whether a booking of this status keeps its dates from others.
func (s BookingStatus) Holds() bool { return s == Pending || s == Confirmed }

// PaymentStatus says how far a booking is paid. It is an open set: records from
// before payments were kept have other words.
type PaymentStatus string

// The states of payment that are written.
const (
	PaymentPending PaymentStatus = "pending"
	PartiallyPaid  PaymentStatus = "partially_paid"
	Paid           PaymentStatus = "paid"
	Refunded       PaymentStatus = "refunded" // all that was paid went back
)

// PaymentOf is the state of a booking that costs total when paid has come in.
func PaymentOf(paid, total Amount) PaymentStatus {
	switch {
	case paid <= 0:
		return PaymentPending
	case paid < total:
		return PartiallyPaid
	}
	return Paid
}

// A Guest is who stays. The phone number is stored without its country code.
type Guest struct {
	FirstName   string `json:"first_name"`
	LastName    string `json:"last_name"`
	Email       string `json:"email"`
	Phone       string `json:"phone"`
	CountryCode string `json:"country_code"`
}

// Name is the guest's full name, as the contract shows it; of people who have one name
// it is that.
func (g Guest) Name() string { return strings.TrimSpace(g.FirstName + " " + g.LastName) }

// A PropertyRef is what a booking's readers need of its property, copied at the
// time of the change.
type PropertyRef struct {
	ID      PropertyID `json:"id"`
	Title   string     `json:"title"`
	Address string     `json:"address"`
	City    string     `json:"city"`
	State   string     `json:"state"`
}

// A Booking is the whole state of a booking after a change. Version counts its
// events from 1, without gaps.
type Booking struct {
	ID                 BookingID     `json:"id"`
	Version            int64         `json:"version"`
	AgentID            AgentID       `json:"agent_id"`
	HostID             HostID        `json:"host_id"`
	Property           PropertyRef   `json:"property"`
	Status             BookingStatus `json:"status"`
	CheckIn            Date          `json:"check_in"`
	CheckOut           Date          `json:"check_out"`
	Nights             int           `json:"nights"`
	Guests             int           `json:"guests"`
	Guest              Guest         `json:"guest"`
	SpecialRequests    string        `json:"special_requests,omitempty"`
	TotalAmount        Amount        `json:"total_amount"`
	Currency           string        `json:"currency"`
	PaymentMethod      string        `json:"payment_method"`
	PaymentStatus      PaymentStatus `json:"payment_status"`
	CreatedAt          time.Time     `json:"created_at"`
	UpdatedAt          time.Time     `json:"updated_at"`
	ExpiresAt          *time.Time    `json:"expires_at,omitempty"`
	ConfirmedAt        *time.Time    `json:"confirmed_at,omitempty"`
	CancelledAt        *time.Time    `json:"cancelled_at,omitempty"`
	CancellationReason string        `json:"cancellation_reason,omitempty"`
}
