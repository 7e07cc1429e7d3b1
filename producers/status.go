package producers

import (
	"context"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// A StatusChange asks for another status. IfVersion, when set, must be the
// booking's version, and From, when set, its status.
type StatusChange struct {
	To, From  schemas.BookingStatus
	Reason    string
	IfVersion *int64
}

// A StatusAnswer is the booking after the change and its status before.
type StatusAnswer struct {
	Booking schemas.Booking
	Old     schemas.BookingStatus
}

// ChangeStatus moves a booking by its state machine. The same status again
// changes nothing, emits nothing and is no error. Who asks for a stay does not
// confirm it: that is the host's, and of a scope that may stand in for it.
func (p *Producer) ChangeStatus(ctx context.Context, s store.Scope, id schemas.BookingID, in StatusChange) (StatusAnswer, error) {
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (StatusAnswer, error) {
		b, err := tx.LockBooking(ctx, id)
		if err != nil {
			return StatusAnswer{}, err
		}
		a := StatusAnswer{Booking: b, Old: b.Status}
		now := p.Now()
		switch {
		case in.IfVersion != nil && *in.IfVersion != b.Version:
			return a, conflict("version_mismatch", &b, "the booking is at version %d", b.Version)
		case b.Status == in.To:
			return a, nil
		case in.To == schemas.Confirmed && !s.Confirms:
			return a, schemas.Errorf(schemas.Forbidden, "missing_scope",
				"confirming is the host's; for a key it needs the scope %s, and this one does not have it", schemas.ScopeBookingsConfirm)
		case in.From != "" && b.Status != in.From:
			return a, conflict("illegal_status", &b, "this takes a %s booking, and it is %s", in.From, b.Status)
		case !b.Status.CanBecome(in.To):
			return a, conflict("illegal_status", &b, "a %s booking cannot become %s", b.Status, in.To)
		case in.To == schemas.Confirmed && expired(&b, now):
			return a, ranOut(&b)
		}
		if err := inTime(ctx, tx, &b, in.To, now); err != nil {
			return a, err
		}
		c := change{tx: tx, actor: actor(s), now: now}
		if c.host, err = tx.HostPolicy(ctx, b.HostID); err != nil {
			return a, err
		}
		err = c.move(ctx, &b, in.To, in.Reason)
		a.Booking = b
		return a, err
	})
}

func conflict(code string, b *schemas.Booking, format string, args ...any) error {
	e := schemas.Errorf(schemas.Conflict, code, format, args...)
	e.Extra = map[string]any{"current_status": b.Status, "version": b.Version}
	return e
}

func ranOut(b *schemas.Booking) error {
	return conflict("booking_expired", b, "the request ran out at %s", b.ExpiresAt.Format(time.RFC3339))
}

// inTime refuses what has not happened yet: a guest can be absent from the day of
// check-in on and a stay be over from the day of check-out on, days of the property's
// time zone. Earlier, either would free nights that are still to come, and they would
// be sold again.
func inTime(ctx context.Context, tx *store.Tx, b *schemas.Booking, to schemas.BookingStatus, now time.Time) error {
	var from schemas.Date
	switch to {
	case schemas.Completed:
		from = b.CheckOut
	case schemas.NoShow:
		from = b.CheckIn
	case schemas.Pending, schemas.Confirmed, schemas.Cancelled:
		return nil
	}
	zone, err := tx.PropertyZone(ctx, b.Property.ID)
	if err != nil {
		return err
	}
	today := schemas.DateOf(now.In(schemas.StoredZone(zone)))
	if today >= from {
		return nil
	}
	e := schemas.Errorf(schemas.Conflict, "too_early", "the booking can become %s from %s on, and it is %s at the property (%s)", to, from, today, zone)
	e.Extra = map[string]any{"current_status": b.Status, "version": b.Version, "possible_from": from, "today": today, "time_zone": zone}
	return e
}
