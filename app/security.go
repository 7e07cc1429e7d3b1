package app

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// securityConfig is how the brokers are reached that KRIB_KAFKA_BROKERS names.
type securityConfig struct {
	tls                       bool
	caFile, certFile, keyFile string
	mechanism                 kafka.Mechanism
	user                      string
	password                  schemas.Secret
}

func (c *securityConfig) settings(s *settings) {
	s.addBool("KRIB_KAFKA_TLS", "false", "speak TLS to the brokers", &c.tls)
	s.add("KRIB_KAFKA_CA_FILE", "", "a PEM file of who signs the brokers' certificates; without it, those that this machine trusts", text(&c.caFile))
	s.add("KRIB_KAFKA_CERT_FILE", "", "a PEM file of the certificate to show to the brokers, with KRIB_KAFKA_KEY_FILE", text(&c.certFile))
	s.add("KRIB_KAFKA_KEY_FILE", "", "the PEM file of its key", text(&c.keyFile))
	s.add("KRIB_KAFKA_SASL", "", "how to sign in to the brokers: plain, scram-sha-256 or scram-sha-512", func(v string) error {
		c.mechanism = kafka.Mechanism(strings.ToLower(v))
		if v != "" && !slices.Contains(kafka.Mechanisms(), c.mechanism) {
			return fmt.Errorf("%q must be plain, scram-sha-256 or scram-sha-512", v)
		}
		return nil
	})
	s.add("KRIB_KAFKA_USER", "", "as whom", text(&c.user))
	s.addSecret("KRIB_KAFKA_PASSWORD", "with which password", func(v string) error {
		c.password = schemas.Secret(v)
		return nil
	})
}

// kafka is how to reach the cluster. It reads the files of certificates.
func (c *config) kafka(log *slog.Logger) (kafka.Config, error) {
	security, err := c.security.read()
	return kafka.Config{Brokers: c.brokers, Security: security, Compression: c.compression, Logger: log}, err
}

func (c *securityConfig) read() (kafka.Security, error) {
	out := kafka.Security{Mechanism: c.mechanism, User: c.user, Password: c.password}
	if err := c.check(); err != nil || !c.tls {
		return out, err
	}
	out.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return out, fmt.Errorf("KRIB_KAFKA_CA_FILE: %w", err)
		}
		out.TLS.RootCAs = x509.NewCertPool()
		if !out.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return out, fmt.Errorf("KRIB_KAFKA_CA_FILE: %s holds no certificate in PEM", c.caFile)
		}
	}
	if c.certFile != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return out, fmt.Errorf("KRIB_KAFKA_CERT_FILE and KRIB_KAFKA_KEY_FILE: %w", err)
		}
		// At each connection, for certificates that live for a day are renewed in place.
		out.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return out, nil
}

// check finds what no single setting can know.
func (c *securityConfig) check() error {
	var wrong error
	switch {
	case c.mechanism != kafka.NoSASL && (c.user == "" || c.password == ""):
		wrong = errors.New("KRIB_KAFKA_USER and KRIB_KAFKA_PASSWORD must be set with KRIB_KAFKA_SASL")
	case c.mechanism == kafka.NoSASL && (c.user != "" || c.password != ""):
		wrong = errors.New("KRIB_KAFKA_SASL must say how to use KRIB_KAFKA_USER and KRIB_KAFKA_PASSWORD")
	case (c.certFile == "") != (c.keyFile == ""):
		wrong = errors.New("KRIB_KAFKA_CERT_FILE and KRIB_KAFKA_KEY_FILE must be set together")
	case !c.tls && (c.caFile != "" || c.certFile != ""):
		wrong = errors.New("KRIB_KAFKA_TLS must be true for KRIB_KAFKA_CA_FILE and KRIB_KAFKA_CERT_FILE")
	}
	if wrong != nil {
		return fmt.Errorf("%w (%w)", wrong, errUsage)
	}
	return nil
}
