package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// statusBody takes unknown members: the contract's was a free object of strings.
type statusBody struct {
	Status  string `json:"status" check:"required,max=100"`
	Reason  string `json:"reason" check:"max=500"`
	Version *int64 `json:"version" check:"min=1"`
}

type statusChangeView struct {
	BookingID     schemas.BookingID     `json:"booking_id"`
	OldStatus     schemas.BookingStatus `json:"old_status"`
	NewStatus     schemas.BookingStatus `json:"new_status"`
	UpdatedAt     time.Time             `json:"updated_at"`
	HostID        schemas.HostID        `json:"host_id"`
	PropertyTitle string                `json:"property_title"`
	Version       int64                 `json:"version"`
}

func (s *server) changeStatus(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "booking_id")
	if err != nil {
		return answer{}, err
	}
	in, _, err := decode[statusBody](r, lenient)
	if err != nil {
		return answer{}, err
	}
	to, err := knownStatus(in.Status)
	if err != nil {
		return answer{}, err
	}
	version, err := ifVersion(r, in.Version)
	if err != nil {
		return answer{}, err
	}
	change := producers.StatusChange{To: to, Reason: in.Reason, IfVersion: version}
	a, err := s.o.Producer.ChangeStatus(r.Context(), p.Scope(), schemas.BookingID(id), change)
	if err != nil {
		return answer{}, err
	}
	return answerChange(&a), nil
}

func answerChange(a *producers.StatusAnswer) answer {
	b := &a.Booking
	message := "Booking is " + string(b.Status)
	if a.Old == b.Status {
		message = "Booking was " + string(b.Status) + " already; nothing has changed"
	}
	return answer{message: message, etag: etag(b.Version), data: statusChangeView{
		BookingID: b.ID, OldStatus: a.Old, NewStatus: b.Status, UpdatedAt: b.UpdatedAt, HostID: b.HostID,
		PropertyTitle: b.Property.Title, Version: b.Version,
	}}
}

func knownStatus(s string) (schemas.BookingStatus, error) {
	all := []schemas.BookingStatus{schemas.Confirmed, schemas.Cancelled, schemas.Pending, schemas.Completed, schemas.NoShow}
	if to := schemas.BookingStatus(s); slices.Contains(all, to) {
		return to, nil
	}
	e := schemas.Refuse(schemas.Rule, "invalid_status", "status", "enum", "status must be one of %v", all)
	e.Extra = map[string]any{"allowed_values": all}
	return "", e
}

// ifVersion is the version that the caller wants to change, from If-Match or the
// body; both must say the same.
func ifVersion(r *http.Request, inBody *int64) (*int64, error) {
	header := strings.TrimSpace(r.Header.Get("If-Match"))
	if header == "" || header == "*" {
		return inBody, nil
	}
	v, err := strconv.ParseInt(strings.Trim(header, `"`), 10, 64)
	if err != nil || v < 1 || etag(v) != header && strconv.FormatInt(v, 10) != header {
		return nil, schemas.Refuse(schemas.Malformed, "invalid_if_match", "If-Match", "format", `If-Match must be the ETag of the booking, as "3"`)
	}
	if inBody != nil && *inBody != v {
		return nil, schemas.Refuse(schemas.Malformed, "invalid_if_match", "version", "equals", "version and If-Match must say the same")
	}
	return &v, nil
}

type statusView struct {
	BookingID   schemas.BookingID     `json:"booking_id"`
	Status      schemas.BookingStatus `json:"status"`
	Version     int64                 `json:"version"`
	CreatedAt   time.Time             `json:"created_at"`
	UpdatedAt   time.Time             `json:"updated_at"`
	ConfirmedAt *time.Time            `json:"confirmed_at"`
	CancelledAt *time.Time            `json:"cancelled_at"`
	Reason      *string               `json:"cancellation_reason"`
	ExpiresAt   *time.Time            `json:"expires_at"`
	TotalAmount schemas.Amount        `json:"total_amount"`
	Currency    string                `json:"currency"`
	Payment     schemas.PaymentStatus `json:"payment_status"`
	Nights      int                   `json:"nights"`
	Guests      int                   `json:"guests"`
	CheckIn     schemas.Date          `json:"check_in"`
	CheckOut    schemas.Date          `json:"check_out"`
	GuestName   string                `json:"guest_name"`
	GuestEmail  string                `json:"guest_email"`
	Property    propertyBrief         `json:"property"`
	HostID      schemas.HostID        `json:"host_id"`
}

func (s *server) bookingStatus(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "booking_id")
	if err != nil {
		return answer{}, err
	}
	var b schemas.Booking
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) (err error) {
		b, err = tx.Booking(ctx, schemas.BookingID(id))
		return err
	})
	return answer{etag: etag(b.Version), data: statusView{
		BookingID: b.ID, Status: b.Status, Version: b.Version, CreatedAt: b.CreatedAt, UpdatedAt: b.UpdatedAt, ConfirmedAt: b.ConfirmedAt,
		CancelledAt: b.CancelledAt, Reason: orNull(b.CancellationReason), ExpiresAt: b.ExpiresAt, TotalAmount: b.TotalAmount,
		Currency: b.Currency, Payment: b.PaymentStatus, Nights: b.Nights, Guests: b.Guests, CheckIn: b.CheckIn, CheckOut: b.CheckOut, GuestName: b.Guest.Name(),
		GuestEmail: b.Guest.Email, Property: briefProperty(&b.Property), HostID: b.HostID,
	}}, err
}
