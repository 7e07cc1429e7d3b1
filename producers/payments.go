package producers

import (
	"context"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// NewPayment is the input of RecordPayment: money that somebody took for a booking.
// Provider and Reference name it in the world. An amount that makes more than the
// booking's price is refused unless AllowOverpayment says that it is meant.
type NewPayment struct {
	Amount           schemas.Amount
	Currency         string
	Method           string
	Provider         string
	Reference        string
	AllowOverpayment bool
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

// RecordPayment writes a payment down as the agent's word, with payment.received,
// whatever the booking's status. The same reference of the same agent again answers
// the first payment; with anything else beside it, it is a Conflict, and so is what
// the provider itself has said otherwise. References of other agents do not matter.
func (p *Producer) RecordPayment(ctx context.Context, s store.Scope, o *Once, id schemas.BookingID, in NewPayment) (PaymentAnswer, error) {
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (PaymentAnswer, error) {
		c := change{tx: tx, actor: actor(s), now: p.Now()}
		return c.claim(ctx, id, &in)
	})
}

// claim records an agent's word.
func (c *change) claim(ctx context.Context, id schemas.BookingID, in *NewPayment) (PaymentAnswer, error) {
	b, said, err := c.payable(ctx, id, in)
	if err != nil {
		return PaymentAnswer{}, err
	}
	first, err := c.tx.VerifiedPayment(ctx, in.Provider, in.Reference)
	if err == nil && first == nil {
		first, err = c.tx.ClaimedPayment(ctx, b.AgentID, in.Provider, in.Reference)
	}
	if err != nil {
		return PaymentAnswer{}, err
	}
	paid, err := c.tx.PaidTotal(ctx, id)
	switch {
	case err != nil:
		return PaymentAnswer{}, err
	case first != nil && !same(first, said):
		return PaymentAnswer{}, referenceTaken(in)
	case first != nil:
		return PaymentAnswer{ID: first.ID, Payment: first.Payment, Booking: b, Paid: paid.Total, Repeated: true}, nil
	case paid.Total+in.Amount > b.TotalAmount && !in.AllowOverpayment:
		return PaymentAnswer{}, overpayment(&b, in, paid.Total)
	}
	return c.add(ctx, &b, said)
}

// payable locks a booking and a payment's reference, and checks what must hold of any
// payment.
func (c *change) payable(ctx context.Context, id schemas.BookingID, in *NewPayment) (schemas.Booking, *store.Payment, error) {
	b, err := c.tx.LockBooking(ctx, id)
	if err != nil {
		return b, nil, err
	}
	if in.Currency != b.Currency {
		return b, nil, schemas.Refuse(schemas.Rule, "currency_mismatch", "currency", "equals", "the booking is in %s and the payment in %s", b.Currency, in.Currency)
	}
	if in.Amount <= 0 || in.Amount > schemas.MaxAmount {
		return b, nil, schemas.Refuse(schemas.Rule, "amount_out_of_range", "amount", "range", "a payment is from 0.01 to %s", schemas.MaxAmount)
	}
	said := &store.Payment{ID: schemas.NewPaymentID(), BookingID: id, Payment: schemas.Payment{
		Method: in.Method, Amount: in.Amount, Currency: in.Currency, Reference: in.Reference, Provider: in.Provider, At: c.now,
	}}
	return b, said, c.tx.LockReference(ctx, in.Provider, in.Reference)
}

// add records a payment and carries it into its booking, with its event.
func (c *change) add(ctx context.Context, b *schemas.Booking, p *store.Payment) (PaymentAnswer, error) {
	a := PaymentAnswer{ID: p.ID, Payment: p.Payment}
	if err := c.tx.AddPayment(ctx, b, p); err != nil {
		return a, err
	}
	paid, err := c.tx.PaidTotal(ctx, b.ID)
	if err != nil {
		return a, err
	}
	a.Paid, a.Payment.PaidTotal = paid.Total, max(paid.Total, 0)
	if c.host, err = c.tx.HostPolicy(ctx, b.HostID); err != nil {
		return a, err
	}
	b.Version, b.UpdatedAt = b.Version+1, c.now
	changed := []string{"updated_at"}
	if now := paymentStatus(paid, b.TotalAmount); b.PaymentStatus != now {
		b.PaymentStatus, changed = now, append(changed, "payment_status")
	}
	e := c.event(schemas.PaymentReceived, b)
	e.Payment, e.Changed = &a.Payment, changed
	rows, err := rowsOf(ctx, e)
	if err != nil {
		return a, err
	}
	c.tx.SaveBooking(b, rows)
	a.Booking = *b
	return a, nil
}

// paymentStatus is what a booking's payments come to: when all of it went back, it is
// refunded and not waited for.
func paymentStatus(p store.Paid, total schemas.Amount) schemas.PaymentStatus {
	if p.Refunded && p.Total <= 0 {
		return schemas.Refunded
	}
	return schemas.PaymentOf(p.Total, total)
}

// restate brings a booking's status of payment to what its payments come to, where no
// event says so: after a refund, or when the provider says that a payment was for
// another booking. The version counts events, so it stays.
func (c *change) restate(ctx context.Context, b *schemas.Booking) error {
	paid, err := c.tx.PaidTotal(ctx, b.ID)
	if err != nil {
		return err
	}
	if now := paymentStatus(paid, b.TotalAmount); now != b.PaymentStatus {
		b.PaymentStatus = now
		c.tx.SavePaymentStatus(b)
	}
	return nil
}

// same compares what was said of a payment. Of what the provider has said itself, the
// method is its own word and not the agent's.
func same(first, said *store.Payment) bool {
	return first.BookingID == said.BookingID && first.Amount == said.Amount && first.Currency == said.Currency &&
		(first.Method == said.Method || first.Verified)
}

// referenceTaken says nothing of the payment that has the reference: it may be
// another agent's.
func referenceTaken(in *NewPayment) error {
	return schemas.Refuse(schemas.Conflict, "reference_used", "reference", "unique",
		"another payment of %s has the reference %q", in.Provider, in.Reference)
}

func overpayment(b *schemas.Booking, in *NewPayment, paid schemas.Amount) error {
	open := max(b.TotalAmount-paid, 0)
	e := schemas.Refuse(schemas.Rule, "overpayment", "amount", "max", "%s %s of %s are open, and this is %s; with allow_overpayment it is recorded all the same",
		b.Currency, open, b.TotalAmount, in.Amount)
	e.Extra = map[string]any{"expected_amount": open, "currency": b.Currency}
	return e
}
