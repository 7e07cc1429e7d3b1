package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/krib-ai/krib/schemas"
)

// The sentences that an attempt's error can be. Subscribers read them, so the set is
// closed: texts of Go and of the operating system name our resolver, our addresses,
// the address that a name led to, and system calls. Those are in the log, at the level
// debug. docs/WEBHOOKS.md lists them.
const (
	sayNoHost      = "the host name does not exist"
	sayNameLate    = "looking up the host name got no answer in time"
	sayNameFailed  = "looking up the host name failed"
	sayRefused     = "the address is not public"
	sayBadURL      = "the URL cannot be called"
	sayOurs        = "the delivery could not be made for a reason on our side"
	sayConnectLate = "no connection could be made in time"
	sayTLSLate     = "the TLS handshake did not end in time"
	sayLate        = "no response came in time"
	sayConnRefused = "the connection was refused"
	sayConnReset   = "the connection was reset"
	sayUnreachable = "the address could not be reached"
	sayConnFailed  = "the connection failed"
	sayAuthority   = "the certificate is not signed by an authority that is trusted"
	sayOtherName   = "the certificate is for another host name"
	sayExpired     = "the certificate has expired, or is not valid yet"
	sayCertificate = "the certificate is not valid"
	sayNoTLS       = "the port does not speak TLS"
	sayTLS         = "the TLS handshake failed"
	sayClosed      = "the connection was closed before a response came"
	sayHeaders     = "the response's headers are too large"
	sayNotHTTP     = "what came is not an HTTP response"
	sayTornBody    = "the response's body broke off; its status counts"
	sayEndlessBody = "the response's body did not end in time; its status counts"
)

// describe is an error as one of the sentences.
func describe(err error) string {
	switch {
	case errors.Is(err, errTornBody):
		return sayTornBody
	case errors.Is(err, errEndlessBody):
		return sayEndlessBody
	}
	switch classOf(err) {
	case schemas.ErrorRefused:
		return sayRefused
	case schemas.ErrorBadURL:
		return sayBadURL
	case schemas.ErrorOurs:
		return sayOurs
	case schemas.ErrorDNS:
		return describeName(err)
	case schemas.ErrorTimeout:
		return describeTimeout(err)
	case schemas.ErrorTLS:
		return describeTLS(err)
	case schemas.ErrorConnect:
		return describeConnection(err)
	default:
		return describeProtocol(err)
	}
}

func describeName(err error) string {
	name, _ := errors.AsType[*net.DNSError](err)
	switch {
	case name != nil && name.IsNotFound:
		return sayNoHost
	case name != nil && name.IsTimeout:
		return sayNameLate
	}
	return sayNameFailed
}

// describeTimeout goes by the phase. The TLS handshake's own timeout has no type.
func describeTimeout(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return sayConnectLate
	}
	if strings.Contains(err.Error(), "TLS handshake timeout") {
		return sayTLSLate
	}
	return sayLate
}

func describeTLS(err error) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		verify    *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return sayExpired
	case errors.As(err, &invalid):
		return sayCertificate
	case errors.As(err, &authority):
		return sayAuthority
	case errors.As(err, &host):
		return sayOtherName
	case errors.As(err, &verify):
		return sayCertificate
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return sayNoTLS
	}
	return sayTLS
}

func describeConnection(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return sayConnRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return sayConnReset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN), errors.Is(err, syscall.ENETDOWN):
		return sayUnreachable
	}
	return sayConnFailed
}

// describeProtocol looks at texts where net/http has no types.
func describeProtocol(err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled),
		strings.Contains(text, "server closed"), strings.Contains(text, "connection lost"), strings.Contains(text, "GOAWAY"), strings.Contains(text, "stream error"):
		return sayClosed
	case strings.Contains(text, "headers exceeded"), strings.Contains(text, "header list"):
		return sayHeaders
	}
	return sayNotHTTP
}
