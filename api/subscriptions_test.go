package api_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

func TestASubscriptionLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	r := a.do("POST", hooksPath, hook("https://agent.example")).want(200).is("data.agent_name", "Krib AI Agent Test", "data.webhook_url", "https://agent.example/",
		"data.events", "[booking.created test.webhook]", "data.is_active", true, "data.failed_attempts", 0, "data.last_successful_call", nil,
		"data.max_failed_attempts", 5, "data.disabled_reason", nil)
	if _, err := schemas.ParseSigningSecret(schemas.Secret(r.text("data.signing_secret"))); err != nil {
		t.Errorf("the signing secret %v", err)
	}
	path := hooksPath + "/" + r.text("data.id")
	a.do("POST", hooksPath, hook("https://second.example/in")).want(200)

	a.do("GET", hooksPath+"?limit=1", nil).want(200).is("data.subscriptions.0.webhook_url", "https://second.example/in", "data.total_count", 2,
		"data.returned_count", 1, "data.has_more", true, "data.filters_applied.active_only", false, "data.filters_applied.agent_name", nil)
	a.do("GET", hooksPath+"?agent_name=ai%20AGENT&active_only=true&offset=1", nil).want(200).is("data.returned_count", 1, "data.has_more", false, "data.filters_applied.agent_name", "ai AGENT")
	a.do("GET", hooksPath+"?agent_name=100%25", nil).want(200).is("data.total_count", 0)
	for _, shown := range []reply{a.do("GET", path, nil).want(200), a.do("GET", hooksPath, nil).want(200)} {
		if s := string(shown.body); strings.Contains(s, "signing_secret") || strings.Contains(s, "api_key") || strings.Contains(s, "test-api-key") {
			t.Errorf("a secret is shown: %s", s)
		}
	}

	changed := with(hook("https://third.example/x"), "agent_name", "Renamed", "events", []string{"payment.received"})
	if s := string(a.do("PUT", path, changed).want(200).is("data.agent_name", "Renamed", "data.events", "[payment.received]", "data.webhook_url", "https://third.example/x").body); strings.Contains(s, "signing_secret") {
		t.Errorf("a secret is shown that nobody changed: %s", s)
	}
	given := "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
	a.do("PUT", path, with(changed, "signing_secret", given)).want(200).is("data.signing_secret", given)
	a.do("PUT", path, hook("https://second.example/in")).refused(409, "url_taken")
	a.do("PUT", hooksPath+"/sub_none", hook("https://x.example")).refused(404, "subscription_not_found")
	a.do("DELETE", path, nil).want(200).is("data.deleted_subscription_id", r.text("data.id"), "data.agent_name", "Renamed")
	a.do("GET", path, nil).refused(404, "subscription_not_found")
	a.do("DELETE", path, nil).refused(404, "subscription_not_found")
	if n := w.count(`select count(*) from outbox where topic = 'webhook.subscriptions'`); n != 5 {
		t.Errorf("%d records, want two creations, two changes and a tombstone", n)
	}
}

func TestASubscriptionIsSwitchedOffAndOnAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	path := hooksPath + "/" + a.do("POST", hooksPath, hook("https://agent.example/in")).want(200).text("data.id")
	id := path[len(hooksPath)+1:]
	state := func() (s schemas.Subscription) {
		t.Helper()
		var raw []byte
		err := w.sql.QueryRow(t.Context(), `select value from outbox where topic = 'webhook.subscriptions' and key = $1 order by id desc limit 1`, id).Scan(&raw)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = schemas.Decode[schemas.Subscription](raw); err != nil {
			t.Fatal(err)
		}
		return s
	}
	sick := func() {
		w.exec(`update webhook_health set failed_attempts = 4, failures_since_success = 20, first_failure_at = now() - interval '6 days'`)
	}
	healthy := func() {
		t.Helper()
		if n := w.count(`select count(*) from webhook_health where failed_attempts = 0 and failures_since_success = 0 and first_failure_at is null`); n != 1 {
			t.Error("its health did not start anew")
		}
	}
	first := state()
	sick()
	a.do("POST", path+"/toggle", nil).want(200).
		is("data.subscription_id", id, "data.agent_name", "Krib AI Agent Test", "data.previous_status", true, "data.new_status", false)
	off := state()
	if off.Active || off.DisabledReason != schemas.DisabledByOwner || off.Version != 2 || !off.EnabledAt.Equal(first.EnabledAt) {
		t.Errorf("the record of a subscription that is off: %+v", off)
	}
	healthy()
	a.do("GET", path, nil).want(200).is("data.is_active", false, "data.disabled_reason", "owner", "data.failed_attempts", 0)

	w.exec(`update webhook_subscriptions set disabled_reason = 'gone'`) // whoever switched it off
	sick()
	a.do("POST", path+"/toggle", nil).want(200).is("data.previous_status", false, "data.new_status", true)
	on := state()
	if !on.Active || on.DisabledReason != "" || on.Version != 3 || !on.EnabledAt.After(first.EnabledAt) {
		t.Errorf("the record of a subscription that is on again: %+v", on)
	}
	healthy()

	// Who judges by attempts of before must not switch it off again.
	err := w.db.Update(t.Context(), store.Scope{Agent: a.agent}, func(ctx context.Context, tx *store.Tx) error {
		done, err := producers.Disable(ctx, tx, on.ID, schemas.DisabledByFailures, first.EnabledAt)
		if done {
			t.Error("attempts of before it was switched on count")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a repetition under a key does not take it back
		a.do("POST", path+"/toggle", nil, "Idempotency-Key", "k").want(200).is("data.previous_status", true, "data.new_status", false)
	}

	before := w.outbox()
	w.key("webhooks:manage").do("POST", path+"/toggle", nil).refused(404, "subscription_not_found")
	a.do("POST", hooksPath+"/sub_none/toggle", nil).refused(404, "subscription_not_found")
	w.key("bookings:write").do("POST", path+"/toggle", nil).refused(403, "missing_scope")
	a.do("GET", path, nil).want(200).is("data.is_active", false)
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestRegisteringAURLAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.key("webhooks:manage"), w.key("webhooks:manage")
	first := a.do("POST", hooksPath, hook("https://agent.example/in")).want(200)
	second := a.do("POST", hooksPath, hook("https://agent.example/in")).want(200)
	if first.text("data.id") != second.text("data.id") || strings.Contains(string(second.body), "signing_secret") {
		t.Errorf("not the same, or with its secret: %s", second.body)
	}
	a.do("POST", hooksPath, with(hook("https://agent.example/in"), "api_key", "another-api-key")).refused(409, "url_taken").is("errors.0.field", "webhook_url")
	if b.do("POST", hooksPath, hook("https://agent.example/in")).want(200).text("data.id") == first.text("data.id") {
		t.Error("two agents share a subscription")
	}
	if n := w.outbox(); n != 2 {
		t.Errorf("%d outbox rows, want 2", n)
	}
}

func TestRegisteringAURLAtTheSameTimeIsOneSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if r, err := a.send("POST", hooksPath, hook("https://agent.example/in")); err != nil || r.status != 200 {
				t.Errorf("answered %d, %v: %s", r.status, err, r.body)
			}
		})
	}
	wg.Wait()
	if n, rows := w.count(`select count(*) from webhook_subscriptions`), w.outbox(); n != 1 || rows != 1 {
		t.Errorf("%d subscriptions and %d outbox rows, want one each", n, rows)
	}
}

func TestAnIdempotentSubscriptionAnswersItsSecretAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	first := a.do("POST", hooksPath, hook("https://agent.example"), "Idempotency-Key", "k").want(200)
	second := a.do("POST", hooksPath, hook("https://agent.example"), "Idempotency-Key", "k").want(200)
	if string(first.body) != string(second.body) || first.text("data.signing_secret") == "" {
		t.Errorf("got\n%s\nand\n%s", first.body, second.body)
	}
	secret := first.text("data.signing_secret")
	if n := w.count(`select count(*) from idempotency_keys where position($1::bytea in response) > 0`, []byte(secret)); n != 0 {
		t.Error("the secret lies open in the stored answer")
	}
}

func TestWhatASubscriptionMayNotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	a.do("POST", hooksPath, with(hook("https://agent.example"), "events", []string{"booking.created", "payment.succeeded", "x"})).refused(400, "invalid_events").
		is("invalid_events", "[payment.succeeded x]", "valid_events.0", "booking.created", "valid_events.5", "test.webhook", "errors.0.field", "events")
	got := a.do("POST", hooksPath, map[string]any{"agent_name": " ", "webhook_url": 1, "events": []string{}, "api_key": "short", "secret_key": "x", "signing_secret": ""}).
		refused(422, "invalid_request").fields()
	want := map[string]string{"agent_name": "length", "webhook_url": "type", "events": "length", "api_key": "length", "secret_key": "unknown", "signing_secret": "length"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	a.do("POST", hooksPath, with(hook("https://agent.example"), "events", []any{"test.webhook", 5, "a\nb"})).want(422).is("errors.0.field", "events.1", "errors.1.field", "events.2")
	a.do("POST", hooksPath, with(hook("https://agent.example"), "api_key", "line\r\nInjected: yes")).want(422).is("errors.0.field", "api_key")
	a.do("POST", hooksPath, with(hook("https://agent.example"), "signing_secret", "whsec_c2hvcnQ=")).refused(422, "invalid_signing_secret")
	for _, url := range []string{"agent.example", "ftp://agent.example", "https://user:pw@agent.example", "https://10.0.0.1/", "https://[fe80::1]/", "http://169.254.169.254/latest", "https://", "https://a.example/#f", "https://a.example:0/", "https://a.example:65536/"} {
		a.do("POST", hooksPath, hook(url)).refused(422, "invalid_url")
	}
	for url, rule := range map[string]string{
		"https://a.example/?x=%zz": "escape", `https://a.example\b`: "backslash", "https://a.example./": "host", "https://a.example/ ": "space",
		"https://0x7f.1/": "host", "https://１0.0.0.1/": "address", "https://%31%30.0.0.1/": "address",
	} {
		a.do("POST", hooksPath, hook(url)).refused(422, "invalid_url").is("errors.0.field", "webhook_url", "errors.0.rule", rule)
	}
	for _, q := range []string{"limit=0", "limit=101", "active_only=maybe", "offset=x"} {
		a.do("GET", hooksPath+"?"+q, nil).refused(422, "invalid_request")
	}
	if n := w.outbox(); n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestAnAgentHasABoundedNumberOfSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	first := a.do("POST", hooksPath, hook("https://agent.example/0")).want(200).text("data.id")
	w.exec(`insert into webhook_subscriptions select (jsonb_populate_record(s, jsonb_build_object('id', 'sub_' || i, 'webhook_url', 'https://agent.example/' || i))).*
		from webhook_subscriptions s, generate_series(1, $1::int - 1) i where s.id = $2`, producers.MaxSubscriptions, first)
	a.do("POST", hooksPath, hook("https://agent.example/more")).refused(409, "too_many_subscriptions")
	a.do("POST", hooksPath, hook("https://agent.example/0")).want(200).is("data.id", first) // which it has
	a.do("DELETE", hooksPath+"/"+first, nil).want(200)
	a.do("POST", hooksPath, hook("https://agent.example/more")).want(200)
	p := w.key("platform", "webhooks:manage")
	w.exec(`update webhook_subscriptions set agent_id = $1`, p.agent)
	p.do("POST", hooksPath, hook("https://platform.example/")).want(200)
}

func TestASubscriptionShowsTheURLThatIsSent(t *testing.T) {
	w := newWorld(t)
	a := w.key("webhooks:manage")
	for given, want := range map[string]string{
		"https://agent.example/?name=a b": "https://agent.example/?name=a%20b", "https://agent.example/?name=köln": "https://agent.example/?name=k%C3%B6ln",
		"https://BÜCHER.example:443/a/../b": "https://xn--bcher-kva.example/b", "https://agent.example/{id}|\"": "https://agent.example/%7Bid%7D%7C%22",
	} {
		id := a.do("POST", hooksPath, hook(given)).want(200).is("data.webhook_url", want).text("data.id")
		a.do("GET", hooksPath+"/"+id, nil).want(200).is("data.webhook_url", want)
		a.do("POST", hooksPath, hook(want)).want(200).is("data.id", id)
		a.do("POST", hooksPath, hook(given)).want(200).is("data.id", id)
	}
}

// Versions before the grammar of URLs stored other forms.
func TestASubscriptionOfAFormerVersionIsFoundAgainByItsURL(t *testing.T) {
	w := newWorld(t)
	a := w.key("webhooks:manage")
	for given, former := range map[string]string{
		"https://agent.example/?name=a b": "https://agent.example/?name=a b", "https://Bücher.example/": "https://b%C3%BCcher.example/",
		"https://agent.example:443/hook": "https://agent.example:443/hook",
	} {
		r := a.do("POST", hooksPath, hook(given)).want(200)
		id, now := r.text("data.id"), r.text("data.webhook_url")
		chosen, err := json.Marshal(producers.NewSubscription{Ordering: schemas.OrderNone, MaxFailedAttempts: 5, Headers: map[string]schemas.Secret{}})
		if err != nil {
			t.Fatal(err)
		}
		fingerprint, err := json.Marshal([]any{"Krib AI Agent Test", former, []string{"booking.created", "test.webhook"}, "test-api-key-12345", "", string(chosen)})
		if err != nil {
			t.Fatal(err)
		}
		hash := sha256.Sum256(fingerprint)
		w.exec(`update webhook_subscriptions set webhook_url = $2, body_hash = $3 where id = $1`, id, former, hash[:])
		a.do("POST", hooksPath, hook(given)).want(200).is("data.id", id)
		a.do("POST", hooksPath, with(hook(given), "api_key", "another-api-key")).refused(409, "url_taken")
		a.do("GET", hooksPath+"/"+id, nil).want(200).is("data.webhook_url", now)
		a.do("PATCH", hooksPath+"/"+id, map[string]any{"description": "still here"}).want(200).is("data.webhook_url", now)
	}
	r := a.do("POST", hooksPath, hook("https://agent.example/?x=1")).want(200)
	w.exec(`update webhook_subscriptions set webhook_url = $2 where id = $1`, r.text("data.id"), "https://agent.example/?x=100%")
	a.do("PATCH", hooksPath+"/"+r.text("data.id"), map[string]any{"description": "sent as it was"}).want(200).is("data.webhook_url", "https://agent.example/?x=100%")
}
