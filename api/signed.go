package api

import (
	"errors"
	"net/http"
	"strings"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// signed verifies a request that is signed as Standard Webhooks has it, with the
// caller's own API key as the secret (its text, as it stands behind Bearer; it has
// been looked up before). The webhook-id is what makes a repetition harmless: the
// same id with the same body gets the same answer for a day, and a signature is not
// taken later than five minutes after it was made.
func signed(r *http.Request, body []byte) (*producers.Once, error) {
	_, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	wh, err := standardwebhooks.NewWebhookRaw([]byte(strings.TrimSpace(key)))
	if err == nil {
		err = wh.Verify(body, r.Header)
	}
	id := r.Header.Get(standardwebhooks.HeaderWebhookID)
	switch {
	case errors.Is(err, standardwebhooks.ErrRequiredHeaders):
		return nil, schemas.Errorf(schemas.Unauthorized, "missing_signature", "webhook-id, webhook-timestamp and webhook-signature are required")
	case errors.Is(err, standardwebhooks.ErrMessageTooOld), errors.Is(err, standardwebhooks.ErrMessageTooNew):
		return nil, schemas.Errorf(schemas.Unauthorized, "stale_signature", "webhook-timestamp is more than five minutes from now")
	case err != nil:
		return nil, schemas.Errorf(schemas.Unauthorized, "invalid_signature", "webhook-signature is not one of this body by this key")
	}
	if hidden := func(c rune) bool { return c <= ' ' || c > '~' }; len(id) > 255 || strings.ContainsFunc(id, hidden) {
		return nil, schemas.Refuse(schemas.Malformed, "invalid_webhook_id", "webhook-id", "format", "webhook-id must be 1 to 255 visible ASCII characters")
	}
	return infoOf(r.Context()).remember(r, "webhook:"+id, body), nil
}
