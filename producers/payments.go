package producers

import (
	"context"
	"errors"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// NewPayment is the input of RecordPayment: money that somebody took for a
// booking. Provider and Reference name it in the world, whoever tells of it.
type NewPayment struct {
	Amount    schemas.Amount
	Currency  string
	Method    string
	Provider  string
	Reference string
}

// A PaymentAnswer is the payment as it was recorded first, its booking as it is
// now, and all that has been paid for it. Repeated says that it was there before.
type PaymentAnswer struct {
	ID       schemas.PaymentID `json:"id"`
	Payment  schemas.Payment   `json:"payment"`
	Booking  schemas.Booking   `json:"booking"`
	Paid     schemas.Amount    `json:"paid"`
	Repeated bool              `json:"repeated"`
}

// RecordPayment writes a payment down, with payment.received. The same reference
// again answers the first payment; with anything else beside it, it is a Conflict.
//
// A payment is a fact: the money has moved when somebody tells of it. So it is
// recorded whatever the booking's status, and also when it makes too much; to
// refuse it would lose it, and would not give it back. Only another currency is
// refused, since it does not add up.
func (p *Producer) RecordPayment(ctx context.Context, s store.Scope, o *Once, id schemas.BookingID, in NewPayment) (PaymentAnswer, error) {
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (PaymentAnswer, error) {
		c := change{tx: tx, actor: actor(s), now: p.Now()}
		return c.pay(ctx, id, in)
	})
}

// A StripeEvent is what a verified event of Stripe says of a payment.
type StripeEvent struct {
	ID, Type  string
	BookingID schemas.BookingID
	Payment   NewPayment
}

// RecordStripe is RecordPayment for an event of Stripe, once an event: false says
// that it was acted upon before.
func (p *Producer) RecordStripe(ctx context.Context, e StripeEvent) (bool, error) {
	return update(ctx, p, store.Scope{Platform: true}, func(ctx context.Context, tx *store.Tx) (bool, error) {
		mine, err := tx.ClaimStripeEvent(ctx, e.ID, e.Type, e.BookingID)
		if err != nil || !mine {
			return false, err
		}
		c := change{tx: tx, actor: schemas.Actor{Kind: schemas.ActorSystem, ID: "stripe"}, now: p.Now()}
		a, err := c.pay(ctx, e.BookingID, e.Payment)
		return !a.Repeated, err
	})
}

func (c *change) pay(ctx context.Context, id schemas.BookingID, in NewPayment) (PaymentAnswer, error) {
	b, err := c.tx.LockBooking(ctx, id)
	if err != nil {
		return PaymentAnswer{}, err
	}
	if in.Currency != b.Currency {
		return PaymentAnswer{}, schemas.Refuse(schemas.Rule, "currency_mismatch", "currency", "equals", "the booking is in %s and the payment in %s", b.Currency, in.Currency)
	}
	said := store.Payment{ID: schemas.NewPaymentID(), BookingID: id, Payment: schemas.Payment{
		Method: in.Method, Amount: in.Amount, Currency: in.Currency, Reference: in.Reference, Provider: in.Provider, At: c.now,
	}}
	first, err := c.tx.AddPayment(ctx, &b, &said)
	switch {
	case errors.Is(err, store.ErrReferenceTaken), first != nil && !c.same(first, &said):
		return PaymentAnswer{}, referenceTaken(&in)
	case err != nil:
		return PaymentAnswer{}, err
	}
	a := PaymentAnswer{ID: said.ID, Payment: said.Payment, Booking: b}
	if a.Paid, err = c.tx.PaidTotal(ctx, id); err != nil {
		return a, err
	}
	if first != nil {
		a.ID, a.Payment, a.Repeated = first.ID, first.Payment, true
		return a, nil
	}
	a.Payment.PaidTotal = a.Paid
	return a, c.received(ctx, &a)
}

// received carries a payment into its booking, with its event.
func (c *change) received(ctx context.Context, a *PaymentAnswer) error {
	var err error
	b := &a.Booking
	if c.host, err = c.tx.HostPolicy(ctx, b.HostID); err != nil {
		return err
	}
	b.Version, b.UpdatedAt = b.Version+1, c.now
	changed := []string{"updated_at"}
	if now := schemas.PaymentOf(a.Paid, b.TotalAmount); b.PaymentStatus != now {
		b.PaymentStatus, changed = now, append(changed, "payment_status")
	}
	e := c.event(schemas.PaymentReceived, b)
	e.Payment, e.Changed = &a.Payment, changed
	rows, err := rowsOf(ctx, e)
	if err != nil {
		return err
	}
	c.tx.SaveBooking(b, rows)
	return nil
}

// same compares what was said of a payment. The method is an agent's own word: what
// Stripe itself tells later of a payment that an agent has told of is the same.
func (c *change) same(a, b *store.Payment) bool {
	return a.BookingID == b.BookingID && a.Amount == b.Amount && a.Currency == b.Currency &&
		(a.Method == b.Method || c.actor.Kind == schemas.ActorSystem)
}

// referenceTaken says nothing of the payment that has the reference: it may be
// another agent's.
func referenceTaken(in *NewPayment) error {
	return schemas.Refuse(schemas.Conflict, "reference_used", "reference", "unique",
		"another payment of %s has the reference %q", in.Provider, in.Reference)
}
