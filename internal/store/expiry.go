package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// A DueRequest is a pending booking whose next step has come.
type DueRequest struct {
	Booking   schemas.Booking
	Reminders int // that its host has had
	Policy    HostPolicy
}

// DueRequests locks pending bookings whose next reminder or whose end has come,
// the most overdue first. It passes over those that somebody has locked: a host
// who is answering at this moment, or another replica's job. What was answered
// meanwhile is not among them, since the row is looked at again once it is locked.
// It needs RoleJobs.
func (t *Tx) DueRequests(ctx context.Context, now time.Time, limit int) ([]DueRequest, error) {
	rows, _ := t.tx.Query(ctx, `select `+bookingColumns+`, b.reminders, `+policyColumns+fromBookings+`
		left join krib_host_switches h on h.host_id = b.host_id
		where b.status = 'pending' and b.expires_at is not null
		  and krib_request_due(b.created_at, b.expires_at, b.reminders) <= $1::timestamptz - timestamptz '2000-01-01 00:00:00+00'
		order by krib_request_due(b.created_at, b.expires_at, b.reminders)
		limit $2 for no key update of b skip locked`, now, limit) // CollectRows reports the error
	due, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (DueRequest, error) {
		var d DueRequest
		var err error
		p := &d.Policy
		d.Booking, err = scanBookingAnd(row, &d.Reminders, &p.Webhooks, &p.AutoApprove, &p.Instant, &p.Limit, &p.Currency, &p.Muted)
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the requests that are due: %w", err)
	}
	return due, nil
}

// SaveReminder writes a booking's version, how many reminders its host has had,
// and the reminder's row, with the next statement or with the commit. The booking
// must be locked by this transaction.
func (t *Tx) SaveReminder(b *schemas.Booking, reminders int, rows []OutboxRow) {
	t.tx.queue("saving a reminder of booking "+string(b.ID), `
		update bookings set version = $2, updated_at = $3, reminders = $4 where id = $1`, string(b.ID), b.Version, b.UpdatedAt, reminders)
	t.Enqueue(rows...)
}
