package api

import (
	"strings"

	"github.com/segmentio/encoding/json"
	"github.com/stripe/stripe-go/v84"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// stripeEvent is the payment or refund that an event reports; nil for all others. One
// payment makes several events, and all of them name its intent: that is its
// reference, so that it counts once. A checkout that is not paid yet is paid, fails or
// runs out by a later event; a dispute is decided by a refund, or by none.
func stripeEvent(e *stripe.Event) (*producers.StripeEvent, error) {
	if e.Data == nil {
		return nil, nil // an event without an object tells nothing
	}
	switch e.Type {
	case stripe.EventTypePaymentIntentSucceeded:
		var p stripe.PaymentIntent
		if err := json.Unmarshal(e.Data.Raw, &p); err != nil {
			return nil, notStripes(e)
		}
		return stripePayment(e, p.Metadata["booking_id"], p.ID, p.Currency, p.AmountReceived)
	case stripe.EventTypeCheckoutSessionCompleted, stripe.EventTypeCheckoutSessionAsyncPaymentSucceeded:
		var c stripe.CheckoutSession
		if err := json.Unmarshal(e.Data.Raw, &c); err != nil {
			return nil, notStripes(e)
		}
		if c.PaymentStatus != stripe.CheckoutSessionPaymentStatusPaid {
			return nil, nil
		}
		reference := c.ID
		if c.PaymentIntent != nil {
			reference = c.PaymentIntent.ID
		}
		return stripePayment(e, c.Metadata["booking_id"], reference, c.Currency, c.AmountTotal)
	case stripe.EventTypeChargeRefunded:
		var c stripe.Charge
		if err := json.Unmarshal(e.Data.Raw, &c); err != nil {
			return nil, notStripes(e)
		}
		return stripeRefund(e, c.PaymentIntent, c.Currency, c.AmountRefunded, &store.StripeRefund{ID: c.ID, Charge: true})
	case stripe.EventTypeRefundCreated, stripe.EventTypeRefundUpdated, stripe.EventTypeRefundFailed, stripe.EventTypeChargeRefundUpdated:
		var r stripe.Refund
		if err := json.Unmarshal(e.Data.Raw, &r); err != nil {
			return nil, notStripes(e)
		}
		failed := r.Status == stripe.RefundStatusFailed || r.Status == stripe.RefundStatusCanceled
		return stripeRefund(e, r.PaymentIntent, r.Currency, r.Amount, &store.StripeRefund{ID: r.ID, Failed: failed})
	default: // most of what Stripe can send
		return nil, nil
	}
}

func stripePayment(e *stripe.Event, booking, reference string, currency stripe.Currency, amount int64) (*producers.StripeEvent, error) {
	if booking == "" || len(booking) > 255 || !plainText(booking) || amount <= 0 {
		return nil, nil // a payment for something else
	}
	if reference == "" || len(reference) > 255 || !plainText(reference) {
		return nil, notStripes(e)
	}
	return &producers.StripeEvent{
		ID: e.ID, Type: string(e.Type), BookingID: schemas.BookingID(booking),
		Payment: producers.NewPayment{
			Amount: stripeAmount(currency, amount), Currency: strings.ToUpper(string(currency)), Method: "stripe", Provider: "stripe", Reference: reference,
		},
	}, nil
}

func stripeRefund(e *stripe.Event, of *stripe.PaymentIntent, currency stripe.Currency, amount int64, r *store.StripeRefund) (*producers.StripeEvent, error) {
	if of == nil || of.ID == "" || amount <= 0 {
		return nil, nil // of a payment that was never one of ours, as ours have intents
	}
	if r.ID == "" || !plainText(r.ID) || !plainText(of.ID) || len(r.ID)+len(of.ID) > 510 {
		return nil, notStripes(e)
	}
	r.Payment, r.Amount = of.ID, min(stripeAmount(currency, amount), schemas.MaxAmount)
	return &producers.StripeEvent{ID: e.ID, Type: string(e.Type), Refund: r}, nil
}

// stripeAmount is Stripe's count in minor units. Stripe counts most currencies by their
// ISO 4217 minor unit; of those with two places it takes one for a currency without
// any: https://docs.stripe.com/currencies#zero-decimal, as of 2026-12-01.
func stripeAmount(currency stripe.Currency, n int64) schemas.Amount {
	if strings.EqualFold(string(currency), "mga") && n <= int64(schemas.MaxAmount) {
		n *= 100
	}
	return schemas.Amount(n)
}

func notStripes(e *stripe.Event) error {
	return schemas.Refuse(schemas.Malformed, "invalid_event", "data.object", "type", "the object of %s is not what it should be", e.Type)
}
