package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/schemas"
)

// record is the last state of a subscription that was written for its topic.
func (w *world) record(id string) schemas.Subscription {
	w.t.Helper()
	var raw []byte
	err := w.sql.QueryRow(w.t.Context(), `select value from outbox where topic = 'webhook.subscriptions' and key = $1 order by id desc limit 1`, id).Scan(&raw)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := schemas.Decode[schemas.Subscription](raw)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// opened is a sealed value of a subscription as deliver will see it.
func opened(t *testing.T, sealed []byte, id, field string) string {
	t.Helper()
	ring, err := seal.DeriveRing("a master secret of the tests")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ring.Open(sealed, id, field)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func choices() map[string]any {
	return with(hook("https://agent.example/in"), "description", "Dubai only", "filter", "booking.property.city == 'Dubai'", "ordering", "booking",
		"rate_limit_per_minute", 600, "max_failed_attempts", 9, "headers", map[string]any{"x-tenant": "blue", "X-Token": "s3cret"},
		"signatures", []string{"v1", "v1a"})
}

func TestASubscriptionKeepsItsOwnersChoices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	r := a.do("POST", hooksPath, choices()).want(200).is("data.description", "Dubai only", "data.filter", "booking.property.city == 'Dubai'",
		"data.ordering", "booking", "data.rate_limit_per_minute", 600, "data.max_failed_attempts", 9, "data.header_names", "[X-Tenant X-Token]",
		"data.signatures", "[v1 v1a]", "data.failing_since", nil, "data.secrets.0.signature", "v1", "data.secrets.0.expires_at", nil,
		"data.secrets.1.signature", "v1a")
	id := r.text("data.id")
	if !strings.HasPrefix(r.text("data.secrets.1.public_key"), "whpk_") {
		t.Errorf("the public key is %q", r.text("data.secrets.1.public_key"))
	}
	if strings.Contains(string(r.body), "s3cret") || strings.Contains(string(a.do("GET", hooksPath+"/"+id, nil).want(200).body), "s3cret") {
		t.Error("a header's value is shown")
	}
	s := w.record(id)
	if got := opened(t, s.SealedHeaders, id, seal.FieldHeaders); got != `{"X-Tenant":"blue","X-Token":"s3cret"}` {
		t.Errorf("the headers on the topic are %s", got)
	}
	if s.Filter == "" || s.Ordering != schemas.OrderBooking || s.RateLimit != 600 || s.Description != "Dubai only" || len(s.Secrets) != 2 ||
		s.Secrets[1].Algorithm != schemas.SignEd25519 || len(opened(t, s.Secrets[1].Sealed, id, seal.FieldSigningSecret)) != 32 {
		t.Errorf("the record is %+v", s)
	}
	a.do("POST", hooksPath, choices()).want(200).is("data.id", id) // the same request again
	a.do("POST", hooksPath, with(choices(), "ordering", "latest")).refused(409, "url_taken")

	// A PUT is whole: what it leaves out is at its default afterwards.
	a.do("PUT", hooksPath+"/"+id, hook("https://agent.example/in")).want(200).is("data.description", "", "data.filter", "", "data.ordering", "none",
		"data.rate_limit_per_minute", 0, "data.max_failed_attempts", 5, "data.header_names", "[]", "data.signatures", "[v1]")
	if s := w.record(id); len(s.Secrets) != 1 || s.SealedHeaders != nil || s.Secrets[0].Algorithm != schemas.SignHMAC {
		t.Errorf("the record of a plain one is %+v", s)
	}
	a.do("POST", hooksPath, hook("https://agent.example/in")).want(200).is("data.id", id)
}

func TestAPatchChangesWhatItNamesAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	path := hooksPath + "/" + a.do("POST", hooksPath, choices()).want(200).text("data.id")
	shown := func() map[string]any {
		v := a.do("GET", path, nil).want(200).get("data").(map[string]any)
		delete(v, "updated_at")
		return v
	}
	for field, value := range map[string]any{
		"agent_name": "Renamed", "webhook_url": "https://agent.example/other", "events": []any{"payment.received"}, "description": "", "filter": "",
		"ordering": "latest", "rate_limit_per_minute": float64(0), "max_failed_attempts": float64(1),
	} {
		want := shown()
		want[field] = value
		a.do("PATCH", path, map[string]any{field: value}).want(200)
		if diff := cmp.Diff(want, shown()); diff != "" {
			t.Errorf("a patch of %s (-want +got):\n%s", field, diff)
		}
	}
	a.do("PATCH", path, map[string]any{"headers": map[string]any{}, "signatures": []string{"v1"}}).want(200).is("data.header_names", "[]", "data.signatures", "[v1]")
	a.do("PATCH", path, map[string]any{"api_key": "another-key-12345"}).want(200)
	id := path[len(hooksPath)+1:]
	if got := opened(t, w.record(id).SealedAPIKey, id, seal.FieldAPIKey); got != "another-key-12345" {
		t.Errorf("the key is %q", got)
	}
	before := shown()
	a.do("PATCH", path, map[string]any{}).want(200)
	if diff := cmp.Diff(before, shown()); diff != "" {
		t.Errorf("an empty patch (-want +got):\n%s", diff)
	}
	a.do("POST", hooksPath, with(choices(), "webhook_url", "https://agent.example/other")).refused(409, "url_taken")
	a.do("POST", hooksPath, hook("https://taken.example/")).want(200)
	a.do("PATCH", path, map[string]any{"webhook_url": "https://taken.example"}).refused(409, "url_taken")
	a.do("PATCH", path, map[string]any{"signing_secret": "whsec_x"}).want(422).is("errors.0.field", "signing_secret", "errors.0.rule", "unknown")
	w.key("webhooks:manage").do("PATCH", path, map[string]any{"description": "mine"}).refused(404, "subscription_not_found")
}

func TestAPatchSwitchesOnAndOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	path := hooksPath + "/" + a.do("POST", hooksPath, hook("https://agent.example/")).want(200).text("data.id")
	id := path[len(hooksPath)+1:]
	first := w.record(id)
	a.do("PATCH", path, map[string]any{"is_active": true}).want(200).is("data.is_active", true, "data.enabled_at", a.do("GET", path, nil).text("data.enabled_at"))
	a.do("PATCH", path, map[string]any{"is_active": false}).want(200).is("data.is_active", false, "data.disabled_reason", "owner")
	a.do("PATCH", path, map[string]any{"is_active": false}).want(200).is("data.is_active", false)
	w.exec(`update webhook_health set failed_attempts = 4, first_failure_at = now()`)
	a.do("GET", path, nil).want(200).is("data.failed_attempts", 4)
	a.do("PATCH", path, map[string]any{"is_active": true}).want(200).is("data.is_active", true, "data.disabled_reason", nil, "data.failed_attempts", 0, "data.failing_since", nil)
	if s := w.record(id); !s.Active || !s.EnabledAt.After(first.EnabledAt) || s.DisabledReason != "" {
		t.Errorf("the record of one that is on again: %+v", s)
	}
	a.do("POST", hooksPath, hook("https://agent.example/")).want(200).is("data.id", id) // switching is no other choice
}

func TestAChoiceThatCannotWorkIsRefusedByItsName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	path := hooksPath + "/" + a.do("POST", hooksPath, hook("https://agent.example/")).want(200).text("data.id")
	many := map[string]any{}
	for i := range 21 {
		many["X-"+strings.Repeat("a", i+1)] = "v"
	}
	for _, c := range []struct {
		member string
		value  any
		field  string
	}{
		{"ordering", "strict", "ordering"},
		{"rate_limit_per_minute", -1, "rate_limit_per_minute"},
		{"rate_limit_per_minute", 1.5, "rate_limit_per_minute"},
		{"max_failed_attempts", 0, "max_failed_attempts"},
		{"filter", "nope ==", "filter"},
		{"filter", "booking.no_such_thing == 1", "filter"},
		{"filter", "booking.guests", "filter"},
		{"filter", strings.Repeat("x", 2001), "filter"},
		{"description", strings.Repeat("x", 501), "description"},
		{"signatures", []string{"v2"}, "signatures"},
		{"signatures", []string{"v1a"}, "signatures"},
		{"headers", map[string]any{"Host": "x"}, "headers.Host"},
		{"headers", map[string]any{"authorization": "x"}, "headers.Authorization"},
		{"headers", map[string]any{"webhook-id": "x"}, "headers.Webhook-Id"},
		{"headers", map[string]any{"X-Webhook-Anything": "x"}, "headers.X-Webhook-Anything"},
		{"headers", map[string]any{"content-LENGTH": "1"}, "headers.Content-Length"},
		{"headers", map[string]any{"a b": "x"}, "headers."},
		{"headers", map[string]any{"X-A": "line\r\nX-B: y"}, "headers.X-A"},
		{"headers", map[string]any{"X-A": "1", "x-a": "2"}, "headers.X-A"},
		{"headers", map[string]any{"X-A": "", "x-a": ""}, "headers.X-A"},
		{"headers", map[string]any{"Webhook-%d": "x"}, "headers.Webhook-%d"},
		{"headers", map[string]any{"X-A": 1}, "headers.X-A"},
		{"headers", []string{"X-A"}, "headers"},
		{"headers", many, "headers"},
		{"headers", map[string]any{"X-A": strings.Repeat("v", 2000), "X-B": strings.Repeat("v", 2000), "X-C": strings.Repeat("v", 200)}, "headers"},
	} {
		for method, body := range map[string]map[string]any{"PATCH": {c.member: c.value}, "PUT": with(hook("https://agent.example/"), c.member, c.value)} {
			if got := a.do(method, path, body).want(422).text("errors.0.field"); got != c.field {
				t.Errorf("%s of %s %v blames %q, want %q", method, c.member, c.value, got, c.field)
			}
		}
	}
	a.do("PATCH", path, map[string]any{"filter": "true &&\n booking.citty == ''"}).refused(422, "invalid_filter").is("line", 2)
	if s := w.record(path[len(hooksPath)+1:]); s.Version != 1 {
		t.Errorf("refusals wrote version %d", s.Version)
	}
}

func TestASigningSecretIsRotatedWithAnOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	made := a.do("POST", hooksPath, choices()).want(200)
	id := made.text("data.id")
	path := hooksPath + "/" + id + "/rotate-secret"
	secretOf := func(x schemas.SealedSecret) string { return opened(t, x.Sealed, id, seal.FieldSigningSecret) }
	raw := func(text string) string {
		t.Helper()
		b, err := schemas.ParseSigningSecret(schemas.Secret(text))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	r := a.do("POST", path, nil, "Idempotency-Key", "k").want(200)
	second := r.text("data.signing_secret")
	if again := a.do("POST", path, nil, "Idempotency-Key", "k").want(200).text("data.signing_secret"); again != second {
		t.Error("the same key made another secret")
	}
	s := w.record(id)
	if len(s.Secrets) != 4 {
		t.Fatalf("%d secrets, want the former two and the new two", len(s.Secrets))
	}
	for i, x := range s.Secrets {
		if old := i < 2; old != (x.ExpiresAt != nil) || old && x.ExpiresAt.Sub(s.UpdatedAt) != 24*time.Hour {
			t.Errorf("secret %d ends at %v", i, x.ExpiresAt)
		}
	}
	if secretOf(s.Secrets[0]) != raw(made.text("data.signing_secret")) || secretOf(s.Secrets[2]) != raw(second) {
		t.Error("the secrets on the topic are not those that were shown")
	}
	if s.Secrets[1].PublicKey == s.Secrets[3].PublicKey || s.Secrets[3].Algorithm != schemas.SignEd25519 {
		t.Error("the key pair was not rotated")
	}

	given := "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
	a.do("POST", path, map[string]any{"signing_secret": given, "overlap_seconds": 0}).want(200).is("data.signing_secret", given)
	if s := w.record(id); len(s.Secrets) != 2 || secretOf(s.Secrets[0]) != "012345678901234567890123" {
		t.Errorf("without an overlap %d secrets are left", len(s.Secrets))
	}
	for i := range 4 {
		a.do("POST", path, map[string]any{"overlap_seconds": 604800 - i}).want(200)
	}
	a.do("POST", path, map[string]any{"overlap_seconds": 60}).refused(409, "too_many_secrets")
	a.do("POST", path, map[string]any{"overlap_seconds": 604801}).want(422).is("errors.0.field", "overlap_seconds", "errors.0.rule", "range")
	a.do("POST", path, map[string]any{"signing_secret": "whsec_short"}).want(422).is("errors.0.field", "signing_secret")
	a.do("POST", hooksPath+"/sub_none/rotate-secret", nil).refused(404, "subscription_not_found")
	w.key("webhooks:manage").do("POST", path, nil).refused(404, "subscription_not_found")
}

func TestATestOfOneSubscriptionUsesItsInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *api.Options) { o.WebhookTimeout = 30 * time.Second })
	a := w.key("webhooks:manage")
	id := a.do("POST", hooksPath, hook("https://agent.example/")).want(200).text("data.id")
	other := a.do("POST", hooksPath, hook("https://other.example/")).want(200).text("data.id")
	var sent []schemas.Delivery
	w.deliverTests(func(d *schemas.Delivery, at *schemas.Attempt) {
		sent = append(sent, *d)
		at.Outcome, at.Status, at.ResponseBody = schemas.Delivered, 204, "thanks"
		if string(d.SubscriptionID) == other {
			at.Outcome, at.Status, at.ErrorClass = schemas.Dead, 500, schemas.ErrorStatus
		}
	})
	path := hooksPath + "/" + id
	a.do("PATCH", path, map[string]any{"is_active": false}).want(200)
	r := a.do("POST", path+"/test", `{"event_type": "payment.received", "test_data": {"n": 1.50, "deep": {"a": [null]}}, "unknown": 1}`).want(200).
		is("success", true, "data.status", "success", "data.status_code", 204, "data.subscription_id", id, "data.response_body", "thanks")
	if len(sent) != 1 || r.text("data.delivery_id") != string(sent[0].ID) || sent[0].EventType != schemas.PaymentReceived || sent[0].Trigger != schemas.TriggerTest ||
		!strings.Contains(sent[0].Payload, `"data":{"n":1.50,"deep":{"a":[null]}}`) || !strings.Contains(sent[0].Payload, `"event_type":"payment.received"`) {
		t.Errorf("sent %+v", sent)
	}
	a.do("POST", hooksPath+"/"+other+"/test", map[string]any{"event_type": "test.webhook"}).want(200).is("success", false, "data.status", "failed", "data.status_code", 500)
	// What an endpoint answers is its owner's to read.
	platform := w.key("platform", "webhooks:manage")
	platform.do("POST", path+"/test", map[string]any{"event_type": "test.webhook"}).want(200).is("data.status", "success", "data.response_body", "")
	before := w.outbox()
	a.do("POST", path+"/test", map[string]any{"event_type": "test.webhook", "test_data": map[string]any{"x": strings.Repeat("x", 20_000)}}).refused(413, "test_data_too_large")
	for body, field := range map[string]string{`{}`: "event_type", `{"event_type":"test.webhook","test_data":[1]}`: "test_data", `{"event_type":1}`: "event_type"} {
		if got := a.do("POST", path+"/test", body).want(422).text("errors.0.field"); got != field {
			t.Errorf("%s blames %q", body, got)
		}
	}
	a.do("POST", path+"/test", map[string]any{"event_type": "no.such"}).refused(400, "invalid_events")
	a.do("POST", hooksPath+"/sub_none/test", map[string]any{"event_type": "test.webhook"}).refused(404, "subscription_not_found")
	w.key("webhooks:manage").do("POST", path+"/test", map[string]any{"event_type": "test.webhook"}).refused(404, "subscription_not_found")
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}
