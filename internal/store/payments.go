package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// A Payment is one payment towards a booking, as it was recorded. Provider and
// Reference name it in the world.
type Payment struct {
	ID schemas.PaymentID
	schemas.Payment
	BookingID schemas.BookingID
}

// ErrReferenceTaken says that the provider's reference is of a payment that the
// scope may not see.
var ErrReferenceTaken = errors.New("the reference is of another payment")

// AddPayment records a payment towards a booking that this transaction has locked.
// If the provider's reference is known already, that payment is returned instead.
// It waits for another transaction that records the same.
func (t *Tx) AddPayment(ctx context.Context, b *schemas.Booking, p *Payment) (*Payment, error) {
	tag, err := t.tx.Exec(ctx, `
		insert into payments (id, booking_id, agent_id, host_id, provider, reference, method, amount, currency, created_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (provider, reference) do nothing`,
		string(p.ID), string(b.ID), string(b.AgentID), string(b.HostID), p.Provider, p.Reference, p.Method, int64(p.Amount), p.Currency, p.At)
	switch {
	case err != nil:
		return nil, fmt.Errorf("recording a payment for booking %s: %w", b.ID, err)
	case tag.RowsAffected() == 1:
		return nil, nil // none was there
	}
	var first Payment
	err = t.tx.QueryRow(ctx, `
		select id, booking_id, provider, reference, method, amount, currency, created_at
		from payments where provider = $1 and reference = $2`, p.Provider, p.Reference).
		Scan(&first.ID, &first.BookingID, &first.Provider, &first.Reference, &first.Method, &first.Amount, &first.Currency, &first.At)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, ErrReferenceTaken
	case err != nil:
		return nil, fmt.Errorf("reading a payment of booking %s: %w", b.ID, err)
	}
	first.At = schemas.Stamp(first.At)
	return &first, nil
}

// PaidTotal is what has been paid towards a booking. It is true for as long as this
// transaction has the booking locked.
func (t *Tx) PaidTotal(ctx context.Context, id schemas.BookingID) (schemas.Amount, error) {
	var sum schemas.Amount
	err := t.tx.QueryRow(ctx, `select coalesce(sum(amount), 0)::bigint from payments where booking_id = $1`, string(id)).Scan(&sum)
	if err != nil {
		return 0, fmt.Errorf("adding up the payments of booking %s: %w", id, err)
	}
	return sum, nil
}

// ClaimStripeEvent takes an event of Stripe for this transaction. False says that
// another one has acted upon it; it waits for one that is doing so. It needs the
// platform's sight.
func (t *Tx) ClaimStripeEvent(ctx context.Context, id, kind string, b schemas.BookingID) (bool, error) {
	tag, err := t.tx.Exec(ctx, `insert into stripe_events (id, type, booking_id) values ($1, $2, $3) on conflict do nothing`, id, kind, string(b))
	if err != nil {
		return false, fmt.Errorf("claiming Stripe's event %s: %w", id, err)
	}
	return tag.RowsAffected() == 1, nil
}
