package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v84/webhook"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/schemas"
)

type stripeView struct {
	Received bool `json:"received"`
	Recorded bool `json:"recorded"` // false for what is no payment of a booking, or was recorded before
}

// stripeWebhook takes Stripe's events. A payment for a booking that cannot be recorded
// is refused, and not swallowed: Stripe tries it again for days and shows it to its
// account's owner, who has money that no booking knows of. What is another system's at
// the same account is taken and left alone.
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
	in, err := stripeEvent(&e)
	if err != nil || in == nil {
		return answer{data: stripeView{Received: true}, message: "Nothing to record"}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	result, err := s.o.Producer.RecordStripe(ctx, *in)
	message := ""
	if result.NotOurs {
		message = "Not ours: no booking here is paid by this"
	}
	return answer{data: stripeView{Received: true, Recorded: result.Recorded}, message: message}, err
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
