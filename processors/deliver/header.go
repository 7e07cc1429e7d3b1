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

// Signed is what the headers of one attempt tell and vouch for. Secrets are those of
// HMAC, the newest first. They may be empty where Signatures are given; Bearer and
// TraceParent may always be.
type Signed struct {
	EventID    schemas.EventID
	EventType  schemas.EventType
	DeliveryID schemas.DeliveryID
	Attempt    int // from 1
	Body       []byte
	Secrets    [][]byte
	// Signatures are those of webhook-signature, the newest first; nil for one v1 of
	// each secret.
	Signatures  []string
	Bearer      schemas.Secret
	TraceParent string
}

// Header makes the headers of an attempt at a moment: those of Standard Webhooks,
// signed with every secret, and the original contract's, signed with the newest.
func Header(s *Signed, at time.Time) http.Header {
	unix := strconv.FormatInt(at.Unix(), 10)
	signatures := s.Signatures
	if signatures == nil {
		for _, secret := range s.Secrets {
			signatures = append(signatures, Sign(string(s.EventID), at, s.Body, secret))
		}
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
	if len(s.Secrets) > 0 {
		h.Set("X-Webhook-Signature", bodySignature(s.Body, s.Secrets[0]))
	}
	h.Set("X-Webhook-Attempt", strconv.Itoa(s.Attempt))
	if s.Bearer != "" {
		h.Set("Authorization", "Bearer "+s.Bearer.Reveal())
	}
	if s.TraceParent != "" {
		h.Set("traceparent", s.TraceParent)
	}
	return h
}

// reserved says that a subscription cannot set a header: the webhook's own, those
// that belong to the connection or to the body's form, and those that a transport
// acts upon.
func reserved(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "host", "content-length", "content-type", "content-encoding", "transfer-encoding", "trailer", "te", "connection",
		"keep-alive", "proxy-connection", "upgrade", "expect", "accept-encoding", "user-agent", "traceparent", "tracestate":
		return true
	}
	return strings.HasPrefix(name, "webhook-") || strings.HasPrefix(name, "x-webhook-")
}

// headerName says that a name is a token, as HTTP wants it.
func headerName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// headerValue says that a value breaks no line and holds no control character.
func headerValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
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
