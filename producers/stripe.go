package producers

import (
	"context"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// A StripeEvent is what a verified event of Stripe says: of a payment for a booking,
// or of a refund.
type StripeEvent struct {
	ID, Type  string
	BookingID schemas.BookingID
	Payment   NewPayment
	Refund    *store.StripeRefund // nil for a payment
}

// A StripeResult is what came of an event: Recorded is false for what was recorded
// before, and for a payment of which no booking here is known (NotOurs).
type StripeResult struct{ Recorded, NotOurs bool }

// RecordStripe records what Stripe says, once an event and once a payment or refund,
// in whatever order it comes. It is always recorded when its booking is here, beyond
// the price too: the money has moved. An agent's word of the same payment does not
// count beside it.
func (p *Producer) RecordStripe(ctx context.Context, e StripeEvent) (StripeResult, error) {
	return update(ctx, p, store.Scope{Platform: true}, func(ctx context.Context, tx *store.Tx) (StripeResult, error) {
		c := change{tx: tx, actor: schemas.Actor{Kind: schemas.ActorSystem, ID: "stripe"}, now: p.Now()}
		if e.Refund != nil {
			return c.refundAtStripe(ctx, &e)
		}
		if _, err := tx.Booking(ctx, e.BookingID); err != nil {
			if schemas.KindOf(err) == schemas.NotFound {
				return StripeResult{NotOurs: true}, nil
			}
			return StripeResult{}, err
		}
		mine, err := tx.ClaimStripeEvent(ctx, e.ID, e.Type, e.BookingID)
		if err != nil || !mine {
			return StripeResult{}, err
		}
		recorded, err := c.verify(ctx, &e)
		return StripeResult{Recorded: recorded}, err
	})
}

// verify records a payment as the provider's own word. What its agent has said of it
// before, with the same amount, was true: then nothing changes and there is no second
// event. Any other word of the same reference stops counting.
func (c *change) verify(ctx context.Context, e *StripeEvent) (bool, error) {
	b, said, err := c.payable(ctx, e.BookingID, &e.Payment)
	if err != nil {
		return false, err
	}
	said.Verified = true
	first, err := c.tx.VerifiedPayment(ctx, said.Provider, said.Reference)
	if err != nil || first != nil {
		if first != nil && !same(first, said) {
			err = referenceTaken(&e.Payment)
		}
		return false, err
	}
	word, err := c.tx.ClaimedPayment(ctx, b.AgentID, said.Provider, said.Reference)
	if err != nil {
		return false, err
	}
	known := word != nil && word.BookingID == b.ID && word.Amount == said.Amount
	if known {
		err = c.tx.AddPayment(ctx, &b, said)
	} else {
		_, err = c.add(ctx, &b, said)
	}
	if err != nil {
		return false, err
	}
	if err := c.restateElsewhere(ctx, said); err != nil {
		return false, err
	}
	_, err = c.refund(ctx, &b, said, e.ID)
	return !known, err
}

// restateElsewhere corrects the bookings for which agents have claimed a payment that
// the provider says is another's.
func (c *change) restateElsewhere(ctx context.Context, p *store.Payment) error {
	ids, err := c.tx.ClaimsElsewhere(ctx, p.Provider, p.Reference, p.BookingID)
	for _, id := range ids {
		other, err := c.tx.LockBooking(ctx, id)
		if err != nil {
			return err
		}
		if err := c.restate(ctx, &other); err != nil {
			return err
		}
	}
	return err
}

// refundAtStripe keeps what an event says of a refund. When its payment is not known
// yet, it is counted when that comes.
func (c *change) refundAtStripe(ctx context.Context, e *StripeEvent) (StripeResult, error) {
	if err := c.tx.LockReference(ctx, "stripe", e.Refund.Payment); err != nil {
		return StripeResult{}, err
	}
	if err := c.tx.NoteRefund(ctx, e.Refund); err != nil {
		return StripeResult{}, err
	}
	of, err := c.tx.RefundablePayment(ctx, e.Refund.Payment)
	if err != nil || of == nil {
		return StripeResult{NotOurs: err == nil}, err
	}
	b, err := c.tx.LockBooking(ctx, of.BookingID)
	if err != nil {
		return StripeResult{}, err
	}
	recorded, err := c.refund(ctx, &b, of, e.ID)
	return StripeResult{Recorded: recorded}, err
}

// refund records the difference between what Stripe has said of a payment's refunds
// and what is recorded of them, as a negative payment: positive where one has failed.
// Its reference is the event that made the difference.
func (c *change) refund(ctx context.Context, b *schemas.Booking, of *store.Payment, event string) (bool, error) {
	said, recorded, err := c.tx.Refunded(ctx, of.Reference)
	if err != nil {
		return false, err
	}
	more := min(max(said, 0), of.Amount) - recorded
	if more == 0 {
		return false, nil
	}
	r := store.Payment{ID: schemas.NewPaymentID(), BookingID: b.ID, Verified: true, RefundOf: of.Reference, Payment: schemas.Payment{
		Method: of.Method, Amount: -more, Currency: of.Currency, Reference: event, Provider: of.Provider, At: c.now,
	}}
	if err := c.tx.AddPayment(ctx, b, &r); err != nil {
		return false, err
	}
	return true, c.restate(ctx, b)
}
