package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/schemas"
)

// A sender makes requests. It uses the transport itself and no http.Client: a
// redirect is then an answer like any other, and nothing follows it; nor does
// any error carry the URL, which may hold a receiver's secret.
type sender struct {
	transport *http.Transport
	dialer    *net.Dialer
	names     names
	timeout   time.Duration
	allowHTTP bool
}

// An answer is all that came of one request. With a status, err is about the body.
type answer struct {
	status int
	header http.Header
	body   string // safe, at most keepBytes
	took   time.Duration
	err    error
}

func newSender(timeout time.Duration, allow []netip.Prefix, allowHTTP bool) *sender {
	s := &sender{timeout: timeout, allowHTTP: allowHTTP}
	s.dialer = &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second, Control: guard{allow}.control}
	s.transport = &http.Transport{
		// A proxy would resolve the name itself, where no guard sees the address.
		Proxy:       nil,
		DialContext: s.dial,
		// A transport with a dialer of its own speaks HTTP/1 unless it is told to.
		ForceAttemptHTTP2: true,
		MaxIdleConns:      4096,
		// The default of 2 would close the rest of a busy lane's connections after
		// every request.
		MaxIdleConnsPerHost: maxSlots,
		// Below the common 60 s after which servers and balancers close idle
		// connections: a POST on one that is just being closed is a failed attempt.
		IdleConnTimeout:        50 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return s
}

// dial notes the names that resolve.
func (s *sender) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address) // where it cannot be split, dialling says so
	return s.dialer.DialContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSDone: func(i httptrace.DNSDoneInfo) {
			if i.Err == nil {
				s.names.resolved(host, time.Now())
			}
		},
	}), network, address)
}

// send makes one POST. One deadline spans name, connection, headers and body, and the
// body has a shorter one of its own.
func (s *sender) send(parent context.Context, d *schemas.Delivery, to *subscriber, trace string, at time.Time) answer {
	ctx, cancel := context.WithTimeout(parent, s.timeout)
	defer cancel()
	begun := time.Now()
	a := s.roundTrip(ctx, cancel, d, to, trace, at)
	a.took = time.Since(begun)
	if a.status != 0 {
		return a
	}
	// In a context of its own: the request's may be over, for the name took it all.
	a.err = s.names.blame(parent, a.err, s.dialer.Resolver)
	if a.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && classOf(a.err) != schemas.ErrorOurs {
		// What is reported when the deadline passes depends on the protocol and the phase.
		a.err = fmt.Errorf("%w: %w", context.DeadlineExceeded, a.err)
	}
	return a
}

func (s *sender) roundTrip(ctx context.Context, cancel context.CancelFunc, d *schemas.Delivery, to *subscriber, trace string, at time.Time) answer {
	req, err := s.request(ctx, d, to, trace, at)
	if err != nil {
		return answer{err: err}
	}
	res, err := s.transport.RoundTrip(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = res.Body.Close() }() // whatever it says, the answer is in
	a := answer{status: res.StatusCode, header: res.Header}
	var body []byte
	body, a.err = ReadBody(res.Body, cancel)
	a.body = safe(body[:min(len(body), keepBytes)], keepBytes)
	return a
}

func (s *sender) request(ctx context.Context, d *schemas.Delivery, to *subscriber, trace string, at time.Time) (*http.Request, error) {
	u, err := s.target(to.URL)
	if err != nil {
		return nil, err
	}
	live := to.live(at)
	if len(live) == 0 {
		return nil, fmt.Errorf("the subscription has no live secret: %w", errOurs)
	}
	body := []byte(d.Payload)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errBadURL // not err, which repeats the URL
	}
	signed := &Signed{
		EventID: d.EventID, EventType: d.EventType, DeliveryID: d.ID, Attempt: d.AttemptsBefore + d.Attempt + 1, Body: body,
		Bearer: to.apiKey, TraceParent: trace,
	}
	for _, secret := range live {
		if secret.algorithm == schemas.SignEd25519 {
			signed.Signatures = append(signed.Signatures, SignEd25519(string(d.EventID), at, body, secret.key))
			continue
		}
		signed.Secrets = append(signed.Secrets, secret.key)
		signed.Signatures = append(signed.Signatures, Sign(string(d.EventID), at, body, secret.key))
	}
	// The subscription's own first, so that ours stand where both name one.
	maps.Copy(req.Header, to.headers)
	maps.Copy(req.Header, Header(signed, at))
	// A connection that the receiver has closed while it was idle is found out by
	// using it. The transport tries a new one by itself, for requests that it may
	// repeat; this header says so, and without a value it is not sent. A receiver knows
	// a repetition by its webhook-id.
	if _, own := req.Header["Idempotency-Key"]; !own {
		req.Header["Idempotency-Key"] = nil
	}
	return req, nil
}

// target reads a subscription's URL, also one that was stored before the grammar of
// URLs was what it is. Its errors do not repeat it.
func (s *sender) target(raw string) (*url.URL, error) {
	u, err := webhook.StoredURL(raw)
	if err != nil {
		return nil, fmt.Errorf("it %w: %w", err, errBadURL)
	}
	if u.Scheme != "https" && !s.allowHTTP {
		return nil, fmt.Errorf("its scheme is not allowed: %w", errBadURL)
	}
	return u, nil
}

// safe makes bytes into text that Postgres takes: valid UTF-8 without U+0000, no
// longer than limit.
func safe(b []byte, limit int) string {
	s := strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= limit {
		return s
	}
	s = s[:limit]
	for {
		r, n := utf8.DecodeLastRuneInString(s)
		if r != utf8.RuneError || n != 1 {
			return s
		}
		s = s[:len(s)-1] // a rune was cut
	}
}
