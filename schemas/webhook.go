package schemas

import (
	"time"

	"github.com/segmentio/encoding/json"
)

// WebhookBody is the body of a delivery, in the original contract's frame: its
// eight members, and id, type and sequence beside them. It is rendered once, at
// fan-out, and never again. Events that an agent fetches have the same body; what
// belongs to a subscription is null in those.
type WebhookBody struct {
	ID               EventID         `json:"id"` // equals the webhook-id header
	Type             EventType       `json:"type"`
	EventType        EventType       `json:"event_type"`
	Sequence         int64           `json:"sequence"`
	BookingID        *string         `json:"booking_id"`
	PropertyID       *string         `json:"property_id"`
	HostID           *string         `json:"host_id"`
	ExternalAgentURL *string         `json:"external_agent_url"`
	Data             json.RawMessage `json:"data"`
	Timestamp        time.Time       `json:"timestamp"`
	SubscriptionID   *SubscriptionID `json:"subscription_id"`
}

// BodyOf is the body of an event of a booking, of no subscription. Its data are
// encoded here, once, however many bodies are made of it with [WebhookBody.For].
func BodyOf(e *Event) (WebhookBody, error) {
	data, err := Encode(eventData(e))
	if err != nil {
		return WebhookBody{}, err
	}
	booking, property, host := string(e.Booking.ID), string(e.Booking.Property.ID), string(e.Booking.HostID)
	return WebhookBody{
		ID: e.ID, Type: e.Type, EventType: e.Type, Sequence: e.Version, BookingID: &booking, PropertyID: &property, HostID: &host,
		Data: data, Timestamp: e.OccurredAt,
	}, nil
}

// For is the body as the subscription gets it that sends to url.
func (b WebhookBody) For(url string, id SubscriptionID) WebhookBody {
	b.ExternalAgentURL, b.SubscriptionID = &url, &id
	return b
}

// webhookBooking is booking_details: the booking without what is not the
// receiver's business, in the contract's flat names.
type webhookBooking struct {
	ID                 BookingID     `json:"id"`
	Version            int64         `json:"version"`
	PropertyID         PropertyID    `json:"property_id"`
	HostID             HostID        `json:"host_id"`
	Status             BookingStatus `json:"status"`
	GuestName          string        `json:"guest_name"`
	GuestEmail         string        `json:"guest_email"`
	GuestPhone         string        `json:"guest_phone"`
	CheckIn            Date          `json:"check_in"`
	CheckOut           Date          `json:"check_out"`
	Nights             int           `json:"nights"`
	Guests             int           `json:"guests"`
	TotalAmount        Amount        `json:"total_amount"`
	Currency           string        `json:"currency"`
	PaymentStatus      PaymentStatus `json:"payment_status"`
	SpecialRequests    string        `json:"special_requests"`
	CreatedAt          time.Time     `json:"created_at"`
	UpdatedAt          time.Time     `json:"updated_at"`
	ExpiresAt          *time.Time    `json:"expires_at"`
	ConfirmedAt        *time.Time    `json:"confirmed_at"`
	CancelledAt        *time.Time    `json:"cancelled_at"`
	CancellationReason string        `json:"cancellation_reason,omitempty"`
	AutoApproved       bool          `json:"auto_approved,omitempty"`
}

type webhookGuest struct {
	FirstName   string `json:"first_name"`
	LastName    string `json:"last_name"`
	Name        string `json:"name"`
	Email       string `json:"email"`
	Phone       string `json:"phone"`
	CountryCode string `json:"country_code"`
}

type webhookProperty struct {
	ID      PropertyID `json:"id"`
	Title   string     `json:"title"`
	Address string     `json:"address"`
	City    string     `json:"city"`
	State   string     `json:"state"`
	HostID  HostID     `json:"host_id"`
}

type webhookPayment struct {
	Method    string        `json:"method"`
	Status    PaymentStatus `json:"status"`
	Amount    *Amount       `json:"amount,omitempty"`
	Currency  string        `json:"currency,omitempty"`
	Reference string        `json:"reference,omitempty"`
	Provider  string        `json:"provider,omitempty"`
	PaidTotal Amount        `json:"paid_total,omitempty"`
}

type webhookData struct {
	BookingDetails webhookBooking  `json:"booking_details"`
	GuestInfo      webhookGuest    `json:"guest_info"`
	PropertyInfo   webhookProperty `json:"property_info"`
	PaymentInfo    webhookPayment  `json:"payment_info"`
}

type responseNeededData struct {
	BookingID   BookingID    `json:"booking_id"`
	PropertyID  PropertyID   `json:"property_id"`
	GuestName   string       `json:"guest_name"`
	CheckIn     Date         `json:"check_in"`
	CheckOut    Date         `json:"check_out"`
	TotalAmount Amount       `json:"total_amount"`
	Currency    string       `json:"currency"`
	ExpiresAt   *time.Time   `json:"expires_at"`
	Reminder    ReminderKind `json:"reminder"`
}

// eventData is the data member of an event's webhook: nested for bookings and
// payments, flat for host.response_needed, as the contract has it. It is the
// same for every subscription, so it is rendered once an event.
func eventData(e *Event) any {
	b := &e.Booking
	if e.Type == HostResponseNeeded {
		return responseNeededData{
			BookingID: b.ID, PropertyID: b.Property.ID, GuestName: b.Guest.Name(), CheckIn: b.CheckIn, CheckOut: b.CheckOut,
			TotalAmount: b.TotalAmount, Currency: b.Currency, ExpiresAt: b.ExpiresAt, Reminder: e.Reminder,
		}
	}
	d := webhookData{
		BookingDetails: webhookBooking{
			ID: b.ID, Version: b.Version, PropertyID: b.Property.ID, HostID: b.HostID, Status: b.Status,
			GuestName: b.Guest.Name(), GuestEmail: b.Guest.Email, GuestPhone: b.Guest.CountryCode + b.Guest.Phone,
			CheckIn: b.CheckIn, CheckOut: b.CheckOut, Nights: b.Nights, Guests: b.Guests,
			TotalAmount: b.TotalAmount, Currency: b.Currency, PaymentStatus: b.PaymentStatus, SpecialRequests: b.SpecialRequests,
			CreatedAt: b.CreatedAt, UpdatedAt: b.UpdatedAt, ExpiresAt: b.ExpiresAt, ConfirmedAt: b.ConfirmedAt,
			CancelledAt: b.CancelledAt, CancellationReason: b.CancellationReason, AutoApproved: e.AutoApproved,
		},
		GuestInfo: webhookGuest{
			FirstName: b.Guest.FirstName, LastName: b.Guest.LastName, Name: b.Guest.Name(),
			Email: b.Guest.Email, Phone: b.Guest.Phone, CountryCode: b.Guest.CountryCode,
		},
		PropertyInfo: webhookProperty{
			ID: b.Property.ID, Title: b.Property.Title, Address: b.Property.Address,
			City: b.Property.City, State: b.Property.State, HostID: b.HostID,
		},
		PaymentInfo: webhookPayment{Method: b.PaymentMethod, Status: b.PaymentStatus},
	}
	if p := e.Payment; p != nil {
		d.PaymentInfo = webhookPayment{
			Method: p.Method, Status: b.PaymentStatus, Amount: &p.Amount, Currency: p.Currency, Reference: p.Reference, Provider: p.Provider, PaidTotal: p.PaidTotal,
		}
	}
	return d
}

// NotificationOf is the notification that an event creates, or nil. The host's own
// switches are the caller's question; see [Event.HostMuted].
func NotificationOf(e *Event) *Notification {
	b := &e.Booking
	n := Notification{
		ID: NotificationFor(e.ID), HostID: b.HostID, BookingID: string(b.ID), PropertyID: string(b.Property.ID),
		Priority: High, ActionURL: "/dashboard/bookings/" + string(b.ID), CreatedAt: e.OccurredAt, UpdatedAt: e.OccurredAt,
	}
	stay := b.Guest.Name() + " at " + b.Property.Title + ", " + string(b.CheckIn) + " to " + string(b.CheckOut)
	price := b.Currency + " " + b.TotalAmount.String()
	switch {
	case e.Type == BookingCreated && b.Status == Pending:
		n.Type, n.Title, n.ActionRequired = NewBooking, "New Booking Request", true
		n.Message = "New booking request from " + stay + ", " + price
		n.ExpiresAt = requestExpiry(e)
	case e.Type == BookingCreated:
		n.Type, n.Title, n.Message = NewBooking, "New Booking", "New booking from "+stay+", "+price
	case e.Type == BookingConfirmed:
		n.Type, n.Title, n.Message = NotifyBookingMove, "Booking Confirmed", "The booking of "+stay+", "+price+", has been confirmed"
	case e.Type == BookingCancelled && b.CancellationReason == "expired":
		n.Type, n.Title, n.Message = NotifyBookingMove, "Booking Expired", "The request of "+stay+", "+price+", has expired"
	case e.Type == BookingCancelled:
		n.Type, n.Title, n.Message = NotifyBookingMove, "Booking Cancelled", "The booking of "+stay+", "+price+", has been cancelled"
	case e.Type == PaymentReceived && e.Payment != nil:
		n.Type, n.Title, n.Priority = NotifyPayment, "Payment Received", Medium
		n.Message = "Payment of " + e.Payment.Currency + " " + e.Payment.Amount.String() + " for the booking of " + stay
	case e.Type == HostResponseNeeded && e.Reminder != ReminderCreated:
		n.Type, n.Title, n.ActionRequired = Urgent, "Response Needed", true
		n.Message = "The booking request of " + stay + ", " + price + ", still waits for your answer"
		n.ExpiresAt = requestExpiry(e)
	default:
		return nil
	}
	return &n
}

// requestExpiry is when the request itself runs out, 72 hours at most (the
// contract's NOTIFICATION_EXPIRY_NEW_BOOKING).
func requestExpiry(e *Event) *time.Time {
	t := e.OccurredAt.Add(72 * time.Hour)
	if x := e.Booking.ExpiresAt; x != nil && x.Before(t) {
		t = *x
	}
	return &t
}

// UpdateOf is what a dashboard shows of an event's booking.
func UpdateOf(e *Event) *BookingUpdate {
	b := &e.Booking
	return &BookingUpdate{
		BookingID: b.ID, Version: b.Version, EventType: e.Type, Status: b.Status, PropertyID: b.Property.ID,
		PropertyTitle: b.Property.Title, GuestName: b.Guest.Name(), CheckIn: b.CheckIn, CheckOut: b.CheckOut,
		TotalAmount: b.TotalAmount, Currency: b.Currency, UpdatedAt: b.UpdatedAt, CreatedAt: b.CreatedAt,
	}
}
