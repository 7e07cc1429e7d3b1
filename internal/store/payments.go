package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// A Payment is one payment towards a booking, as it was recorded. Provider and
// Reference name it in the world. A verified one was said by the provider itself, in a
// signed event; any other is an agent's word. A refund is verified and negative, and
// takes from the payment that RefundOf names.
type Payment struct {
	ID schemas.PaymentID
	schemas.Payment
	BookingID schemas.BookingID
	Verified  bool
	RefundOf  string
}

// LockReference keeps others from recording anything of a provider's reference until
// the transaction ends.
func (t *Tx) LockReference(ctx context.Context, provider, reference string) error {
	if _, err := t.tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended($1 || chr(10) || $2, 20))`, provider, reference); err != nil {
		return fmt.Errorf("locking the reference of a payment: %w", err)
	}
	return nil
}

// reference is a payment's: the release before migration 20 kept it in a column that
// is unique for all agents.
const reference = `coalesce(provider_reference, reference)`

// VerifiedPayment is what the provider itself has said of a reference, or nil. It looks
// over the fence: the booking may be another agent's.
func (t *Tx) VerifiedPayment(ctx context.Context, provider, ref string) (*Payment, error) {
	var p *Payment
	err := t.AsPlatform(ctx, func() (err error) {
		p, err = t.onePayment(ctx, `where provider = $1 and provider_reference = $2 and verified`, provider, ref)
		return err
	})
	return p, err
}

// RefundablePayment is the payment at Stripe that a refund takes from, or nil. The
// release before migration 20 did not say which were verified, and an agent's word of
// that time stands in. It needs the platform's sight.
func (t *Tx) RefundablePayment(ctx context.Context, ref string) (*Payment, error) {
	return t.onePayment(ctx, `where provider = 'stripe' and amount > 0 and (provider_reference = $1 and verified or reference = $1)
		order by verified desc limit 1`, ref)
}

// ClaimedPayment is what an agent has said of a reference, or nil.
func (t *Tx) ClaimedPayment(ctx context.Context, a schemas.AgentID, provider, ref string) (*Payment, error) {
	return t.onePayment(ctx, `where agent_id = $1 and provider = $2 and (provider_reference = $3 or reference = $3) and not verified
		order by created_at limit 1`, string(a), provider, ref)
}

func (t *Tx) onePayment(ctx context.Context, where string, args ...any) (*Payment, error) {
	var p Payment
	err := t.tx.QueryRow(ctx, `select id, booking_id, provider, `+reference+`, method, amount, currency, created_at, verified from payments `+where, args...).
		Scan(&p.ID, &p.BookingID, &p.Provider, &p.Reference, &p.Method, &p.Amount, &p.Currency, &p.At, &p.Verified)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil // none is an answer
	case err != nil:
		return nil, fmt.Errorf("reading a payment: %w", err)
	}
	p.At = schemas.Stamp(p.At)
	return &p, nil
}

// AddPayment records a payment towards a booking that this transaction has locked, and
// whose reference it has locked: there must be none of it yet.
func (t *Tx) AddPayment(ctx context.Context, b *schemas.Booking, p *Payment) error {
	var refundOf *string
	if p.RefundOf != "" {
		refundOf = &p.RefundOf
	}
	_, err := t.tx.Exec(ctx, `
		insert into payments (id, booking_id, agent_id, host_id, provider, provider_reference, method, amount, currency, created_at, verified, refund_of)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		string(p.ID), string(b.ID), string(b.AgentID), string(b.HostID), p.Provider, p.Reference, p.Method, int64(p.Amount), p.Currency, p.At, p.Verified, refundOf)
	if err != nil {
		return fmt.Errorf("recording a payment for booking %s: %w", b.ID, err)
	}
	return nil
}

// A Paid is what has come in for a booking, and what of it went back.
type Paid struct {
	Total    schemas.Amount // without what went back
	Refunded bool
}

// PaidTotal is what has been paid towards a booking. An agent's word counts for as
// long as the provider itself says nothing of the same reference. It is true for as
// long as this transaction has the booking locked.
func (t *Tx) PaidTotal(ctx context.Context, id schemas.BookingID) (p Paid, err error) {
	err = t.AsPlatform(ctx, func() error { // the provider may have said it of another's booking
		return t.tx.QueryRow(ctx, `
			select coalesce(sum(amount), 0)::bigint, coalesce(bool_or(amount < 0), false) from payments p
			where booking_id = $1 and (verified or not exists (
			  select from payments v where v.verified and v.provider = p.provider and v.provider_reference = coalesce(p.provider_reference, p.reference)))`,
			string(id)).Scan(&p.Total, &p.Refunded)
	})
	if err != nil {
		return p, fmt.Errorf("adding up the payments of booking %s: %w", id, err)
	}
	return p, nil
}

// ClaimsElsewhere are the bookings, but for one, for which agents have said that a
// payment is theirs. It needs the platform's sight.
func (t *Tx) ClaimsElsewhere(ctx context.Context, provider, ref string, but schemas.BookingID) ([]schemas.BookingID, error) {
	rows, _ := t.tx.Query(ctx, `select distinct booking_id from payments
		where provider = $1 and (provider_reference = $2 or reference = $2) and not verified and booking_id <> $3 order by 1`,
		provider, ref, string(but)) // CollectRows reports the error
	ids, err := pgx.CollectRows(rows, pgx.RowTo[schemas.BookingID])
	if err != nil {
		return nil, fmt.Errorf("reading who else has said it of a payment: %w", err)
	}
	return ids, nil
}

// SavePaymentStatus writes the status of payment alone: there is no event of it, so
// the booking's version stays.
func (t *Tx) SavePaymentStatus(b *schemas.Booking) {
	t.tx.queue("saving the payment status of booking "+string(b.ID), `update bookings set payment_status = $2 where id = $1`, string(b.ID), b.PaymentStatus)
}

// A StripeRefund is what Stripe says of a refund of a payment: one refund by its own
// id, or of a charge what was refunded in all.
type StripeRefund struct {
	Payment, ID string
	Charge      bool
	Amount      schemas.Amount
	Failed      bool // or cancelled
}

// NoteRefund keeps what Stripe says, whenever it comes: amounts of a charge grow, and
// what has failed stays so. It needs the platform's sight.
func (t *Tx) NoteRefund(ctx context.Context, r *StripeRefund) error {
	_, err := t.tx.Exec(ctx, `
		insert into stripe_refunds (payment, id, charge, amount, failed) values ($1, $2, $3, $4, $5)
		on conflict (payment, id) do update set amount = greatest(stripe_refunds.amount, excluded.amount), failed = stripe_refunds.failed or excluded.failed`,
		r.Payment, r.ID, r.Charge, int64(r.Amount), r.Failed)
	if err != nil {
		return fmt.Errorf("keeping a refund of %s: %w", r.Payment, err)
	}
	return nil
}

// Refunded is what has gone back of a payment by all that Stripe has said, and what of
// it is recorded as refunds. A refund may be known by itself, by its charge, or by
// both, so the greater sum counts; what failed has come back. It needs the platform's
// sight.
func (t *Tx) Refunded(ctx context.Context, payment string) (said, recorded schemas.Amount, err error) {
	err = t.tx.QueryRow(ctx, `
		select greatest(coalesce(sum(amount) filter (where charge), 0), coalesce(sum(amount) filter (where not charge), 0))::bigint
		  - coalesce(sum(amount) filter (where failed), 0)::bigint,
		  (select coalesce(-sum(p.amount), 0)::bigint from payments p where p.refund_of = $1)
		from stripe_refunds where payment = $1`, payment).Scan(&said, &recorded)
	if err != nil {
		return 0, 0, fmt.Errorf("adding up the refunds of %s: %w", payment, err)
	}
	return said, recorded, nil
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
