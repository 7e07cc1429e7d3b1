package deliver

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// Tolerance is how far a delivery's timestamp may be from the receiver's clock.
const Tolerance = 5 * time.Minute

// Sign is the Standard Webhooks v1 signature of a body, as it stands in the
// webhook-signature header.
func Sign(id string, at time.Time, body, secret []byte) string {
	return "v1," + base64.StdEncoding.EncodeToString(standardMAC(id, strconv.FormatInt(at.Unix(), 10), body, secret))
}

// SignEd25519 is the Standard Webhooks v1a signature of a body, by the key pair of
// a seed of 32 bytes. Its receiver needs the public key only.
func SignEd25519(id string, at time.Time, body, seed []byte) string {
	content := slices.Concat([]byte(id), []byte{'.'}, strconv.AppendInt(nil, at.Unix(), 10), []byte{'.'}, body)
	return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(seed), content))
}

func standardMAC(id, timestamp string, body, secret []byte) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(id))
	m.Write([]byte{'.'})
	m.Write([]byte(timestamp))
	m.Write([]byte{'.'})
	m.Write(body)
	return m.Sum(nil)
}

// bodySignature is the original contract's: over the body alone.
func bodySignature(body, secret []byte) string {
	m := hmac.New(sha256.New, secret)
	m.Write(body)
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// Verify is the receiving side of Standard Webhooks: it returns nil when one of
// the v1 signatures in the header was made with secret over exactly these bytes,
// and the timestamp is within Tolerance of now. Several signatures stand in one
// header while a secret is being rotated; unknown versions are skipped.
func Verify(header http.Header, body, secret []byte, now time.Time) error {
	if len(secret) == 0 {
		return errors.New("verifying a webhook: the secret is empty")
	}
	id, timestamp := header.Get(headerID), header.Get(headerTimestamp)
	signatures := header.Get(headerSignature)
	if id == "" || timestamp == "" || signatures == "" {
		return errors.New("verifying a webhook: webhook-id, webhook-timestamp or webhook-signature is missing")
	}
	unix, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || strconv.FormatInt(unix, 10) != timestamp {
		return errors.New("verifying a webhook: webhook-timestamp is not a number of seconds")
	}
	if d := now.Unix() - unix; d > int64(Tolerance/time.Second) || d < -int64(Tolerance/time.Second) {
		return errors.New("verifying a webhook: webhook-timestamp is too far from now")
	}
	want := standardMAC(id, timestamp, body, secret)
	for s := range strings.SplitSeq(signatures, " ") {
		enc, ok := strings.CutPrefix(s, "v1,")
		if !ok {
			continue
		}
		got, err := base64.StdEncoding.DecodeString(enc)
		if err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return errors.New("verifying a webhook: no signature matches")
}
