// Package seal keeps secrets at rest: AES-256-GCM under a ring of keys. What a
// sealed value belongs to (the subscription's id and the field) is bound to it
// as associated data, so a value copied to another row does not open there.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// A Ring opens with any of its keys and seals with the first. It is immutable
// and safe for concurrent use.
type Ring struct {
	keys []key
}

type key struct {
	id   string
	aead cipher.AEAD
}

// version begins every sealed value, so that the form can change.
const version = 1

// ErrUnopened means that no key of the ring opens the value: a key is missing,
// or the value is not what it claims to belong to. It is never the receiver's
// fault.
var ErrUnopened = errors.New("no key of the ring opens the sealed value")

// ParseRing reads "id:base64,id:base64": keys of 32 bytes, the one that seals
// first. To rotate, put a new key in front and keep the old ones.
func ParseRing(s string) (*Ring, error) {
	r := &Ring{}
	for part := range strings.SplitSeq(s, ",") {
		id, enc, ok := strings.Cut(strings.TrimSpace(part), ":")
		raw, err := base64.StdEncoding.DecodeString(enc)
		if !ok || id == "" || len(id) > 32 || err != nil || len(raw) != 32 {
			return nil, errors.New("reading the key ring: each key must be id:base64 of 32 bytes")
		}
		if err := r.add(id, raw); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// DeriveRing makes a ring of one key from a secret text of any length, for
// installations that have only one secret.
func DeriveRing(secret string) (*Ring, error) {
	if len(secret) < 16 {
		return nil, errors.New("reading the key ring: the secret must have at least 16 characters")
	}
	h := sha256.Sum256([]byte("krib master key\x00" + secret))
	r := &Ring{}
	return r, r.add("derived", h[:])
}

func (r *Ring) add(id string, raw []byte) error {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return fmt.Errorf("making the cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return fmt.Errorf("making the cipher: %w", err)
	}
	r.keys = append(r.keys, key{id, aead})
	return nil
}

// Seal encrypts plain for what owner and field name. The result holds a version,
// the key's id, a random nonce and the text.
func (r *Ring) Seal(plain []byte, owner, field string) []byte {
	k := r.keys[0]
	out := append([]byte{version, byte(len(k.id))}, k.id...)
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails since Go 1.24
	out = append(out, nonce...)
	return k.aead.Seal(out, nonce, plain, associated(owner, field))
}

// Open decrypts what Seal made for the same owner and field; any other error
// than a malformed value is ErrUnopened.
func (r *Ring) Open(sealed []byte, owner, field string) ([]byte, error) {
	if len(sealed) < 2 || sealed[0] != version || len(sealed) < 2+int(sealed[1]) {
		return nil, fmt.Errorf("opening %s of %s: %w", field, owner, ErrUnopened)
	}
	id, rest := string(sealed[2:2+int(sealed[1])]), sealed[2+int(sealed[1]):]
	for _, k := range r.keys {
		if n := k.aead.NonceSize(); k.id == id && len(rest) >= n {
			if plain, err := k.aead.Open(nil, rest[:n], rest[n:], associated(owner, field)); err == nil {
				return plain, nil
			}
		}
	}
	return nil, fmt.Errorf("opening %s of %s: %w", field, owner, ErrUnopened)
}

func associated(owner, field string) []byte {
	return []byte(owner + "\x00" + field)
}

// The fields that are sealed, as associated data names them.
const (
	FieldAPIKey        = "api_key"
	FieldSigningSecret = "signing_secret"
	FieldResponse      = "idempotent_response"
	FieldHeaders       = "headers"
)
