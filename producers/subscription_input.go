package producers

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/segmentio/encoding/json"
	"golang.org/x/net/http/httpguts"

	"github.com/krib-ai/krib/internal/filter"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/schemas"
)

// NewSubscription is the input of CreateSubscription and UpdateSubscription. What
// is optional stands at its zero value for the default.
type NewSubscription struct {
	AgentName string
	URL       string
	Events    []schemas.EventType
	APIKey    schemas.Secret
	// SigningSecret is empty where Krib shall make one (create) or keep those that
	// there are (update).
	SigningSecret schemas.Secret
	Description   string
	// Filter is a CEL expression; empty lets every event through.
	Filter   string
	Ordering schemas.Ordering // empty is OrderNone
	// RateLimit is how many requests a minute; 0 for no limit.
	RateLimit int
	// MaxFailedAttempts is how many deliveries in a row may run out of attempts
	// before the subscription is switched off; 0 is 5.
	MaxFailedAttempts int
	// Headers are sent with every request beside Krib's own, whose names they may
	// not have.
	Headers map[string]schemas.Secret
	// Asymmetric asks for the signature v1a beside v1.
	Asymmetric bool
}

// defaultMaxFailed is the contract's.
const defaultMaxFailed = 5

// A SubscriptionPatch is what PatchSubscription shall change; nil leaves as it is.
type SubscriptionPatch struct {
	AgentName, URL    *string
	Events            []schemas.EventType
	APIKey            *schemas.Secret
	Description       *string
	Filter            *string
	Ordering          *schemas.Ordering
	RateLimit         *int
	MaxFailedAttempts *int
	Headers           map[string]schemas.Secret
	Asymmetric        *bool
	Active            *bool
}

// choices says whether the patch names anything but Active.
func (in *SubscriptionPatch) choices() bool {
	return in.AgentName != nil || in.URL != nil || in.Events != nil || in.APIKey != nil || in.Description != nil || in.Filter != nil ||
		in.Ordering != nil || in.RateLimit != nil || in.MaxFailedAttempts != nil || in.Headers != nil || in.Asymmetric != nil
}

// over writes the patch over what there is.
func (in *SubscriptionPatch) over(s *NewSubscription) {
	set(&s.AgentName, in.AgentName)
	set(&s.URL, in.URL)
	set(&s.APIKey, in.APIKey)
	set(&s.Description, in.Description)
	set(&s.Filter, in.Filter)
	set(&s.Ordering, in.Ordering)
	set(&s.RateLimit, in.RateLimit)
	set(&s.MaxFailedAttempts, in.MaxFailedAttempts)
	set(&s.Asymmetric, in.Asymmetric)
	if in.Events != nil {
		s.Events = in.Events
	}
	if in.Headers != nil {
		s.Headers = in.Headers
	}
}

// choicesOf is what the owner of a subscription has chosen, its secrets opened.
func (p *Producer) choicesOf(sub *store.Subscription) (NewSubscription, error) {
	owner := string(sub.ID)
	in := NewSubscription{
		AgentName: sub.AgentName, URL: sub.URL, Events: sub.Events, Description: sub.Description, Filter: sub.Filter, Ordering: sub.Ordering,
		RateLimit: sub.RateLimit, MaxFailedAttempts: sub.MaxFailedAttempts, Asymmetric: currentKey(sub) != nil,
	}
	key, err := p.o.Ring.Open(sub.SealedAPIKey, owner, seal.FieldAPIKey)
	if err != nil {
		return in, fmt.Errorf("opening the key of subscription %s: %w", owner, err)
	}
	in.APIKey = schemas.Secret(key)
	if len(sub.SealedHeaders) == 0 {
		return in, nil
	}
	plain, err := p.o.Ring.Open(sub.SealedHeaders, owner, seal.FieldHeaders)
	if err != nil {
		return in, fmt.Errorf("opening the headers of subscription %s: %w", owner, err)
	}
	if err := json.Unmarshal(plain, &in.Headers); err != nil {
		return in, fmt.Errorf("reading the headers of subscription %s: %w", owner, err)
	}
	return in, nil
}

// sealHeaders is what lies on the topic of them: nothing where there are none.
func (p *Producer) sealHeaders(owner string, h map[string]schemas.Secret) (sealed []byte, names []string) {
	if len(h) == 0 {
		return nil, nil
	}
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	plain, err := json.Marshal(h)
	if err != nil {
		panic(err) // strings always encode
	}
	return p.o.Ring.Seal(plain, owner, seal.FieldHeaders), names
}

// fingerprint recognises the same input again, the secret of the agent included.
// What stands at its default is left out, so that a choice that did not exist when
// a subscription was made does not make the same request another one.
func fingerprint(in *NewSubscription) []byte {
	parts := []any{in.AgentName, in.URL, in.Events, in.APIKey.Reveal(), in.SigningSecret.Reveal()}
	chosen := *in
	chosen.AgentName, chosen.URL, chosen.Events, chosen.APIKey, chosen.SigningSecret = "", "", nil, "", ""
	if b, err := json.Marshal(chosen); err != nil {
		panic(err) // strings and numbers always encode
	} else if d, _ := json.Marshal(defaults()); string(b) != string(d) {
		parts = append(parts, string(b))
	}
	b, err := json.Marshal(parts)
	if err != nil {
		panic(err) // strings always encode
	}
	h := sha256.Sum256(b)
	return h[:]
}

// defaults is a checked input in which nothing optional was chosen.
func defaults() NewSubscription {
	return NewSubscription{Ordering: schemas.OrderNone, MaxFailedAttempts: defaultMaxFailed}
}

// check refuses what cannot work, and brings the rest into its one form: the URL,
// the headers' names, and defaults in the places of what was not chosen. stored is the
// URL that the subscription has already and that is not checked again, if any.
func (p *Producer) check(in *NewSubscription, stored string) error {
	if err := checkEvents("events", in.Events); err != nil {
		return err
	}
	var err error
	// A patch that does not name the URL leaves it as it is stored.
	if in.URL != stored {
		if in.URL, err = p.checkURL(in.URL); err != nil {
			return err
		}
	}
	if in.Headers, err = checkHeaders(in.Headers); err != nil {
		return err
	}
	if in.Ordering == "" {
		in.Ordering = schemas.OrderNone
	}
	if in.MaxFailedAttempts == 0 {
		in.MaxFailedAttempts = defaultMaxFailed
	}
	return checkFilter(in.Filter)
}

func checkFilter(text string) error {
	if text == "" {
		return nil
	}
	_, err := filter.Compile(text)
	if err == nil {
		return nil
	}
	e := schemas.Refuse(schemas.Malformed, "invalid_filter", "filter", "expression", "filter: %s", err)
	if at, ok := errors.AsType[*filter.Error](err); ok {
		e.Extra = map[string]any{"line": at.Line, "column": at.Column}
	}
	return e
}

// givenSecret reads a secret that the caller brings; nil where it brings none.
func givenSecret(s schemas.Secret) ([]byte, schemas.Secret, error) {
	if s == "" {
		return nil, "", nil
	}
	raw, err := schemas.ParseSigningSecret(s)
	if err != nil {
		return nil, "", schemas.Refuse(schemas.Malformed, "invalid_signing_secret", "signing_secret", "format", "signing_secret %s", err)
	}
	return raw, s, nil
}

// The bounds of an owner's headers: together they must fit beside ours into what
// servers take for a request's headers, commonly 8 KB.
const (
	maxHeaders     = 20
	maxHeaderBytes = 4 << 10
)

// taken are the names of headers that are not the owner's: ours, and those that
// are about the connection.
var taken = []string{
	"Accept-Encoding", "Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Date", "Expect", "Forwarded", "Host",
	"Keep-Alive", "Te", "Trailer", "Traceparent", "Tracestate", "Transfer-Encoding", "Upgrade", "User-Agent", "Via",
}

func checkHeaders(given map[string]schemas.Secret) (map[string]schemas.Secret, error) {
	bad := func(name, what string) error {
		return schemas.Refuse(schemas.Malformed, "invalid_header", "headers."+name, "header", "headers.%s %s", name, what)
	}
	out := make(map[string]schemas.Secret, len(given))
	size := 0
	for name, v := range given {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		_, twice := out[canonical]
		size += len(name) + len(v)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return nil, bad("", "must be named by letters, digits and hyphens, as headers are")
		case slices.Contains(taken, canonical), strings.HasPrefix(canonical, "Webhook-"), strings.HasPrefix(canonical, "X-Webhook-"), strings.HasPrefix(canonical, "Proxy-"):
			return nil, bad(canonical, "is a header that Krib sets itself, or that is about the connection")
		case !httpguts.ValidHeaderFieldValue(v.Reveal()):
			return nil, bad(canonical, "must not hold control characters")
		case twice:
			return nil, bad(canonical, "is given more than once")
		}
		out[canonical] = v
	}
	if len(given) > maxHeaders || size > maxHeaderBytes {
		return nil, schemas.Refuse(schemas.Malformed, "invalid_header", "headers", "length", "headers must be at most %d, of %d bytes in all", maxHeaders, maxHeaderBytes)
	}
	return out, nil
}

// checkEvents blames the field that the caller gave them in.
func checkEvents(field string, events []schemas.EventType) error {
	bad := []schemas.EventType{}
	for _, e := range events {
		if !e.Subscribable() {
			bad = append(bad, e)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	e := schemas.Refuse(schemas.Rule, "invalid_events", field, "enum", "unknown events: %v", bad)
	e.Extra = map[string]any{"invalid_events": bad, "valid_events": schemas.SubscribableEvents()}
	return e
}

// checkURL refuses what can never be delivered to, and returns the form that is
// stored, shown and sent. A name may still resolve to a refused address later: the
// dialer looks at the address that it really dials.
func (p *Producer) checkURL(s string) (string, error) {
	bad := func(rule, what string) error {
		return schemas.Refuse(schemas.Malformed, "invalid_url", "webhook_url", rule, "webhook_url %s", what)
	}
	u, err := webhook.ParseURL(s)
	if wrong, ok := errors.AsType[*webhook.URLError](err); ok {
		return "", bad(wrong.Rule, wrong.Error())
	}
	if err != nil {
		return "", bad("format", "must be a URL that can be called")
	}
	if u.Scheme == "http" && !p.o.AllowHTTP {
		return "", bad("scheme", "must begin with https://; plain http is not allowed here")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !p.o.AllowedAddress(ip) {
		return "", bad("address", "must not name a private, local or reserved address")
	}
	return u.String(), nil
}
