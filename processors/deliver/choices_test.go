package deliver_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/schemas"
)

func limited(perMinute int) func(*schemas.Subscription) {
	return func(s *schemas.Subscription) { s.RateLimit = perMinute }
}

func TestARateLimitHoldsInAnyWindowAndDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	const perMinute, burst, flood = 900, 16, 120
	w := newWorld(t, 1, 200*ms, time.Second, 5*time.Second)
	slow, quick := testenv.Receiver(t, nil), testenv.Receiver(t, nil)
	w.subscribe("sub_slow", slow.URL(), limited(perMinute))
	w.subscribe("sub_quick", quick.URL())
	w.work()
	w.move()
	var ds []schemas.Delivery
	for i := range flood {
		ds = append(ds, delivery("sub_slow", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
	}
	for i := range 30 {
		ds = append(ds, delivery("sub_quick", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
	}
	w.deliver(ds...)
	for range 30 {
		quick.Next(t)
	}
	if n := slow.Count(); n >= flood {
		t.Errorf("the limited endpoint had %d of %d before the other had its own", n, flood)
	}
	for _, a := range w.attempts(flood + 30) {
		if a.Number != 1 || a.Outcome != schemas.Delivered {
			t.Errorf("%+v", a)
		}
	}
	w.settled(deliver.Group, retry.Group)
	checkWindows(t, slow.All(), perMinute, burst)
	parked := 0
	for _, tier := range w.ladder.Tiers() {
		parked += w.count(schemas.TierTopic(tier))
	}
	if parked == 0 || parked > 20*flood {
		t.Errorf("%d were parked", parked)
	}
}

// checkWindows counts the requests in every window. A request may arrive a little
// later than it was made, and the next one not.
func checkWindows(t *testing.T, all []testenv.Request, perMinute, burst int) {
	t.Helper()
	const late = time.Second
	for i := range all {
		for j := i; j < len(all); j++ {
			window := all[j].At.Sub(all[i].At) + late
			if most := burst + int(window.Minutes()*float64(perMinute)) + 1; j-i+1 > most {
				t.Fatalf("%d requests in %v, at most %d may be", j-i+1, window, most)
			}
		}
	}
}

func TestAChangedRateLimitTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 300*ms, time.Second)
	to := testenv.Receiver(t, nil)
	w.subscribe("sub_1", to.URL(), limited(1))
	w.work()
	w.move()
	for i := range 20 {
		w.deliver(delivery("sub_1", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
	}
	read[schemas.Delivery](w, schemas.TierTopic(time.Second), 19)
	if n := to.Count(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	w.subscribe("sub_1", to.URL(), limited(0))
	w.attempts(20)
	w.settled(deliver.Group, retry.Group)
	if n := to.Count(); n != 20 {
		t.Errorf("%d requests, want 20", n)
	}
}

func headers(w *world, id, object string) func(*schemas.Subscription) {
	return func(s *schemas.Subscription) { s.SealedHeaders = w.ring.Seal([]byte(object), id, seal.FieldHeaders) }
}

func TestOwnHeadersAreSentAndOverrideNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	to := testenv.Receiver(t, nil)
	w.subscribe("sub_1", to.URL(), headers(w, "sub_1", `{"X-Token":"t0p","authorization":"Basic eA==","webhook-id":"evil","X-Webhook-Extra":"evil",
		"Host":"evil.example","Content-Length":"1","Connection":"close","User-Agent":"evil","Content-Type":"text/plain"}`))
	w.subscribe("sub_2", to.URL(), headers(w, "sub_2", `{"Authorization":"Basic eA=="}`), func(s *schemas.Subscription) { s.SealedAPIKey = nil })
	w.work()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	r := to.Next(t)
	for name, want := range map[string]string{
		"X-Token": "t0p", "Authorization": "Bearer key of sub_1", "webhook-id": "evt_bkg_1_1", "X-Webhook-Extra": "", "Connection": "",
		"User-Agent": "Krib-AI-Webhook/1.0", "Content-Type": "application/json",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if err := deliver.Verify(r.Header, r.Body, secret, time.Now()); err != nil {
		t.Error(err)
	}
	w.deliver(delivery("sub_2", "bkg_1", 1))
	if got := to.Next(t).Header.Get("Authorization"); got != "Basic eA==" {
		t.Errorf("without an API key Authorization is %q", got)
	}
}

func TestHeadersThatCannotBeOpenedAreOurOwnFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Minute)
	to := testenv.Receiver(t, nil)
	w.subscribe("sub_1", to.URL(), headers(w, "another", `{"X-Token":"t0p"}`))
	w.subscribe("sub_2", to.URL(), headers(w, "sub_2", `["X-Token"]`))
	w.subscribe("sub_3", to.URL(), headers(w, "sub_3", `{"X-Token":"a\r\nX-Evil: b"}`))
	w.work()
	w.deliver(delivery("sub_1", "bkg_1", 1), delivery("sub_2", "bkg_1", 1), delivery("sub_3", "bkg_1", 1))
	for _, d := range read[schemas.Delivery](w, schemas.TierTopic(time.Minute), 3) {
		if d.Attempt != 0 || d.Hop != 1 {
			t.Errorf("parked as %+v", d)
		}
	}
	w.settled(deliver.Group)
	if to.Count() != 0 || w.count(string(schemas.Attempts)) != 0 {
		t.Error("it was sent or charged")
	}
}

const (
	vectorSeed    = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	vectorPublic  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	vectorSigned2 = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
)

func keyPair(t *testing.T) (seed []byte, public ed25519.PublicKey) {
	t.Helper()
	pair, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(vectorSeed, "whsk_"))
	if err != nil {
		t.Fatal(err)
	}
	if public, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(vectorPublic, "whpk_")); err != nil {
		t.Fatal(err)
	}
	return pair[:ed25519.SeedSize], public
}

func TestSignEd25519MakesTheSharedVector(t *testing.T) {
	t.Parallel()
	seed, _ := keyPair(t)
	if got := deliver.SignEd25519(vectorID, time.Unix(vectorUnix, 0), []byte(vectorBody), seed); got != vectorSigned2 {
		t.Errorf("got %s, want %s", got, vectorSigned2)
	}
}

func TestBothAlgorithmsSignInOneHeader(t *testing.T) {
	t.Parallel()
	seed, public := keyPair(t)
	w := newWorld(t, 1)
	to := testenv.Receiver(t, nil)
	asymmetric := func(s *schemas.Subscription) {
		s.Secrets = append(s.Secrets, schemas.SealedSecret{
			Sealed: w.ring.Seal(seed, string(s.ID), seal.FieldSigningSecret), CreatedAt: s.CreatedAt.Add(time.Second), Algorithm: schemas.SignEd25519, PublicKey: vectorPublic,
		})
	}
	w.subscribe("sub_both", to.URL(), asymmetric)
	w.subscribe("sub_one", to.URL(), asymmetric, func(s *schemas.Subscription) { s.Secrets = s.Secrets[1:] })
	w.subscribe("sub_short", to.URL(), func(s *schemas.Subscription) {
		s.Secrets[0].Algorithm, s.Secrets[0].Sealed = schemas.SignEd25519, w.ring.Seal(seed[:31], "sub_short", seal.FieldSigningSecret)
	})
	w.work()
	w.deliver(delivery("sub_both", "bkg_1", 1))
	both := to.Next(t)
	signatures := strings.Fields(both.Header.Get("webhook-signature"))
	if len(signatures) != 2 || !strings.HasPrefix(signatures[0], "v1a,") || !strings.HasPrefix(signatures[1], "v1,") {
		t.Fatalf("signatures: %v", signatures)
	}
	if err := deliver.Verify(both.Header, both.Body, secret, time.Now()); err != nil {
		t.Error(err)
	}
	checkEd25519(t, both, signatures[0], public)
	if s := both.Header.Get("X-Webhook-Signature"); !strings.HasPrefix(s, "sha256=") {
		t.Errorf("X-Webhook-Signature is %q", s)
	}
	w.deliver(delivery("sub_one", "bkg_1", 1))
	one := to.Next(t)
	checkEd25519(t, one, one.Header.Get("webhook-signature"), public)
	if s, ok := one.Header[http.CanonicalHeaderKey("X-Webhook-Signature")]; ok {
		t.Errorf("without an HMAC secret X-Webhook-Signature is %q", s)
	}
	w.deliver(delivery("sub_short", "bkg_1", 1))
	for _, a := range w.attempts(3) {
		if a.SubscriptionID == "sub_short" && a.ErrorClass != schemas.ErrorOurs {
			t.Errorf("a seed that is none: %+v", a)
		}
	}
}

func checkEd25519(t *testing.T, r testenv.Request, signature string, public ed25519.PublicKey) {
	t.Helper()
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "v1a,"))
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Join([][]byte{[]byte(r.Header.Get("webhook-id")), []byte(r.Header.Get("webhook-timestamp")), r.Body}, []byte("."))
	if !ed25519.Verify(public, content, sum) {
		t.Error("the v1a signature does not verify")
	}
}

// Rows from before the grammar of URLs hold them in other forms.
func TestAURLStoredInAFormerFormIsSentAsARequestTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	to := testenv.Receiver(t, nil)
	for id, c := range map[schemas.SubscriptionID][2]string{
		"sub_1": {"/hook?name=a b", "/hook?name=a%20b"}, "sub_2": {"?q=k\u00f6ln|{1}", "/?q=k%C3%B6ln%7C%7B1%7D"},
		"sub_3": {"/a/../b?share=100%", "/b?share=100%"}, "sub_4": {"/%C3%A9 x/?y=%zz&z=<\u6771>", "/%C3%A9%20x/?y=%zz&z=%3C%E6%9D%B1%3E"},
	} {
		w.subscribe(id, to.URL()+c[0])
		w.deliver(delivery(id, "bkg_"+schemas.BookingID(id), 1))
		stop := w.work()
		if got := to.Next(t).Target; got != c[1] {
			t.Errorf("%q was sent as %q, want %q", c[0], got, c[1])
		}
		stop()
	}
}
