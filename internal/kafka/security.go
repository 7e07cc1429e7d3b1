package kafka

import (
	"crypto/tls"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/krib-ai/krib/schemas"
)

// A Mechanism is how a client proves to a broker who it is.
type Mechanism string

// The mechanisms of SASL that are spoken.
const (
	NoSASL      Mechanism = ""
	Plain       Mechanism = "plain" // the password crosses the connection as it is: use TLS
	ScramSHA256 Mechanism = "scram-sha-256"
	ScramSHA512 Mechanism = "scram-sha-512"
)

// Mechanisms are those that can be asked for.
func Mechanisms() []Mechanism { return []Mechanism{Plain, ScramSHA256, ScramSHA512} }

// Security is how a client and the brokers trust each other. The zero value is a
// plain connection without a name.
type Security struct {
	TLS       *tls.Config // nil for none
	Mechanism Mechanism
	User      string
	Password  schemas.Secret
}

func (s Security) options() []kgo.Opt {
	var opts []kgo.Opt
	if s.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(s.TLS))
	}
	if s.Mechanism != NoSASL {
		opts = append(opts, kgo.SASL(s.mechanism()))
	}
	return opts
}

func (s Security) mechanism() sasl.Mechanism {
	user, password := s.User, s.Password.Reveal()
	switch s.Mechanism {
	case Plain:
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	case ScramSHA256:
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	case ScramSHA512:
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	case NoSASL:
	}
	panic(fmt.Sprintf("kafka: there is no mechanism %q", s.Mechanism))
}
