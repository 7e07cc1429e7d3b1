package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/stripe/stripe-go/v84"
	"github.com/stripe/stripe-go/v84/webhook"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

type stripeView struct {
	Received bool `json:"received"`
	Recorded bool `json:"recorded"` // false for what is no payment of a booking, or was recorded before
}

// stripeWebhook takes Stripe's events. An event that cannot be recorded is refused,
// and not swallowed: Stripe tries it again for days and shows it to its account's
// owner, who has money that no booking knows of.
func (s *server) stripeWebhook(r *http.Request, _ auth.Principal) (answer, error) {
	if s.o.StripeSecret == "" {
		// Stripe was told of this endpoint and the endpoint not of Stripe's secret. Until
		// it is, Stripe keeps what it has to tell.
		return answer{}, schemas.Errorf(schemas.Unavailable, "stripe_not_configured", "the secret of Stripe's webhooks is not set here")
	}
	signature := r.Header.Get("Stripe-Signature")
	if !mayBeStripes(signature, time.Now()) { // before anything of a stranger's is read
		return answer{}, errNotStripes
	}
	body, err := readBody(r)
	if err != nil {
		return answer{}, err
	}
	// The account's API version is its owner's choice; the few members that are read
	// here are the same in all.
	opts := webhook.ConstructEventOptions{IgnoreAPIVersionMismatch: true}
	e, err := webhook.ConstructEventWithOptions(body, signature, s.o.StripeSecret.Reveal(), opts)
	if err != nil { // the library's words repeat parts of the body
		return answer{}, errNotStripes
	}
	in, err := stripePayment(&e)
	if err != nil || in == nil {
		return answer{data: stripeView{Received: true}, message: "Nothing to record"}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	recorded, err := s.o.Producer.RecordStripe(ctx, *in)
	return answer{data: stripeView{Received: true, Recorded: recorded}}, err
}

var errNotStripes = schemas.Errorf(schemas.Unauthorized, "invalid_signature", "this is not signed by Stripe, or too long ago")

// mayBeStripes looks at the form of a signature and at its time, t=…,v1=…, as far as
// that can be judged without the body.
func mayBeStripes(signature string, now time.Time) bool {
	if len(signature) > 4<<10 {
		return false
	}
	timely, signed := false, false
	for part := range strings.SplitSeq(signature, ",") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "t":
			at, err := strconv.ParseInt(value, 10, 64)
			timely = err == nil && now.Sub(time.Unix(at, 0)) <= webhook.DefaultTolerance
		case "v1":
			sum, err := hex.DecodeString(value)
			signed = signed || err == nil && len(sum) == sha256.Size
		}
	}
	return timely && signed
}

// stripePayment is the payment that an event tells of; nil for all others. One
// payment makes several events, and all of them name its intent: that is its
// reference, so that it counts once. Stripe counts in the currency's own smallest
// unit, and homes have currencies whose unit is a hundredth only.
func stripePayment(e *stripe.Event) (*producers.StripeEvent, error) {
	if e.Data == nil {
		return nil, nil // an event without an object tells nothing
	}
	var booking, reference, currency string
	var amount int64
	switch e.Type {
	case stripe.EventTypePaymentIntentSucceeded:
		var p stripe.PaymentIntent
		if err := json.Unmarshal(e.Data.Raw, &p); err != nil {
			return nil, notStripes(e)
		}
		booking, reference, currency, amount = p.Metadata["booking_id"], p.ID, string(p.Currency), p.AmountReceived
	case stripe.EventTypeCheckoutSessionCompleted:
		var c stripe.CheckoutSession
		if err := json.Unmarshal(e.Data.Raw, &c); err != nil {
			return nil, notStripes(e)
		}
		if c.PaymentStatus != stripe.CheckoutSessionPaymentStatusPaid { // it comes later, and its intent tells of it
			return nil, nil
		}
		booking, reference, currency, amount = c.Metadata["booking_id"], c.ID, string(c.Currency), c.AmountTotal
		if c.PaymentIntent != nil {
			reference = c.PaymentIntent.ID
		}
	default:
		return nil, nil // most of what Stripe can tell
	}
	if booking == "" || amount <= 0 {
		return nil, nil // a payment for something else
	}
	if !plainText(booking) || !plainText(reference) || reference == "" {
		return nil, notStripes(e)
	}
	return &producers.StripeEvent{
		ID: e.ID, Type: string(e.Type), BookingID: schemas.BookingID(booking),
		Payment: producers.NewPayment{
			Amount: schemas.Amount(amount), Currency: strings.ToUpper(currency), Method: "stripe", Provider: "stripe", Reference: reference,
		},
	}, nil
}

func notStripes(e *stripe.Event) error {
	return schemas.Refuse(schemas.Malformed, "invalid_event", "data.object", "type", "the object of %s is not what it should be", e.Type)
}
