package schemas

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"slices"
	"strings"
)

// The scopes that an API key may carry. bookings:confirm is for keys that answer in a
// host's place: with bookings:write alone an agent asks, and its host decides. ScopeAdmin implies all others, and only a
// platform key may have it.
const (
	ScopeBookingsRead       = "bookings:read"
	ScopeBookingsWrite      = "bookings:write"
	ScopeBookingsConfirm    = "bookings:confirm"
	ScopeWebhooksManage     = "webhooks:manage"
	ScopeNotificationsWrite = "notifications:write"
	ScopeEventsRead         = "events:read"
	ScopeAdmin              = "admin"
)

// Scopes are all there are.
func Scopes() []string {
	return []string{ScopeBookingsRead, ScopeBookingsWrite, ScopeBookingsConfirm, ScopeWebhooksManage, ScopeNotificationsWrite, ScopeEventsRead, ScopeAdmin}
}

// Allows says whether a key with these scopes may do what needs the wanted one.
func Allows(scopes []string, want string) bool {
	return slices.Contains(scopes, want) || slices.Contains(scopes, ScopeAdmin)
}

// KeyPrefix begins every API key; nothing else that comes as a Bearer does.
const KeyPrefix = "krib_"

// The parts of a key after its environment. Keys made before there was a checksum
// have none, and go on working.
const (
	keyRandom   = 32 // hexadecimal digits
	keyChecksum = 6  // digits of base 62
	keyShown    = 8  // digits of the random part that the prefix shows
)

// NewAPIKey makes a key of the environment, its hash, which is all that is kept,
// and the prefix by which people recognise it. Like tokens of GitHub it ends in its
// own CRC-32 (IEEE): a key that was mistyped or cut off is refused without a query,
// and a secret scanner can verify what it finds. The checksum is public and keeps no
// forger away.
func NewAPIKey(env string) (key Secret, hash []byte, prefix string) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	text := KeyPrefix + env + "_" + hex.EncodeToString(b[:])
	prefix = text[:len(text)-keyRandom+keyShown]
	text += checksum(text)
	return Secret(text), HashAPIKey(text), prefix
}

// WellFormedAPIKey reports whether a text can be a key at all: the form is right,
// and so is the checksum where the form has one.
func WellFormedAPIKey(text string) bool {
	body, ok := strings.CutPrefix(text, KeyPrefix)
	env, tail, found := strings.Cut(body, "_")
	if !ok || !found || env == "" || len(env) > 16 || strings.Trim(env, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return false
	}
	if len(tail) != keyRandom && len(tail) != keyRandom+keyChecksum || strings.Trim(tail[:keyRandom], "0123456789abcdef") != "" {
		return false
	}
	given := tail[keyRandom:]
	return given == "" || given == checksum(text[:len(text)-keyChecksum])
}

// checksum is the CRC-32 in base 62, the most significant digit first, padded to
// its full length: 62^6 is more than 2^32.
func checksum(s string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var out [keyChecksum]byte
	sum := crc32.ChecksumIEEE([]byte(s))
	for i := range out {
		out[keyChecksum-1-i] = digits[sum%62]
		sum /= 62
	}
	return string(out[:])
}

// HashAPIKey is what Postgres holds of a key. A plain SHA-256 is enough: a key is
// 128 random bits, not a password.
func HashAPIKey(key string) []byte {
	h := sha256.Sum256([]byte(key))
	return h[:]
}
