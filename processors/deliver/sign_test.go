package deliver_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/schemas"
)

// The vector that the Standard Webhooks libraries share.
const (
	vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody   = `{"test": 2432232314}`
	vectorUnix   = 1614265330
	vectorSigned = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func ExampleVerify() {
	// The headers and the body of a request, as they came.
	header := http.Header{}
	header.Set("webhook-id", vectorID)
	header.Set("webhook-timestamp", "1614265330")
	header.Set("webhook-signature", vectorSigned)
	body := []byte(vectorBody)

	secret, err := schemas.ParseSigningSecret(vectorSecret)
	if err != nil {
		panic(err)
	}
	fmt.Println(deliver.Verify(header, body, secret, time.Unix(1614265400, 0)))              //nolint:forbidigo // examples print
	fmt.Println(deliver.Verify(header, append(body, ' '), secret, time.Unix(1614265400, 0))) //nolint:forbidigo // examples print
	// Output:
	// <nil>
	// verifying a webhook: no signature matches
}

func TestSignMakesTheSharedVector(t *testing.T) {
	t.Parallel()
	key, err := schemas.ParseSigningSecret(vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	if got := deliver.Sign(vectorID, time.Unix(vectorUnix, 0), []byte(vectorBody), key); got != vectorSigned {
		t.Errorf("got %s, want %s", got, vectorSigned)
	}
}

func TestVerifyTakesOnlyWhatWasSigned(t *testing.T) {
	t.Parallel()
	key, err := schemas.ParseSigningSecret(vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(vectorUnix, 0)
	wrong := "v1," + base64.StdEncoding.EncodeToString(make([]byte, 32))
	right := strings.TrimPrefix(vectorSigned, "v1,")
	for _, c := range []struct {
		name, id, at, signature string
		now                     time.Time
		ok                      bool
	}{
		{"as signed", vectorID, "1614265330", vectorSigned, now, true},
		{"among others", vectorID, "1614265330", wrong + " v2," + right + " " + vectorSigned + " " + wrong, now, true},
		{"at the edge", vectorID, "1614265330", vectorSigned, now.Add(5 * time.Minute), true},
		{"too old", vectorID, "1614265330", vectorSigned, now.Add(5*time.Minute + time.Second), false},
		{"from the future", vectorID, "1614265330", vectorSigned, now.Add(-5*time.Minute - time.Second), false},
		{"another time", vectorID, "1614265331", vectorSigned, now, false},
		{"another id", vectorID + "x", "1614265330", vectorSigned, now, false},
		{"no id", "", "1614265330", vectorSigned, now, false},
		{"no time", vectorID, "", vectorSigned, now, false},
		{"no signature", vectorID, "1614265330", "", now, false},
		{"no number", vectorID, "hello", vectorSigned, now, false},
		{"a padded number", vectorID, "01614265330", vectorSigned, now, false},
		{"empty", vectorID, "1614265330", "v1,", now, false},
		{"cut", vectorID, "1614265330", vectorSigned[:20], now, false},
		{"an unknown version", vectorID, "1614265330", "v2," + right, now, false},
		{"wrong ones", vectorID, "1614265330", wrong + " " + wrong, now, false},
	} {
		h := http.Header{}
		for k, v := range map[string]string{"Webhook-Id": c.id, "WEBHOOK-TIMESTAMP": c.at, "webhook-signature": c.signature} {
			if v != "" {
				h.Set(k, v)
			}
		}
		if err := deliver.Verify(h, []byte(vectorBody), key, c.now); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := deliver.Verify(http.Header{}, nil, nil, now); err == nil {
		t.Error("an empty secret was accepted")
	}
}

func TestASigningSecretOfAnotherFormIsRefused(t *testing.T) {
	t.Parallel()
	enc := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for _, s := range []string{
		"", "whsec_", enc(23), enc(65), strings.TrimPrefix(enc(32), "whsec_"), strings.TrimRight(enc(32), "="),
		enc(32) + "\n", "whsk_" + strings.TrimPrefix(enc(32), "whsec_"),
		"whsec_" + base64.RawURLEncoding.EncodeToString([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
	} {
		if _, err := schemas.ParseSigningSecret(schemas.Secret(s)); err == nil {
			t.Errorf("accepted %q", s)
		}
	}
	for _, n := range []int{24, 32, 64} {
		if b, err := schemas.ParseSigningSecret(schemas.Secret(enc(n))); err != nil || len(b) != n {
			t.Errorf("%d bytes: %d, %v", n, len(b), err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(vectorID, "1614265330", vectorSigned, []byte(vectorBody))
	f.Add("", "-1", "v1, v1,== ", []byte(nil))
	key := []byte(strings.Repeat("k", 32))
	f.Fuzz(func(t *testing.T, id, at, signature string, body []byte) {
		now := time.Unix(vectorUnix, 0)
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {signature}}
		want := strings.Contains(" "+signature+" ", " "+deliver.Sign(id, now, body, key)+" ")
		if deliver.Verify(h, body, key, now) == nil && at == "1614265330" && id != "" && !want {
			// Base64 has several spellings of the same bytes (line breaks); the bytes decide.
			if !strings.ContainsAny(signature, "\r\n") {
				t.Errorf("accepted %q for %q", signature, id)
			}
		}
	})
}
