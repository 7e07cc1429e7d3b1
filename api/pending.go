package api

import (
	"context"
	"net/http"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

type pendingQuery struct {
	Limit  int `json:"limit" check:"min=1,max=100" default:"20"`
	Offset int `json:"offset" check:"min=0,max=10000" default:"0"`
}

type pendingView struct {
	ID              schemas.BookingID  `json:"id"`
	Version         int64              `json:"version"`
	PropertyID      schemas.PropertyID `json:"property_id"`
	PropertyTitle   string             `json:"property_title"`
	PropertyAddress string             `json:"property_address"`
	GuestName       string             `json:"guest_name"`
	GuestEmail      string             `json:"guest_email"`
	GuestPhone      string             `json:"guest_phone"`
	CheckIn         schemas.Date       `json:"check_in"`
	CheckOut        schemas.Date       `json:"check_out"`
	Nights          int                `json:"nights"`
	Guests          int                `json:"guests"`
	TotalAmount     schemas.Amount     `json:"total_amount"`
	Currency        string             `json:"currency"`
	SpecialRequests *string            `json:"special_requests"`
	CreatedAt       time.Time          `json:"created_at"`
	UpdatedAt       time.Time          `json:"updated_at"`
	ExpiresAt       *time.Time         `json:"expires_at"`
}

type pendingPage struct {
	Bookings      []pendingView  `json:"bookings"`
	TotalCount    int            `json:"total_count"`
	TotalCapped   bool           `json:"total_count_capped"`
	ReturnedCount int            `json:"returned_count"`
	HasMore       bool           `json:"has_more"`
	HostID        string         `json:"host_id"`
	Pagination    paginationView `json:"pagination"`
}

type paginationView struct {
	Limit      int  `json:"limit"`
	Offset     int  `json:"offset"`
	NextOffset *int `json:"next_offset"`
}

// pendingBookings lists what the caller may see of a host's requests: an agent its
// own, the platform all. A host that nobody knows has none.
func (s *server) pendingBookings(r *http.Request, p auth.Principal) (answer, error) {
	host, err := pathID(r, "host_id")
	if err != nil {
		return answer{}, err
	}
	q, err := query[pendingQuery](r)
	if err != nil {
		return answer{}, err
	}
	v := pendingPage{HostID: host}
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		page, err := tx.PendingBookings(ctx, schemas.HostID(host), q.Limit, q.Offset)
		bs := page.Bookings
		v.Bookings, v.TotalCount, v.TotalCapped, v.ReturnedCount, v.HasMore = make([]pendingView, len(bs)), page.Total, page.Capped, len(bs), page.More
		for i := range bs {
			v.Bookings[i] = viewPending(&bs[i])
		}
		return err
	})
	v.Pagination = paginationView{Limit: q.Limit, Offset: q.Offset, NextOffset: offsetBehind(q.Offset, v.ReturnedCount, v.HasMore)}
	return answer{data: v}, err
}

func viewPending(b *schemas.Booking) pendingView {
	return pendingView{
		ID: b.ID, Version: b.Version, PropertyID: b.Property.ID, PropertyTitle: b.Property.Title, PropertyAddress: briefProperty(&b.Property).Address,
		GuestName: b.Guest.Name(), GuestEmail: b.Guest.Email, GuestPhone: b.Guest.CountryCode + b.Guest.Phone, CheckIn: b.CheckIn,
		CheckOut: b.CheckOut, Nights: b.Nights, Guests: b.Guests, TotalAmount: b.TotalAmount, Currency: b.Currency,
		SpecialRequests: orNull(b.SpecialRequests), CreatedAt: b.CreatedAt, UpdatedAt: b.UpdatedAt, ExpiresAt: b.ExpiresAt,
	}
}
