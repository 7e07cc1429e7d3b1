package deliver

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/schemas"
)

const userAgent = "Krib-AI-Webhook/1.0"

// Signed is what the headers of one attempt tell and vouch for. Secrets must not
// be empty; the newest stands first. Bearer and TraceParent may be.
type Signed struct {
	EventID     schemas.EventID
	EventType   schemas.EventType
	DeliveryID  schemas.DeliveryID
	Attempt     int // from 1
	Body        []byte
	Secrets     [][]byte
	Bearer      schemas.Secret
	TraceParent string
}

// Header makes the headers of an attempt at a moment: those of Standard Webhooks,
// signed with every secret, and the original contract's, signed with the newest.
func Header(s *Signed, at time.Time) http.Header {
	unix := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(s.Secrets))
	for i, secret := range s.Secrets {
		signatures[i] = Sign(string(s.EventID), at, s.Body, secret)
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", userAgent)
	h.Set(headerID, string(s.EventID))
	h.Set(headerTimestamp, unix)
	h.Set(headerSignature, strings.Join(signatures, " "))
	h.Set("X-Webhook-Event", string(s.EventType))
	h.Set("X-Webhook-ID", string(s.DeliveryID))
	h.Set("X-Webhook-Timestamp", timestampOf(s.Body, unix))
	h.Set("X-Webhook-Signature", bodySignature(s.Body, s.Secrets[0]))
	h.Set("X-Webhook-Attempt", strconv.Itoa(s.Attempt))
	if s.Bearer != "" {
		h.Set("Authorization", "Bearer "+s.Bearer.Reveal())
	}
	if s.TraceParent != "" {
		h.Set("traceparent", s.TraceParent)
	}
	return h
}

// timestampOf is the body's own timestamp, as it stands there: the original's
// header repeats it. A body without one gets the attempt's.
func timestampOf(body []byte, attempt string) string {
	var frame struct {
		Timestamp string `json:"timestamp"`
	}
	if err := json.Unmarshal(body, &frame); err != nil || !plainText(frame.Timestamp) {
		return attempt
	}
	return frame.Timestamp
}

func plainText(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
