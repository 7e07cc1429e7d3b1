package schemas

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
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

// NewAPIKey makes a key of the environment, its hash, which is all that is kept,
// and the prefix by which people recognise it.
func NewAPIKey(env string) (key Secret, hash []byte, prefix string) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	text := KeyPrefix + env + "_" + hex.EncodeToString(b[:])
	return Secret(text), HashAPIKey(text), text[:len(text)-24]
}

// HashAPIKey is what Postgres holds of a key. A plain SHA-256 is enough: a key is
// 128 random bits, not a password.
func HashAPIKey(key string) []byte {
	h := sha256.Sum256([]byte(key))
	return h[:]
}
