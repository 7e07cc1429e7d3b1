package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// hostBookingQuery takes pages both ways: by offset, as the other lists, and by
// the cursor of the page before, which misses nothing while bookings come in.
type hostBookingQuery struct {
	Status      schemas.BookingStatus `json:"status" check:"enum=pending|confirmed|cancelled|completed|no_show"`
	PropertyID  schemas.PropertyID    `json:"property_id" check:"max=255"`
	From        schemas.Date          `json:"from"`
	To          schemas.Date          `json:"to"`
	CreatedFrom *time.Time            `json:"created_from"`
	CreatedTo   *time.Time            `json:"created_to"`
	Limit       int                   `json:"limit" check:"min=1,max=100" default:"20"`
	Offset      int                   `json:"offset" check:"min=0,max=10000" default:"0"`
	Cursor      bookingCursor         `json:"cursor" check:"max=512,as=bookingcursor"`
}

func (q *hostBookingQuery) check(add func(field, rule, message string)) {
	if q.From != "" && q.To != "" && q.To < q.From {
		add("to", "range", "must not be before from")
	}
	if q.CreatedFrom != nil && q.CreatedTo != nil && q.CreatedTo.Before(*q.CreatedFrom) {
		add("created_to", "range", "must not be before created_from")
	}
	if q.Cursor != "" && q.Offset != 0 {
		add("cursor", "together", "and offset exclude each other")
	}
}

func (q *hostBookingQuery) filter() store.BookingFilter {
	f := store.BookingFilter{
		Status: q.Status, Property: q.PropertyID, From: q.From, To: q.To, CreatedFrom: q.CreatedFrom, CreatedTo: q.CreatedTo,
		Limit: q.Limit, Offset: q.Offset,
	}
	if at, err := q.Cursor.position(); err == nil {
		f.After = &at
	}
	return f
}

// A bookingCursor is opaque to callers: the microsecond of a booking's creation
// and its id.
type bookingCursor string

func cursorBehind(b *schemas.Booking) bookingCursor {
	return bookingCursor(base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(b.CreatedAt.UnixMicro(), 10) + "." + string(b.ID))))
}

var errCursor = errors.New("must be a next_cursor of this list")

// position accepts only what cursorBehind writes.
func (c bookingCursor) position() (store.BookingPosition, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(string(c))
	micros, id, ok := strings.Cut(string(raw), ".")
	if err != nil || !ok || id == "" || !plainText(id) {
		return store.BookingPosition{}, errCursor
	}
	n, err := strconv.ParseInt(micros, 10, 64)
	at := time.UnixMicro(n).UTC()
	if err != nil || at.Year() < 2000 || at.Year() > 9999 {
		return store.BookingPosition{}, errCursor
	}
	return store.BookingPosition{CreatedAt: at, ID: schemas.BookingID(id)}, nil
}

func checkBookingCursor(s string) string {
	if _, err := bookingCursor(s).position(); err != nil {
		return err.Error()
	}
	return ""
}

// hostBookingView is a booking as its host sees it, in any status.
type hostBookingView struct {
	pendingView

	Status        schemas.BookingStatus `json:"status"`
	PaymentMethod string                `json:"payment_method"`
	PaymentStatus schemas.PaymentStatus `json:"payment_status"`
	ConfirmedAt   *time.Time            `json:"confirmed_at"`
	CancelledAt   *time.Time            `json:"cancelled_at"`
	Reason        *string               `json:"cancellation_reason"`
}

func viewHostBooking(b *schemas.Booking) hostBookingView {
	return hostBookingView{
		pendingView: viewPending(b), Status: b.Status, PaymentMethod: b.PaymentMethod, PaymentStatus: b.PaymentStatus,
		ConfirmedAt: b.ConfirmedAt, CancelledAt: b.CancelledAt, Reason: orNull(b.CancellationReason),
	}
}

type hostBookingPage struct {
	Bookings      []hostBookingView    `json:"bookings"`
	TotalCount    int                  `json:"total_count"`
	TotalCapped   bool                 `json:"total_count_capped"`
	ReturnedCount int                  `json:"returned_count"`
	HasMore       bool                 `json:"has_more"`
	HostID        schemas.HostID       `json:"host_id"`
	Pagination    cursorPaginationView `json:"pagination"`
}

// cursorPaginationView has no next_offset on a page that a cursor began: its
// place in the whole list is not known.
type cursorPaginationView struct {
	Limit      int            `json:"limit"`
	Offset     int            `json:"offset"`
	NextOffset *int           `json:"next_offset"`
	NextCursor *bookingCursor `json:"next_cursor"`
}

func (s *server) hostBookings(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[hostBookingQuery](r)
	if err != nil {
		return answer{}, err
	}
	var page store.BookingPage
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) (err error) {
		page, err = tx.HostBookings(ctx, p.Host, q.filter())
		return err
	})
	if err != nil {
		return answer{}, err
	}
	n := len(page.Bookings)
	v := hostBookingPage{
		Bookings: make([]hostBookingView, n), TotalCount: page.Total, TotalCapped: page.Capped, ReturnedCount: n, HasMore: page.More, HostID: p.Host,
		Pagination: cursorPaginationView{Limit: q.Limit, Offset: q.Offset},
	}
	for i := range page.Bookings {
		v.Bookings[i] = viewHostBooking(&page.Bookings[i])
	}
	if page.More {
		next := cursorBehind(&page.Bookings[n-1])
		v.Pagination.NextCursor = &next
		if q.Cursor == "" {
			v.Pagination.NextOffset = offsetBehind(q.Offset, n, page.More)
		}
	}
	return answer{data: v}, nil
}

func (s *server) hostBooking(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "booking_id")
	if err != nil {
		return answer{}, err
	}
	var b schemas.Booking
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) (err error) {
		b, err = tx.Booking(ctx, schemas.BookingID(id))
		return err
	})
	return answer{data: viewHostBooking(&b), etag: etag(b.Version)}, err
}

// hostActionBody may be left out altogether.
type hostActionBody struct {
	Reason  string `json:"reason" check:"max=500"`
	Version *int64 `json:"version" check:"min=1"`
}

// hostAction makes the endpoint of one of the host's answers: the agent's command
// with another name on its event. A reason stands in where the host gives none.
func (s *server) hostAction(change producers.StatusChange) endpoint {
	return func(r *http.Request, p auth.Principal) (answer, error) {
		id, err := pathID(r, "booking_id")
		if err != nil {
			return answer{}, err
		}
		in, _, err := decodeOptional[hostActionBody](r)
		if err != nil {
			return answer{}, err
		}
		mine := change
		if mine.IfVersion, err = ifVersion(r, in.Version); err != nil {
			return answer{}, err
		}
		if in.Reason != "" {
			mine.Reason = in.Reason
		}
		a, err := s.o.Producer.ChangeStatus(r.Context(), p.Scope(), schemas.BookingID(id), mine)
		if err != nil {
			return answer{}, err
		}
		return answerChange(&a), nil
	}
}

// hostActions are what a host may say about a booking. To decline is to refuse a
// request: one that was confirmed meanwhile has to be cancelled by that name.
func (s *server) hostActions() []route {
	actions := []struct {
		name   string
		change producers.StatusChange
	}{
		{"confirm", producers.StatusChange{To: schemas.Confirmed}},
		{"decline", producers.StatusChange{To: schemas.Cancelled, From: schemas.Pending, Reason: "declined by the host"}},
		{"cancel", producers.StatusChange{To: schemas.Cancelled, Reason: "cancelled by the host"}},
		{"complete", producers.StatusChange{To: schemas.Completed}},
		{"no-show", producers.StatusChange{To: schemas.NoShow}},
	}
	routes := make([]route, len(actions))
	for i, a := range actions {
		routes[i] = route{http.MethodPost, fmt.Sprintf("%s/bookings/{booking_id}/%s", hosted, a.name), s.host(s.hostAction(a.change))}
	}
	return routes
}
