package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// maxRetryAfter bounds what a receiver may ask for.
const maxRetryAfter = 24 * time.Hour

var (
	errOurs   = errors.New("our own fault")
	errBadURL = errors.New("the URL cannot be called")
)

// A verdict is what an answer means. Class ErrorOurs with outcome Retry means
// that the endpoint is not charged.
type verdict struct {
	outcome schemas.Outcome
	class   schemas.ErrorClass
	// after and until are Retry-After in its two forms; one at most is set.
	after time.Duration
	until time.Time
	// shut closes the whole lane for as long as Retry-After says.
	shut bool
}

// wait is how long Retry-After asks to wait, from now.
func (v verdict) wait(now time.Time) time.Duration {
	d := v.after
	if !v.until.IsZero() {
		d = v.until.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// judge decides from an answer alone: 2xx is delivered, 410 and the header
// "webhook-delivery: disable" end the subscription, what only a person can mend
// is dead, everything else may heal by itself. The status line decides: a body that
// broke off or did not end changes nothing, for the receiver has said what it did
// with the event.
func judge(status int, header http.Header, err error) verdict {
	ok := status >= 200 && status < 300
	if err != nil && status == 0 {
		c := classOf(err)
		if c == schemas.ErrorRefused || c == schemas.ErrorBadURL {
			return verdict{outcome: schemas.Dead, class: c}
		}
		return verdict{outcome: schemas.Retry, class: c}
	}
	switch {
	case status == http.StatusGone, strings.EqualFold(strings.TrimSpace(header.Get("Webhook-Delivery")), "disable"):
		v := verdict{outcome: schemas.Gone, class: schemas.ErrorStatus}
		if ok {
			v.class = schemas.ErrorNone
		}
		return v
	case ok:
		return verdict{outcome: schemas.Delivered}
	}
	v := verdict{outcome: schemas.Retry, class: schemas.ErrorStatus}
	v.after, v.until = retryAfter(header.Get("Retry-After"))
	asked := v.after > 0 || !v.until.IsZero()
	v.shut = asked && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable)
	return v
}

// retryAfter reads seconds or an HTTP date; what is neither asks for nothing.
func retryAfter(s string) (time.Duration, time.Time) {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseUint(s, 10, 63); err == nil {
		return min(time.Duration(min(n, uint64(maxRetryAfter/time.Second)))*time.Second, maxRetryAfter), time.Time{}
	}
	if t, err := http.ParseTime(s); err == nil {
		return 0, t
	}
	return 0, time.Time{}
}

// classOf sorts an error of a request. Ours comes before theirs wherever the
// same kind of error can be both.
func classOf(err error) schemas.ErrorClass {
	var (
		refused *refusedError
		name    *net.DNSError
		timeout net.Error
		errno   syscall.Errno
	)
	switch {
	case errors.As(err, &refused):
		return schemas.ErrorRefused
	case errors.Is(err, errBadURL):
		return schemas.ErrorBadURL
	case errors.Is(err, errOurs), outOfMeans(err):
		return schemas.ErrorOurs
	case errors.As(err, &name):
		return schemas.ErrorDNS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return schemas.ErrorTimeout
	case isTLS(err):
		return schemas.ErrorTLS
	case errors.As(err, &errno):
		return schemas.ErrorConnect
	}
	return schemas.ErrorProtocol
}

// outOfMeans are the errors of a process that has no more sockets or ports.
func outOfMeans(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func isTLS(err error) bool {
	var (
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	return errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) ||
		errors.Is(err, http.ErrSchemeMismatch) || strings.Contains(err.Error(), "tls: ")
}
