package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

const bookingColumns = `
b.id, b.version, b.agent_id, b.host_id, b.property_id, p.title, p.address, p.city, p.state, b.status,
b.check_in::text, b.check_out::text, b.check_out - b.check_in, b.guests, b.guest_first_name, b.guest_last_name,
b.guest_email, b.guest_phone, b.guest_country_code, b.special_requests, b.total_amount, b.currency,
b.payment_method, b.payment_status, b.created_at, b.updated_at, b.expires_at, b.confirmed_at, b.cancelled_at,
b.cancellation_reason`

// A booking's property may have left the market since; its title is still shown.
const fromBookings = ` from bookings b join krib_property_names p on p.id = b.property_id `

func scanBooking(row pgx.CollectableRow) (schemas.Booking, error) { return scanBookingAnd(row) }

// scanBookingAnd reads what a query selects behind bookingColumns too.
func scanBookingAnd(row pgx.CollectableRow, more ...any) (schemas.Booking, error) {
	var b schemas.Booking
	err := row.Scan(append([]any{
		&b.ID, &b.Version, &b.AgentID, &b.HostID, &b.Property.ID, &b.Property.Title, &b.Property.Address,
		&b.Property.City, &b.Property.State, &b.Status, &b.CheckIn, &b.CheckOut, &b.Nights, &b.Guests, &b.Guest.FirstName,
		&b.Guest.LastName, &b.Guest.Email, &b.Guest.Phone, &b.Guest.CountryCode, &b.SpecialRequests, &b.TotalAmount,
		&b.Currency, &b.PaymentMethod, &b.PaymentStatus, &b.CreatedAt, &b.UpdatedAt, &b.ExpiresAt, &b.ConfirmedAt,
		&b.CancelledAt, &b.CancellationReason,
	}, more...)...)
	for _, t := range []*time.Time{&b.CreatedAt, &b.UpdatedAt, b.ExpiresAt, b.ConfirmedAt, b.CancelledAt} {
		if t != nil {
			*t = schemas.Stamp(*t)
		}
	}
	return b, err
}

// Booking is a booking that the scope may see.
func (t *Tx) Booking(ctx context.Context, id schemas.BookingID) (schemas.Booking, error) {
	return t.oneBooking(ctx, id, `where b.id = $1`)
}

// LockBooking reads a booking and keeps others from changing it until the
// transaction ends: so the events of one booking enter the outbox in version
// order.
func (t *Tx) LockBooking(ctx context.Context, id schemas.BookingID) (schemas.Booking, error) {
	return t.oneBooking(ctx, id, `where b.id = $1 for no key update of b`)
}

func (t *Tx) oneBooking(ctx context.Context, id schemas.BookingID, rest string) (schemas.Booking, error) {
	rows, _ := t.tx.Query(ctx, `select `+bookingColumns+fromBookings+rest, string(id)) // CollectExactlyOneRow reports the error
	b, err := pgx.CollectExactlyOneRow(rows, scanBooking)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return b, schemas.Errorf(schemas.NotFound, "booking_not_found", "there is no booking %q", id)
	case err != nil:
		return b, fmt.Errorf("reading booking %s: %w", id, err)
	}
	return b, nil
}

// overlapping are the bookings of any agent that hold a night of the stay. They
// are locked, in the order of ids, so that they can be expired.
const overlapping = `
  where b.property_id = $1 and b.status in ('pending', 'confirmed')
    and daterange(b.check_in, b.check_out) && daterange($2::text::date, $3::text::date)
  order by b.id for no key update of b`

// OverlappingBookings are those of any agent that hold a night of the stay, locked:
// it looks over the fence, so nothing of them may leave but their dates.
func (t *Tx) OverlappingBookings(ctx context.Context, p schemas.PropertyID, in, out schemas.Date) (bs []schemas.Booking, err error) {
	err = t.AsPlatform(ctx, func() error {
		rows, _ := t.tx.Query(ctx, `select `+bookingColumns+fromBookings+overlapping, string(p), string(in), string(out)) // CollectRows reports the error
		bs, err = pgx.CollectRows(rows, scanBooking)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the bookings of %s from %s to %s: %w", p, in, out, err)
	}
	return bs, nil
}

// HeldStay is the agent's own booking that holds exactly these nights, or nil.
// There is one at most. It is not locked: who creates bookings locks the property
// first, and in the other order two of them would wait for each other.
func (t *Tx) HeldStay(ctx context.Context, a schemas.AgentID, p schemas.PropertyID, in, out schemas.Date) (*schemas.Booking, error) {
	rows, _ := t.tx.Query(ctx, `select `+bookingColumns+fromBookings+`
		where b.agent_id = $1 and b.property_id = $2 and b.status in ('pending', 'confirmed')
		  and daterange(b.check_in, b.check_out) @> $3::text::date -- for the index
		  and b.check_in = $3::text::date and b.check_out = $4::text::date`,
		string(a), string(p), string(in), string(out)) // CollectExactlyOneRow reports the error
	b, err := pgx.CollectExactlyOneRow(rows, scanBooking)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil // none is an answer
	case err != nil:
		return nil, fmt.Errorf("reading the booking of %s for %s from %s to %s: %w", a, p, in, out, err)
	}
	return &b, nil
}

// ErrDatesTaken is what the exclusion constraint says; [DB.Update] returns it.
var ErrDatesTaken = errors.New("the dates are taken")

// InsertBooking writes a new booking and its events' rows, with the next statement
// or with the commit. Update returns ErrDatesTaken if another holds a night.
func (t *Tx) InsertBooking(b *schemas.Booking, rows []OutboxRow) {
	t.tx.queue("inserting booking "+string(b.ID), `
		insert into bookings (id, version, agent_id, host_id, property_id, status, check_in, check_out, guests,
		  guest_first_name, guest_last_name, guest_email, guest_phone, guest_country_code, special_requests,
		  total_amount, currency, payment_method, payment_status, created_at, updated_at, expires_at, confirmed_at)
		values ($1, $2, $3, $4, $5, $6, $7::text::date, $8::text::date, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`,
		string(b.ID), b.Version, string(b.AgentID), string(b.HostID), string(b.Property.ID), string(b.Status), string(b.CheckIn),
		string(b.CheckOut), b.Guests, b.Guest.FirstName, b.Guest.LastName, b.Guest.Email, b.Guest.Phone, b.Guest.CountryCode,
		b.SpecialRequests, int64(b.TotalAmount), b.Currency, b.PaymentMethod, b.PaymentStatus, b.CreatedAt, b.UpdatedAt,
		b.ExpiresAt, b.ConfirmedAt)
	t.Enqueue(rows...)
}

// SaveBooking writes what a change may alter and its event's row, as InsertBooking
// does. The booking must be locked by this transaction.
func (t *Tx) SaveBooking(b *schemas.Booking, rows []OutboxRow) {
	t.tx.queue("saving booking "+string(b.ID), `
		update bookings set version = $2, status = $3, payment_status = $4, updated_at = $5, expires_at = $6,
		  confirmed_at = $7, cancelled_at = $8, cancellation_reason = $9
		where id = $1`,
		string(b.ID), b.Version, string(b.Status), b.PaymentStatus, b.UpdatedAt, b.ExpiresAt, b.ConfirmedAt, b.CancelledAt, b.CancellationReason)
	t.Enqueue(rows...)
}

// PendingBookings lists what waits for the host's answer, the newest first. What has
// run out is not pending any more, also before the job has cancelled it.
func (t *Tx) PendingBookings(ctx context.Context, h schemas.HostID, limit, offset int) (BookingPage, error) {
	const where = ` where b.host_id = $1 and b.status = 'pending' and (b.expires_at is null or b.expires_at > now()) `
	var p BookingPage
	if err := t.tx.QueryRow(ctx, upToCap(`bookings b`+where), string(h)).Scan(&p.Total); err != nil {
		return p, fmt.Errorf("counting pending bookings of %s: %w", h, err)
	}
	p.Total, p.Capped = capped(p.Total)
	rows, _ := t.tx.Query(ctx, `select `+bookingColumns+fromBookings+where+`
		order by b.created_at desc, b.id desc limit $2 offset $3`, string(h), limit+1, offset) // CollectRows reports the error
	found, err := pgx.CollectRows(rows, scanBooking)
	if err != nil {
		return p, fmt.Errorf("reading pending bookings of %s: %w", h, err)
	}
	p.Bookings, p.More = firstOf(found, limit)
	return p, nil
}

// Pending is what an agent's unanswered requests are: those to one host, and the
// nights that they hold of one of its properties.
type Pending struct{ Requests, Nights int }

// pendingOf counts what has not expired at a moment.
const pendingOf = `
select count(*), coalesce(sum(check_out - check_in) filter (where property_id = $3), 0)
from bookings where agent_id = $1 and host_id = $2 and status = 'pending' and (expires_at is null or expires_at > $4)`

// LockPending counts an agent's pending requests to the host of a property, and keeps
// the agent's other requests to that host from being counted until the transaction
// ends: two at once would each miss the other. The property must be locked before, in
// every command, or two transactions could wait for each other.
func (t *Tx) LockPending(ctx context.Context, a schemas.AgentID, h schemas.HostID, p schemas.PropertyID, now time.Time) (have Pending, err error) {
	// A statement of its own: the count has to see what was committed during the wait.
	t.tx.queue("waiting for the agent's other requests to "+string(h), `select pg_advisory_xact_lock(hashtextextended($1 || chr(10) || $2, 21))`, string(a), string(h))
	if err := t.tx.QueryRow(ctx, pendingOf, string(a), string(h), string(p), now).Scan(&have.Requests, &have.Nights); err != nil {
		return have, fmt.Errorf("counting the pending requests of %s to %s: %w", a, h, err)
	}
	return have, nil
}

// HasBookingWith says whether the scope's agent ever booked with the host.
func (t *Tx) HasBookingWith(ctx context.Context, a schemas.AgentID, h schemas.HostID) (bool, error) {
	var ok bool
	err := t.tx.QueryRow(ctx, `select exists (select from bookings where agent_id = $1 and host_id = $2)`, string(a), string(h)).Scan(&ok)
	if err != nil {
		return false, fmt.Errorf("looking for bookings of %s with %s: %w", a, h, err)
	}
	return ok, nil
}
