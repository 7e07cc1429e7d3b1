package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/krib-ai/krib/schemas"
)

func TestJudgeOfEveryStatus(t *testing.T) {
	t.Parallel()
	for status := 100; status < 600; status++ {
		v := judge(status, http.Header{}, nil)
		want, class := schemas.Retry, schemas.ErrorStatus
		switch {
		case status == 410:
			want = schemas.Gone
		case status >= 200 && status < 300:
			want, class = schemas.Delivered, schemas.ErrorNone
		}
		if v.outcome != want || v.class != class || v.shut {
			t.Errorf("%d: %+v", status, v)
		}
		if v := judge(status, http.Header{"Webhook-Delivery": {"disable"}}, nil); v.outcome != schemas.Gone {
			t.Errorf("%d with disable: %+v", status, v)
		}
		v = judge(status, http.Header{"Retry-After": {"7"}}, nil)
		if shut := status == 429 || status == 503; v.shut != shut {
			t.Errorf("%d with Retry-After: %+v", status, v)
		}
	}
}

func TestJudgeOfEveryError(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	for want, errs := range map[schemas.ErrorClass][]error{
		schemas.ErrorTimeout:  {context.DeadlineExceeded, fmt.Errorf("x: %w", os.ErrDeadlineExceeded)},
		schemas.ErrorConnect:  {dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), syscall.ECONNRESET, dial(syscall.EHOSTUNREACH)},
		schemas.ErrorDNS:      {dial(&net.DNSError{IsNotFound: true}), dial(&net.DNSError{IsTimeout: true})},
		schemas.ErrorTLS:      {tls.AlertError(40), errors.New("remote error: tls: handshake failure"), http.ErrSchemeMismatch},
		schemas.ErrorRefused:  {dial(&refusedError{})},
		schemas.ErrorBadURL:   {fmt.Errorf("no host: %w", errBadURL)},
		schemas.ErrorProtocol: {io.ErrUnexpectedEOF, errors.New("malformed HTTP response")},
		schemas.ErrorOurs: {
			errOurs, fmt.Errorf("%w: %w", errOurs, dial(&net.DNSError{IsTemporary: true})),
			dial(os.NewSyscallError("socket", syscall.EMFILE)), dial(syscall.EADDRNOTAVAIL),
		},
	} {
		for _, err := range errs {
			v := judge(0, nil, err)
			outcome := schemas.Retry
			if want == schemas.ErrorRefused || want == schemas.ErrorBadURL {
				outcome = schemas.Dead
			}
			if v.class != want || v.outcome != outcome {
				t.Errorf("%v: %+v, want %s %s", err, v, outcome, want)
			}
		}
	}
}

func TestJudgeOfABrokenBody(t *testing.T) {
	t.Parallel()
	if v := judge(410, http.Header{}, io.ErrUnexpectedEOF); v.outcome != schemas.Gone {
		t.Errorf("410: %+v", v)
	}
	if v := judge(503, http.Header{"Retry-After": {"7"}}, context.DeadlineExceeded); !v.shut || v.class != schemas.ErrorStatus {
		t.Errorf("503: %+v", v)
	}
	for _, err := range []error{errTornBody, errEndlessBody, io.ErrUnexpectedEOF} {
		for _, status := range []int{200, 202, 204, 299} {
			if v := judge(status, http.Header{}, err); v.outcome != schemas.Delivered || v.class != schemas.ErrorNone {
				t.Errorf("%d, %v: %+v", status, err, v)
			}
		}
	}
	if v := judge(200, http.Header{"Webhook-Delivery": {"disable"}}, errTornBody); v.outcome != schemas.Gone {
		t.Errorf("200 and disable: %+v", v)
	}
}

func TestAnErrorIsOneOfTheSentencesWithoutInternals(t *testing.T) {
	t.Parallel()
	us := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 40000}
	tcp := func(op string, err error) error {
		return &net.OpError{Op: op, Net: "tcp", Source: us, Addr: us, Err: err}
	}
	verify := func(err error) error { return tcp("remote error", &tls.CertificateVerificationError{Err: err}) }
	for _, c := range []struct {
		want string
		err  error
	}{
		{sayConnRefused, tcp("dial", os.NewSyscallError("connect", syscall.ECONNREFUSED))},
		{sayConnReset, fmt.Errorf("reading: %w", tcp("read", syscall.ECONNRESET))},
		{sayConnReset, tcp("write", os.NewSyscallError("write", syscall.EPIPE))},
		{sayUnreachable, tcp("dial", os.NewSyscallError("connect", syscall.EHOSTUNREACH))},
		{sayUnreachable, tcp("dial", os.NewSyscallError("connect", syscall.ENETUNREACH))},
		{sayConnFailed, tcp("dial", os.NewSyscallError("connect", syscall.EINVAL))},
		{sayConnectLate, tcp("dial", os.NewSyscallError("connect", syscall.ETIMEDOUT))},
		{sayConnectLate, tcp("dial", os.ErrDeadlineExceeded)},
		{sayRefused, tcp("dial", guard{}.check(netip.MustParseAddr("10.1.2.3")))},
		{sayNameLate, tcp("dial", &net.DNSError{Err: "read udp 10.1.2.3:1->10.1.2.4:53: i/o timeout", IsTimeout: true})},
		{sayNoHost, &net.DNSError{Server: "10.1.2.4", IsNotFound: true}},
		{sayNameFailed, &net.DNSError{Err: "server misbehaving", Server: "10.1.2.4", IsTemporary: true}},
		{sayLate, fmt.Errorf("%w: dialling 10.1.2.3", context.DeadlineExceeded)},
		{sayTLSLate, handshakeTimeout{}},
		{sayAuthority, verify(x509.UnknownAuthorityError{})},
		{sayOtherName, verify(x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"internal.corp"}}, Host: "a.example"})},
		{sayExpired, verify(x509.CertificateInvalidError{Reason: x509.Expired, Detail: "10.1.2.3"})},
		{sayCertificate, verify(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign})},
		{sayCertificate, verify(errors.New("x509: something new at 10.1.2.3"))},
		{sayNoTLS, tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake", Conn: nil}},
		{sayTLS, tls.AlertError(40)},
		{sayTLS, errors.New("remote error: tls: unrecognized name")},
		{sayClosed, io.EOF},
		{sayClosed, errors.New("http: server closed idle connection")},
		{sayClosed, http2.StreamError{StreamID: 3, Code: http2.ErrCodeInternal}},
		{sayClosed, errors.New(`http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug="10.1.2.3"`)},
		{sayHeaders, errors.New("net/http: server response headers exceeded 65536 bytes; aborted")},
		{sayNotHTTP, fmt.Errorf("malformed HTTP response %q", "SSH-2.0-OpenSSH at 10.1.2.3")},
		{sayNotHTTP, errors.New("*http.badStringError: goroutine 7 at 10.1.2.3")},
		{sayBadURL, fmt.Errorf("it must name a host: %w", errBadURL)},
		{sayOurs, fmt.Errorf("%w: lookup x on 10.1.2.4:53: server misbehaving", errOurs)},
		{sayOurs, tcp("socket", os.NewSyscallError("socket", syscall.EMFILE))},
		{sayTornBody, errTornBody},
		{sayEndlessBody, errEndlessBody},
	} {
		got := describe(c.err)
		if got != c.want || !slices.Contains(Sentences, got) {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
		for _, word := range []string{"10.1", "x509", "tls:", "syscall", "tcp", "dial ", "http:", "goroutine", "lookup ", ".corp"} {
			if strings.Contains(got, word) {
				t.Errorf("%q holds %q", got, word)
			}
		}
	}
}

type handshakeTimeout struct{}

func (handshakeTimeout) Error() string   { return "net/http: TLS handshake timeout" }
func (handshakeTimeout) Timeout() bool   { return true }
func (handshakeTimeout) Temporary() bool { return true }

// The document lists what a subscriber may read.
func TestEverySentenceOfAnErrorIsDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/WEBHOOKS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range Sentences {
		if !strings.Contains(string(doc), "| "+s+" |") {
			t.Errorf("docs/WEBHOOKS.md does not have %q", s)
		}
	}
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "x": 0, "-5": 0, "1.5": 0, "0": 0, "120": 2 * time.Minute, " 3 ": 3 * time.Second,
		"31536000": 24 * time.Hour, "Mon, 01 Mar 2027 12:00:00 GMT": 24 * time.Hour, "soon": 0, "7s": 0, "Sun, 01 Mar": 0,
		"86400": 24 * time.Hour, "86401": 24 * time.Hour, "9223372036854775807": 24 * time.Hour,
		"Sun, 01 Mar 2026 12:10:00 GMT": 10 * time.Minute,
		"Sun, 01 Mar 2026 11:10:00 GMT": 0,
		"Sun, 08 Mar 2026 12:00:00 GMT": 24 * time.Hour,
	} {
		var v verdict
		v.after, v.until = retryAfter(s)
		if got := v.wait(now); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestNextStepFollowsTheLadder(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ladder := schemas.Ladder{5 * time.Second, 30 * time.Second, 30 * time.Second}
	failed := func(after time.Duration) verdict { return verdict{outcome: schemas.Retry, after: after} }
	for _, c := range []struct {
		name    string
		attempt int
		trigger schemas.Trigger
		v       verdict
		topic   string
		due     time.Duration
	}{
		{"first", 0, schemas.TriggerEvent, failed(0), "webhook.retry.5s", 5 * time.Second},
		{"second", 1, schemas.TriggerRetry, failed(0), "webhook.retry.30s", 30 * time.Second},
		{"third", 2, schemas.TriggerRetry, failed(0), "webhook.retry.30s", 30 * time.Second},
		{"last", 3, schemas.TriggerRetry, failed(0), "webhook.dead", 0},
		{"asked less", 1, schemas.TriggerRetry, failed(7 * time.Second), "webhook.retry.30s", 30 * time.Second},
		{"asked more", 0, schemas.TriggerEvent, failed(7 * time.Second), "webhook.retry.30s", 30 * time.Second},
		{"asked too much", 0, schemas.TriggerEvent, failed(time.Hour), "webhook.retry.30s", time.Hour},
		{"test", 0, schemas.TriggerTest, failed(0), "", 0},
		{"operational", 0, schemas.TriggerOperational, failed(0), "webhook.dead", 0},
		{"delivered", 0, schemas.TriggerEvent, verdict{outcome: schemas.Delivered}, "", 0},
		{"gone", 0, schemas.TriggerEvent, verdict{outcome: schemas.Gone, class: schemas.ErrorStatus}, "webhook.dead", 0},
		{"gone with thanks", 0, schemas.TriggerEvent, verdict{outcome: schemas.Gone}, "", 0},
	} {
		s := next(ladder, &schemas.Delivery{Attempt: c.attempt, Trigger: c.trigger}, c.v, now)
		if s.topic != c.topic || s.tier > 0 && !s.due.Equal(now.Add(c.due)) || s.final() != (c.due == 0) {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}

// Whatever a receiver answers with, it is asked again within a day.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"120", " 120 ", "-1", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT", "soon", "", "1e9", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		now := time.Date(2026, 10, 21, 0, 0, 0, 0, time.UTC)
		v := judge(429, http.Header{"Retry-After": {s}}, nil)
		if w := v.wait(now); v.outcome != schemas.Retry || w < 0 || w > maxRetryAfter {
			t.Errorf("%q is %v after %v", s, v.outcome, w)
		}
	})
}
