package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// A BookingPosition is a place in a host's list of bookings: just behind the
// booking that it names.
type BookingPosition struct {
	CreatedAt time.Time
	ID        schemas.BookingID
}

// A BookingFilter narrows a host's list of bookings; zero members do not filter.
// From and To are days: a stay counts that has any of them, the day of arrival
// included and the day of departure not. Of After and Offset one is used.
type BookingFilter struct {
	Status                 schemas.BookingStatus
	Property               schemas.PropertyID
	From, To               schemas.Date
	CreatedFrom, CreatedTo *time.Time // the first one belongs to it, the second does not
	After                  *BookingPosition
	Limit, Offset          int
}

// A BookingPage is a part of a list. Total counts the whole list up to CountCap,
// whichever page this is; Capped says that there are more.
type BookingPage struct {
	Bookings     []schemas.Booking
	Total        int
	Capped, More bool
}

// HostBookings lists a host's bookings, the newest first.
func (t *Tx) HostBookings(ctx context.Context, h schemas.HostID, f BookingFilter) (BookingPage, error) {
	var p BookingPage
	where, args := f.conditions(h)
	if err := t.tx.QueryRow(ctx, upToCap(`bookings b where `+where), args...).Scan(&p.Total); err != nil {
		return p, fmt.Errorf("counting the bookings of host %s: %w", h, err)
	}
	p.Total, p.Capped = capped(p.Total)
	if f.After != nil {
		where += fmt.Sprintf(" and (b.created_at, b.id) < ($%d, $%d)", len(args)+1, len(args)+2)
		args = append(args, f.After.CreatedAt, string(f.After.ID))
	}
	// One row too many tells whether there are more.
	rows, _ := t.tx.Query(ctx, fmt.Sprintf(`select %s%swhere %s order by b.created_at desc, b.id desc limit %d offset %d`,
		bookingColumns, fromBookings, where, f.Limit+1, f.Offset), args...) // CollectRows reports the error
	found, err := pgx.CollectRows(rows, scanBooking)
	if err != nil {
		return p, fmt.Errorf("reading the bookings of host %s: %w", h, err)
	}
	p.Bookings, p.More = firstOf(found, f.Limit)
	return p, nil
}

// conditions writes the filter as SQL; values travel as arguments only.
func (f BookingFilter) conditions(h schemas.HostID) (string, []any) {
	var (
		c    []string
		args []any
	)
	add := func(cond string, v any) {
		args = append(args, v)
		c = append(c, fmt.Sprintf(cond, len(args)))
	}
	add("b.host_id = $%d", string(h))
	if f.Status != "" {
		add("b.status = $%d", string(f.Status))
	}
	if f.Property != "" {
		add("b.property_id = $%d", string(f.Property))
	}
	if f.From != "" {
		add("b.check_out > $%d::text::date", string(f.From))
	}
	if f.To != "" {
		add("b.check_in <= $%d::text::date", string(f.To))
	}
	if f.CreatedFrom != nil {
		add("b.created_at >= $%d", *f.CreatedFrom)
	}
	if f.CreatedTo != nil {
		add("b.created_at < $%d", *f.CreatedTo)
	}
	return strings.Join(c, " and "), args
}
