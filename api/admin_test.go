package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

const (
	keysPath   = "/api/v1/admin/keys"
	agentsPath = "/api/v1/admin/agents"
)

func newKey(pairs ...any) map[string]any {
	return with(map[string]any{"agent_name": "A new agent", "name": "first", "scopes": []string{"bookings:read", "webhooks:manage"}}, pairs...)
}

// holder is a client with the key that an answer shows.
func (w *world) holder(r reply) client {
	w.t.Helper()
	return client{w, "Bearer " + r.text("data.key"), schemas.AgentID(r.text("data.agent_id")), schemas.KeyID(r.text("data.id"))}
}

func TestAKeyIsMadeListedRotatedAndRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	boss := w.key("platform", "admin")
	made := boss.do("POST", keysPath, newKey("environment", "test", "expires_at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))).want(200).
		is("data.state", "live", "data.rate_limit_per_minute", 100, "data.platform", false, "data.last_used_at", nil)
	text := made.text("data.key")
	if !regexp.MustCompile(`^krib_test_[0-9a-f]{32}[0-9A-Za-z]{6}$`).MatchString(text) || !strings.HasPrefix(text, made.text("data.prefix")) {
		t.Errorf("the key has another form: %s", made.body)
	}
	a := w.holder(made)
	if h := a.do("GET", hooksPath, nil).want(200).header; h.Get("RateLimit-Limit") != "100" {
		t.Errorf("a new key has the limit %q", h.Get("RateLimit-Limit"))
	}
	list := boss.do("GET", keysPath+"?agent_id="+string(a.agent), nil).want(200).is("data.total_count", 1, "data.keys.0.id", a.key, "data.keys.0.agent_name", "A new agent")
	if strings.Contains(string(list.body), text) {
		t.Error("the list shows the key")
	}
	rotated := boss.do("POST", keysPath+"/"+string(a.key)+"/rotate", map[string]any{}).want(200).
		is("data.agent_id", a.agent, "data.scopes", "[bookings:read webhooks:manage]", "data.expires_at", made.text("data.expires_at"), "data.replaced.id", a.key, "data.replaced.state", "live")
	b := w.holder(rotated)
	for _, c := range []client{a, b} { // they overlap
		c.do("GET", hooksPath, nil).want(200)
	}
	c := w.holder(boss.do("POST", keysPath+"/"+string(b.key)+"/rotate", map[string]any{"overlap_seconds": 0}).want(200).is("data.replaced.state", "revoked"))
	b.do("GET", hooksPath, nil).refused(401, "invalid_api_key")
	boss.do("POST", keysPath+"/"+string(b.key)+"/rotate", map[string]any{}).refused(409, "key_not_live")
	revoked := boss.do("POST", keysPath+"/"+string(c.key)+"/revoke", nil).want(200).is("data.state", "revoked")
	c.do("GET", hooksPath, nil).refused(401, "invalid_api_key")
	boss.do("POST", keysPath+"/"+string(c.key)+"/revoke", nil).want(200).is("data.revoked_at", revoked.text("data.revoked_at"))
	boss.do("GET", keysPath+"?live_only=true&agent_id="+string(a.agent), nil).want(200).is("data.total_count", 1, "data.keys.0.id", a.key)
	boss.do("GET", agentsPath, nil).want(200).is("data.total_count", 2, "data.agents.0.id", a.agent, "data.agents.0.live_keys", 1)
	for _, path := range []string{"/none/revoke", "/none/rotate"} {
		boss.do("POST", keysPath+path, map[string]any{}).refused(404, "key_not_found")
	}
	boss.do("POST", keysPath, newKey("agent_name", nil, "agent_id", "agent_none")).refused(404, "agent_not_found")
}

func TestAgentsAndKeysAreListedInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	boss := w.key("platform", "admin")
	for i := range 4 {
		agent := boss.do("POST", agentsPath, map[string]any{"name": fmt.Sprint("Agent ", i)}).want(200).is("data.live_keys", 0).text("data.id")
		boss.do("POST", keysPath, newKey("agent_name", nil, "agent_id", agent)).want(200)
	}
	for list, path := range map[string]string{"agents": agentsPath, "keys": keysPath} {
		seen := map[any]bool{}
		for offset := 0; offset < 5; offset += 2 {
			r := boss.do("GET", fmt.Sprintf("%s?limit=2&offset=%d", path, offset), nil).want(200).is("data.total_count", 5, "data.has_more", offset < 4)
			for _, v := range r.get("data." + list).([]any) {
				seen[v.(map[string]any)["id"]] = true
			}
		}
		if len(seen) != 5 {
			t.Errorf("%d of 5 %s in pages of 2", len(seen), list)
		}
	}
	boss.do("GET", keysPath+"?limit=0", nil).want(422)
}

func TestTheAnswerWithAKeyIsRepeatedForItsIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	boss := w.key("platform", "admin")
	var (
		all   sync.WaitGroup
		texts [8]string
	)
	for i := range texts {
		all.Go(func() {
			r, err := boss.send("POST", keysPath, newKey(), "Idempotency-Key", "once")
			if err != nil || r.status != 200 {
				t.Errorf("answered %d, %v: %s", r.status, err, r.body)
				return
			}
			texts[i] = r.text("data.key")
		})
	}
	all.Wait()
	for _, text := range texts {
		if text != texts[0] {
			t.Error("another key")
		}
	}
	if n := w.count(`select count(*) from api_keys`); n != 2 {
		t.Errorf("%d keys, want that of the administrator and one", n)
	}
	if n := w.count(`select count(*) from idempotency_keys where position($1::bytea in response) > 0`, []byte(texts[0])); n != 0 {
		t.Error("the stored answer shows the key")
	}
	boss.do("POST", keysPath, newKey("name", "other"), "Idempotency-Key", "once").refused(422, "idempotency_key_reused")
	path := keysPath + "/" + string(boss.key) + "/rotate"
	one := boss.do("POST", path, map[string]any{}, "Idempotency-Key", "rotate").want(200).text("data.key")
	if two := boss.do("POST", path, map[string]any{}, "Idempotency-Key", "rotate").want(200).text("data.key"); one != two {
		t.Error("a repeated rotation made another key")
	}
	first := boss.do("POST", agentsPath, map[string]any{"name": "A"}, "Idempotency-Key", "agent").want(200).text("data.id")
	boss.do("POST", agentsPath, map[string]any{"name": "A"}, "Idempotency-Key", "agent").want(200).is("data.id", first)
}

func TestAnAdministratorCannotGiveWhatItDoesNotHave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	end := time.Now().Add(time.Hour).UTC()
	boss := w.key("platform", "admin")
	w.exec(`update api_keys set expires_at = $2 where id = $1`, boss.key, end)
	admin := func(pairs ...any) map[string]any {
		return newKey(append([]any{"scopes", []string{"admin"}, "platform", true}, pairs...)...)
	}
	boss.do("POST", keysPath, admin()).refused(403, "not_yours_to_give").is("errors.0.field", "expires_at")
	boss.do("POST", keysPath, admin("expires_at", end.Add(time.Minute).Format(time.RFC3339))).refused(403, "not_yours_to_give")
	boss.do("POST", keysPath, admin("expires_at", end.Add(-time.Minute).Format(time.RFC3339))).want(200)
	boss.do("POST", keysPath+"/"+string(boss.key)+"/rotate", map[string]any{"expires_at": end.Add(time.Minute).Format(time.RFC3339)}).refused(403, "not_yours_to_give")
	boss.do("POST", keysPath, newKey()).want(200) // an agent's key may outlive it
	boss.do("POST", keysPath, newKey("scopes", []string{"admin"})).refused(400, "invalid_key").is("errors.0.field", "scopes", "errors.0.rule", "platform")
	for _, c := range []client{w.key("platform", "bookings:read", "bookings:write", "webhooks:manage", "notifications:write", "events:read"), w.key("admin")} {
		for _, path := range []string{keysPath, agentsPath} {
			c.do("GET", path, nil).refused(403, "missing_scope")
			c.do("POST", path, newKey()).refused(403, "missing_scope")
		}
	}
	if _, err := w.sql.Exec(t.Context(), `update api_keys set platform = false where id = $1`, boss.key); err == nil {
		t.Error("a key that is not the platform's can hold the scope admin")
	}
}

func TestEachThingWrongWithANewKeyIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	boss := w.key("platform", "admin")
	past := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	for _, c := range []struct {
		status      int
		field, rule string
		body        map[string]any
	}{
		{422, "name", "required", newKey("name", nil)},
		{422, "name", "format", newKey("name", "two\nlines")},
		{422, "scopes", "required", newKey("scopes", nil)},
		{422, "scopes", "type", newKey("scopes", "admin")},
		{422, "rate_limit_per_minute", "range", newKey("rate_limit_per_minute", -1)},
		{422, "rate_limit_per_minute", "type", newKey("rate_limit_per_minute", "100")},
		{422, "platform", "type", newKey("platform", "yes")},
		{422, "expires_at", "format", newKey("expires_at", "tomorrow")},
		{422, "key_hash", "unknown", newKey("key_hash", "x")},
		{400, "scopes", "enum", newKey("scopes", []string{"bookings:*"})},
		{400, "agent_id", "required", newKey("agent_name", nil)},
		{400, "agent_name", "exclusive", newKey("agent_id", "agent_1")},
		{400, "agent_name", "format", newKey("agent_name", "   ")},
		{400, "environment", "format", newKey("environment", "Live_1")},
		{400, "expires_at", "range", newKey("expires_at", past)},
		{400, "expires_at", "range", newKey("expires_at", "9999-01-01T00:00:00Z")},
	} {
		if got := boss.do("POST", keysPath, c.body).want(c.status).fields(); got[c.field] != c.rule {
			b, _ := json.Marshal(c.body)
			t.Errorf("%s: got %v, want %s %s", b, got, c.field, c.rule)
		}
	}
	boss.do("POST", agentsPath, map[string]any{"name": ""}).want(422)
	boss.do("POST", keysPath+"/"+string(boss.key)+"/rotate", map[string]any{"overlap_seconds": 2592001}).want(422)
	if n := w.count(`select count(*) from api_keys`) + w.count(`select count(*) from agents`); n != 2 {
		t.Errorf("%d rows after refusals, want 2", n)
	}
}

// Whoever lost its keys sees nothing more, also of what it had subscribed to.
func TestARevokedKeyNarrowsTheSubscriptionsOfItsAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	boss := w.key("platform", "admin")
	seer := w.key("platform", "webhooks:manage")
	add := func(pairs ...any) client {
		t.Helper()
		return w.holder(boss.do("POST", keysPath, newKey(append([]any{"agent_name", nil, "agent_id", seer.agent}, pairs...)...)).want(200))
	}
	revoke := func(c client) {
		t.Helper()
		boss.do("POST", keysPath+"/"+string(c.key)+"/revoke", nil).want(200)
	}
	id := seer.do("POST", hooksPath, hook("https://a.example")).want(200).text("data.id")
	state := func() (s string) {
		t.Helper()
		err := w.sql.QueryRow(t.Context(), `select platform::text || ' ' || is_active || ' ' || disabled_reason || ' ' || version
			from webhook_subscriptions where id = $1`, id).Scan(&s)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := func(what string) {
		t.Helper()
		if got := state(); got != what {
			t.Fatalf("the subscription is %q, want %q", got, what)
		}
		published := w.count(`select count(*) from outbox where topic = 'webhook.subscriptions' and key = $1`, id)
		if version := what[len(what)-1:]; fmt.Sprint(published) != version {
			t.Fatalf("%d records for version %s", published, version)
		}
	}
	want("true true  1")
	other, plain := add("scopes", []string{"webhooks:manage"}, "platform", true), add("scopes", []string{"bookings:read"})
	revoke(seer)
	want("true true  1") // another platform key is there
	next := w.holder(boss.do("POST", keysPath+"/"+string(other.key)+"/rotate", map[string]any{"overlap_seconds": 0}).want(200))
	want("true true  1") // the new key has the rights of the old
	revoke(next)
	want("false true  2")
	add("scopes", []string{"bookings:read"}, "platform", true) // it could not write a subscription
	want("false true  2")
	w.exec(`update api_keys set expires_at = now() where platform and agent_id = $1`, seer.agent)
	revoke(plain)
	want("false false no_live_key 3")
	owner := add()
	want("false false no_live_key 3") // a new key gives nothing back by itself
	owner.do("POST", hooksPath+"/"+id+"/toggle", nil).want(200)
	want("false true  4")
}

// Two who revoke an agent's last two keys at the same time: one of them sees that
// none is left.
func TestTheLastTwoKeysRevokedAtOnceSwitchTheSubscriptionsOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	boss := w.key("platform", "admin")
	for round := range 5 {
		one := w.holder(boss.do("POST", keysPath, newKey()).want(200))
		two := w.holder(boss.do("POST", keysPath, newKey("agent_name", nil, "agent_id", one.agent)).want(200))
		one.do("POST", hooksPath, hook("https://a.example")).want(200)
		var all sync.WaitGroup
		for _, c := range []client{one, two} {
			all.Go(func() {
				if r, err := boss.send("POST", keysPath+"/"+string(c.key)+"/revoke", nil); err != nil || r.status != 200 {
					t.Errorf("answered %d, %v", r.status, err)
				}
			})
		}
		all.Wait()
		if n := w.count(`select count(*) from webhook_subscriptions where agent_id = $1 and is_active`, one.agent); n != 0 {
			t.Fatalf("round %d: the subscription goes on without a key", round)
		}
	}
}

func TestTheLastUseOfAKeyIsNotedOnceAMinute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	boss := w.key("platform", "admin")
	a := w.holder(boss.do("POST", keysPath, newKey()).want(200))
	used := func() int {
		return w.count(`select coalesce(extract(epoch from last_used_at), 0)::bigint from api_keys where id = $1`, a.key)
	}
	if used() != 0 {
		t.Error("used before its first request")
	}
	a.do("GET", hooksPath, nil).want(200)
	testenv.Eventually(t, "the use is not noted", func() bool { return used() != 0 })
	row := func() int { return w.count(`select xmin::text::bigint from api_keys where id = $1`, a.key) }
	before := row()
	for range 20 {
		a.do("GET", hooksPath, nil).want(200)
	}
	if err := w.db.KeyUsed(t.Context(), a.key); err != nil { // as another process would
		t.Fatal(err)
	}
	if row() != before {
		t.Error("the key's row was written again within the minute")
	}
	boss.do("GET", keysPath+"?agent_id="+string(a.agent), nil).want(200).text("data.keys.0.last_used_at")
	w.exec(`update api_keys set last_used_at = now() - interval '2 minutes' where id = $1`, a.key)
	if err := w.db.KeyUsed(t.Context(), a.key); err != nil {
		t.Fatal(err)
	}
	if age := int(time.Now().Unix()) - used(); age > 60 {
		t.Errorf("noted %d seconds ago", age)
	}
}

// Whatever a request ends with, a limited key is told where it stands.
func TestEveryAnswerOfALimitedKeyTellsItsLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:read", "bookings:write")
	w.exec(`update api_keys set rate_limit_per_minute = 6 where id = $1`, a.key)
	left := 6
	for _, c := range []struct {
		method, path string
		body         any
		status       int
	}{
		{http.MethodGet, "/api/v1/properties/" + home, nil, 200},
		{http.MethodPost, "/api/v1/bookings", with(stay(7), "total_amount", 1), 400},
		{http.MethodGet, hooksPath, nil, 403},
		{http.MethodGet, keysPath, nil, 403},
		{http.MethodGet, statusPath("one"), nil, 404},
		{http.MethodPost, "/api/v1/bookings", "{", 422},
		{http.MethodGet, statusPath("another"), nil, 429},
	} {
		left = max(left-1, 0)
		h := a.do(c.method, c.path, c.body).want(c.status).header
		if h.Get("RateLimit-Limit") != "6" || h.Get("RateLimit-Remaining") != fmt.Sprint(left) || h.Get("RateLimit-Reset") == "" {
			t.Errorf("%d of %s %s: %v", c.status, c.method, c.path, h)
		}
		if (h.Get("Retry-After") != "") != (c.status == 429) {
			t.Errorf("%d has Retry-After %q", c.status, h.Get("Retry-After"))
		}
	}
}

// What is somebody else's is not found, exactly as what nobody has, on every
// route whose path names it.
func TestWhatIsSomebodyElsesIsNotFoundOnAnyRoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, platform := w.key("admin"), w.key("admin"), w.key("platform", "admin")
	ids := map[string]string{"{booking_id}": a.book(7), "{subscription_id}": a.do("POST", hooksPath, hook("https://a.example")).want(200).text("data.id")}
	ids["{notification_id}"] = platform.do("POST", inbox(hostTwo), note("x")).want(200).text("data.notification_id")
	bodies := map[string]any{
		"PUT /api/v1/external/bookings/{booking_id}/status": map[string]any{"status": "cancelled"},
		"PUT " + hooksPath + "/{subscription_id}":           hook("https://b.example"),

		"POST " + hooksPath + "/{subscription_id}/replays":                        map[string]any{"since": "2026-01-01T00:00:00Z"},
		"POST " + hooksPath + "/{subscription_id}/retry-failed":                   map[string]any{"since": "2026-01-01T00:00:00Z"},
		"POST " + hooksPath + "/{subscription_id}/replays/{replay_id}/cancel":     nil,
		"POST " + hooksPath + "/{subscription_id}/deliveries/{delivery_id}/retry": nil,
		"PATCH " + hooksPath + "/{subscription_id}":                               map[string]any{"description": "mine"},
		"POST " + hooksPath + "/{subscription_id}/test":                           map[string]any{"event_type": "test.webhook"},
	}
	before, tried := w.outbox(), 0
	for name := range protected(t) {
		method, path, _ := strings.Cut(name, " ")
		for param, id := range ids {
			if !strings.Contains(path, param) {
				continue
			}
			// The booking is hostOne's and the notification hostTwo's.
			stranger, at := b, hostOne
			if isHosts(name) && param == "{booking_id}" {
				at = hostTwo
			}
			if isHosts(name) {
				stranger = w.host(at)
			}
			path = strings.ReplaceAll(path, "{host_id}", string(at))
			theirs := stranger.do(method, strings.ReplaceAll(path, param, id), bodies[name])
			nobodys := stranger.do(method, strings.ReplaceAll(path, param, "none"), bodies[name])
			if theirs.status != nobodys.status || theirs.doc["code"] != nobodys.doc["code"] || theirs.status < 400 || theirs.status >= 500 {
				t.Errorf("%s answers %d %v, and %d %v for what is not there", name, theirs.status, theirs.doc["code"], nobodys.status, nobodys.doc["code"])
			}
			if _, known := bodies[name]; theirs.status != 404 && (known || method != "PUT" && method != "POST") {
				t.Errorf("%s answers %d, want 404: %s", name, theirs.status, theirs.body)
			}
			tried++
		}
	}
	b.do("POST", inbox(hostOne), note("x")).refused(404, "host_not_found")
	b.do("GET", "/api/v1/external/hosts/"+string(hostOne)+"/pending-bookings", nil).want(200).is("data.total_count", 0)
	if tried < 8 || w.outbox() != before {
		t.Errorf("%d routes tried, %d outbox rows", tried, w.outbox()-before)
	}
}
