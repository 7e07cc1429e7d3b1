package app_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/krib-ai/krib/app"
)

// A guarded is a broker that speaks TLS only, wants a certificate and a password, and
// the settings that get in.
type guarded map[string]string

const brokerPassword = "open sesame"

func newGuarded(t *testing.T, mechanism string) guarded {
	t.Helper()
	cert, certPEM, keyPEM := certificate(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	c, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(strings.ToUpper(mechanism), "krib", brokerPassword),
		kfake.TLS(&tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return guarded{
		"KRIB_KAFKA_BROKERS": strings.Join(c.ListenAddrs(), ","), "KRIB_KAFKA_TLS": "true", "KRIB_KAFKA_CA_FILE": certFile,
		"KRIB_KAFKA_CERT_FILE": certFile, "KRIB_KAFKA_KEY_FILE": keyFile,
		"KRIB_KAFKA_SASL": mechanism, "KRIB_KAFKA_USER": "krib", "KRIB_KAFKA_PASSWORD": brokerPassword,
	}
}

// certificate is one of 127.0.0.1's that signs itself, for servers and clients.
func certificate(t *testing.T) (pair tls.Certificate, certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return pair, certPEM, keyPEM
}

// with is a copy in which a setting is another, or none.
func (g guarded) with(name, value string) guarded {
	out := maps.Clone(g)
	out[name] = value
	return out
}

func (g guarded) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = app.Run(t.Context(), args, func(name string) (string, bool) { v, ok := g[name]; return v, ok }, &out, &errs)
	if strings.Contains(out.String()+errs.String(), brokerPassword) {
		t.Errorf("%v told the password:\n%s%s", args, &out, &errs)
	}
	return code, out.String(), errs.String()
}

func TestBrokersThatWantTLSAndAPasswordAreReached(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		g := newGuarded(t, mechanism)
		if code, out, errs := g.run(t, "topics", "apply"); code != 0 {
			t.Errorf("%s: apply ended with %d: %s%s", mechanism, code, out, errs)
		}
		if code, _, errs := g.run(t, "tail", "--topic", "booking.events", "--since", "1h"); code != 0 {
			t.Errorf("%s: tail ended with %d: %s", mechanism, code, errs)
		}
		code, _, errs := g.with("KRIB_KAFKA_PASSWORD", "let me in").run(t, "tail", "--topic", "booking.events", "--since", "1h")
		if code != 1 || !strings.Contains(errs, "KRIB_KAFKA_SASL") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: a wrong password ended with %d: %s", mechanism, code, errs)
		}
	}
}

// What is wrong is said before anything is connected to, in one line that names the
// setting.
func TestSettingsOfTheBrokersSecurityAreChecked(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "plain")
	for _, c := range []struct{ name, value, says string }{
		{"KRIB_KAFKA_COMPRESSION", "brotli", "KRIB_KAFKA_COMPRESSION: \"brotli\" must be none, gzip, snappy, lz4 or zstd"},
		{"KRIB_KAFKA_COMPRESSION", "GZIP", "KRIB_KAFKA_COMPRESSION: \"GZIP\" must be"},
		{"KRIB_KAFKA_COMPRESSION", "gzip,none", "KRIB_KAFKA_COMPRESSION: \"gzip,none\" must be"},
		{"KRIB_KAFKA_COMPRESSION", "2", "KRIB_KAFKA_COMPRESSION: \"2\" must be"},
		{"KRIB_KAFKA_SASL", "gssapi", "KRIB_KAFKA_SASL: \"gssapi\" must be plain, scram-sha-256 or scram-sha-512"},
		{"KRIB_KAFKA_SASL", "", "KRIB_KAFKA_SASL must say how"},
		{"KRIB_KAFKA_USER", "", "KRIB_KAFKA_USER and KRIB_KAFKA_PASSWORD must be set"},
		{"KRIB_KAFKA_TLS", "yes", "KRIB_KAFKA_TLS: \"yes\" must be true or false"},
		{"KRIB_KAFKA_TLS", "false", "KRIB_KAFKA_TLS must be true for"},
		{"KRIB_KAFKA_KEY_FILE", "", "KRIB_KAFKA_CERT_FILE and KRIB_KAFKA_KEY_FILE must be set together"},
		{"KRIB_KAFKA_CA_FILE", g["KRIB_KAFKA_KEY_FILE"], "KRIB_KAFKA_CA_FILE: "},
		{"KRIB_KAFKA_CA_FILE", filepath.Join(t.TempDir(), "none.pem"), "KRIB_KAFKA_CA_FILE: "},
		{"KRIB_KAFKA_KEY_FILE", g["KRIB_KAFKA_CERT_FILE"], "KRIB_KAFKA_CERT_FILE and KRIB_KAFKA_KEY_FILE: "},
	} {
		code, _, errs := g.with(c.name, c.value).run(t, "topics", "diff")
		if code == 0 || !strings.Contains(errs, c.says) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s=%q ended with %d: %s", c.name, c.value, code, errs)
		}
	}
}
