package api_test

import (
	"bytes"
	"testing"

	"github.com/krib-ai/krib/schemas"
)

// Another key of the agent that may do the same sends the same request.
func TestIdempotencyKeyAnswersItsOwnAPIKeyOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.key("webhooks:manage", "bookings:write", "notifications:write")
	text, hash, prefix := schemas.NewAPIKey("test")
	w.exec(`insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes, platform, rate_limit_per_minute)
		values ('key_second', $1, 'k', $2, $3, '{webhooks:manage}', false, 0)`, first.agent, hash, prefix)
	second := client{w, "Bearer " + text.Reveal(), first.agent, "key_second"}
	const hooks = "/api/v1/external/webhook-subscriptions"
	body := hook("https://agent.example/in")
	made := first.do("POST", hooks, body, "Idempotency-Key", "one").want(200)
	if got := made.header.Get("Idempotent-Replayed"); got != "" {
		t.Errorf("the first answer says Idempotent-Replayed: %s", got)
	}
	again := first.do("POST", hooks, body, "Idempotency-Key", "one").want(200)
	if again.header.Get("Idempotent-Replayed") != "true" || again.text("data.signing_secret") != made.text("data.signing_secret") {
		t.Errorf("the repeated answer: %v", again.header)
	}
	secret := made.text("data.signing_secret")
	if secret == "" {
		t.Fatal("no signing secret was answered")
	}
	for _, key := range []string{"one", "key_1 one"} { // a key has no space, so no other's can be spelled
		other := second.do("POST", hooks, body, "Idempotency-Key", key)
		if other.header.Get("Idempotent-Replayed") != "" || bytes.Contains(other.body, []byte(secret)) {
			t.Errorf("%q: another API key got the answer of the first", key)
		}
	}
	path := hooks + "/" + made.text("data.id") + "/rotate-secret"
	rotated := first.do("POST", path, map[string]any{}, "Idempotency-Key", "two").want(200)
	if other := second.do("POST", path, map[string]any{}, "Idempotency-Key", "two"); other.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("another API key got the rotated secret again: %v, %d", rotated.header, other.status)
	}
}
