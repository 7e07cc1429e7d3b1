package schemas

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// A Secret is a string that no verb, logger or error can print. Only the codec
// and the signer call Reveal, which makes every use of it easy to find.
type Secret string

// Format hides the value from every verb of package fmt.
func (Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "[secret]") }

// LogValue hides the value from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Reveal is the value itself.
func (s Secret) Reveal() string { return string(s) }

// SigningPrefix begins a signing secret of the Standard Webhooks form.
const SigningPrefix = "whsec_"

// ParseSigningSecret returns the bytes that both HMACs use: standard base64 with
// padding of 24 to 64 bytes after the prefix (the bounds of the Standard
// Webhooks specification).
func ParseSigningSecret(s Secret) ([]byte, error) {
	enc, ok := strings.CutPrefix(s.Reveal(), SigningPrefix)
	if !ok {
		return nil, errors.New("must begin with " + SigningPrefix)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(enc)
	// The decoder skips line breaks; a secret that was broken in two is not one.
	if err != nil || strings.ContainsAny(enc, "\r\n") {
		return nil, errors.New("must be standard base64 with padding after " + SigningPrefix)
	}
	if len(b) < 24 || len(b) > 64 {
		return nil, errors.New("must hold 24 to 64 bytes")
	}
	return b, nil
}

// NewSigningSecret makes 32 random bytes and their text.
func NewSigningSecret() ([]byte, Secret) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return b, Secret(SigningPrefix + base64.StdEncoding.EncodeToString(b))
}

// The prefixes of an ed25519 key pair, as Standard Webhooks has them.
const (
	PrivateKeyPrefix = "whsk_"
	PublicKeyPrefix  = "whpk_"
)

// NewSigningKey makes an ed25519 key pair: its seed of 32 bytes, which is sealed
// and never shown, and the text of its public key.
func NewSigningKey() (seed []byte, public string) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // never, since Go 1.24
	}
	return key.Seed(), PublicKeyPrefix + base64.StdEncoding.EncodeToString(pub)
}
