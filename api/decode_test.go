package api_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v84/webhook"

	"github.com/krib-ai/krib/api"
)

func TestBodiesThatAreRefusedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	good, err := json.Marshal(stay(7))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"empty": "", "blank": " \n", "null": "null", "a list": "[]", "text": `"x"`, "a number": "1", "cut off": string(good[:len(good)-1]),
		"trailing data": string(good) + "{}", "trailing brace": string(good) + "}", "not UTF-8": strings.Replace(string(good), "Test", "T\xffst", 1),
		"two byte order marks": "\ufeff\ufeff" + string(good), "single quotes": "{'a':1}", "a comment": string(good) + "//", "NaN": `{"guests":NaN}`,
		"deep lists": `{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}", "very deep": strings.Repeat(`{"a":`, 20_000),
		"deep objects": strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33),
	} {
		if r := a.do("POST", bookings, body); r.status != 422 || r.doc["code"] != "invalid_json" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	a.do("POST", bookings, `{"x":"`+strings.Repeat("x", 1<<20)+`"}`).refused(413, "body_too_large")
	a.do("POST", bookings, with(stay(7), "special_requests", strings.Repeat("x", 128<<10-1000))).refused(422, "invalid_request")
}

func TestMembersThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	good, err := json.Marshal(stay(7))
	if err != nil {
		t.Fatal(err)
	}
	s := string(good)
	for name, c := range map[string]struct{ body, field, rule string }{
		"twice":           {strings.Replace(s, `"guests":2`, `"guests":2,"guests":3`, 1), "guests", "duplicate"},
		"twice inside":    {strings.Replace(s, `"first_name":"Test"`, `"first_name":"Test","first_name":"Test"`, 1), "guest_info.first_name", "duplicate"},
		"twice escaped":   {strings.Replace(s, `"guests":2`, `"guests":2,"\u0067uests":2`, 1), "guests", "duplicate"},
		"NUL":             {strings.Replace(s, "A quiet room", `A\u0000quiet room`, 1), "special_requests", "format"},
		"NUL in a name":   {strings.Replace(s, `"guests":2`, `"guests":2,"a\u0000":2`, 1), "", "format"},
		"unknown":         {strings.Replace(s, `"guests":2`, `"guests":2,"Guests":2`, 1), "Guests", "unknown"},
		"an object":       {strings.Replace(s, `"guests":2`, `"guests":{}`, 1), "guests", "type"},
		"text for object": {strings.Replace(s, `"guests":2`, `"guests":2,"guest_info":"x"`, 1), "guest_info", "duplicate"},
		"null":            {strings.Replace(s, `"guests":2`, `"guests":null`, 1), "guests", "required"},
		"a line break":    {strings.Replace(s, `"last_name":"User"`, `"last_name":"Us\ner"`, 1), "guest_info.last_name", "format"},
	} {
		if got := a.do("POST", bookings, c.body).refused(422, "invalid_request").fields(); got[c.field] != c.rule {
			t.Errorf("%s: %v, want %s: %s", name, got, c.field, c.rule)
		}
	}
	a.do("PUT", statusPath("x"), `{"status":"confirmed","x":{"y":"\u0000"}}`).want(422).is("errors.0.field", "x.y")
	many := a.do("POST", bookings, `{`+strings.Repeat(`"`+strings.Repeat("n", 300)+`":1,`, 400)+`"x":1}`).want(422)
	if len(many.body) > 20_000 {
		t.Errorf("%d bytes of errors", len(many.body))
	}
	if n := w.outbox(); n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

// ground is a handler for a fuzz target, which may not log through f, and calls it
// without a network.
type ground struct {
	*world
	agent, owner client
}

func newGround(f *testing.F) ground {
	f.Helper()
	w := newWorld(f, withStripe, func(o *api.Options) { o.Logger = slog.New(slog.DiscardHandler) })
	return ground{w, w.key("platform", "admin"), w.host(hostOne)}
}

// survives sends a request of either caller: it may be accepted or refused, but
// never brings the handler down.
func (g ground) survives(t *testing.T, r *http.Request) {
	t.Helper()
	r.Header.Set("Authorization", g.agent.auth)
	if strings.HasPrefix(r.URL.Path, "/api/v1/hosts/") && (r.Method != http.MethodPost || r.URL.Path != inbox(hostOne)) {
		r.Header.Set("Authorization", g.owner.auth)
	}
	got := httptest.NewRecorder()
	g.srv.Config.Handler.ServeHTTP(got, r)
	if got.Code >= http.StatusInternalServerError || got.Code != http.StatusNotModified && !json.Valid(got.Body.Bytes()) {
		t.Errorf("%s %s answered %d: %s", r.Method, r.URL, got.Code, got.Body)
	}
}

// target is an operation's path with ids: of a host and a home that are there, and
// of nothing else.
func (g ground) target(o *operation) string {
	return strings.NewReplacer("{host_id}", string(hostOne), "{property_id}", home, "{booking_id}", "none", "{subscription_id}", "none",
		"{notification_id}", "none", "{key_id}", "none").Replace(o.path)
}

// FuzzDecode sends any body to every endpoint that takes one, signed where Stripe
// would sign it.
func FuzzDecode(f *testing.F) {
	g := newGround(f)
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, v := range []any{
		stay(7), hook("https://a.example"), note("x"),
		map[string]any{"status": "confirmed", "version": 1},
		map[string]any{"reason": "x", "version": 1},
		cottage(),
		map[string]any{"check_in": day(7), "check_out": day(9), "guests": 2, "promo_code": "x"},
		payment("5", "x"), newKey("environment", "test", "expires_at", later),
		map[string]any{"name": "x"},
		map[string]any{"overlap_seconds": 1, "expires_at": later},
		map[string]any{"auto_approve_bookings": true, "auto_approve_amount_limit": 1, "notification_preferences": map[string]any{"urgent": false}},
		map[string]any{"filter": "booking.guests > 2", "ordering": "latest", "headers": map[string]any{"X-A": "b"}, "signatures": []string{"v1", "v1a"}, "is_active": true},
		map[string]any{"event_type": "payment.received", "test_data": map[string]any{}},
		map[string]any{"id": "evt_1", "type": "payment_intent.succeeded", "data": map[string]any{"object": intent("pi_1", "none", 100)}},
	} {
		raw, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, s := range []string{"", "{", `{"a":{"a":[null,1e400,"\ud800"]}}`, `{"guests":1e5,"events":[[]]}`, "\x00"} {
		f.Add([]byte(s))
	}
	all := operations(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, o := range all {
			if o.bodyName == "" {
				continue
			}
			path := g.target(&o)
			if o.query["event_type"] != nil {
				path += "?event_type=payment.received" // for which nobody has subscribed
			}
			r := httptest.NewRequest(o.method, path, strings.NewReader(string(body)))
			signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: stripeSecret, Timestamp: time.Now()})
			r.Header.Set("Stripe-Signature", signed.Header)
			g.survives(t, r)
		}
	})
}

// FuzzQuery sends any query to every endpoint that reads one.
func FuzzQuery(f *testing.F) {
	g := newGround(f)
	g.agent.book(7)
	for _, s := range []string{
		"", "check_in=" + day(7) + "&check_out=" + day(9) + "&guests=2", "check_in=2000-01-01&check_out=9999-12-31", "q=%25_\\&city=a&state=b&sort_by=price_desc&limit=1&offset=9",
		"latitude=-90&longitude=180&radius_km=1000&min_price_per_night=1&max_price_per_night=1e3", "cursor=MTc2NzIyNTYwMDAwMDAwMC5ia2dfMQ&status=pending",
		"created_from=2026-01-01T00:00:00Z&created_to=9999-12-31T23:59:59.999999999Z&from=2000-01-01&to=9999-12-31&property_id=x", "limit=%00&limit=2", "%zz", "bedrooms=-0&bathrooms=+1",
		"status=draft&live_only=true&agent_id=%27&unread_only=true&priority=high&type=urgent&active_only=true&agent_name=%25",
	} {
		f.Add(s)
	}
	all := operations(f)
	f.Fuzz(func(t *testing.T, query string) {
		for _, o := range all {
			// Whoever has the streams answers them, and is not here; sinks/pull has a
			// fuzz target of its own.
			if o.method != http.MethodGet || len(o.query) == 0 || strings.HasSuffix(o.path, "/events") || strings.HasSuffix(o.path, "/stream") {
				continue
			}
			r := httptest.NewRequest(http.MethodGet, g.target(&o), nil)
			r.URL.RawQuery = query
			g.survives(t, r)
		}
	})
}

// FuzzHeadersAndIDs sends any id in the path beside any conditional header and any
// idempotency key.
func FuzzHeadersAndIDs(f *testing.F) {
	g := newGround(f)
	f.Add(g.agent.book(7), `"2"`, "key")
	f.Add("..", `W/"2", *`, "")
	f.Add("a/b\x00%2f", `""2""`, "\xff")
	f.Add("search", `"99999999999999999999"`, strings.Repeat("k", 256))
	all := operations(f)
	f.Fuzz(func(t *testing.T, id, tag, key string) {
		for _, o := range all {
			before, after, has := o.path, "", false
			for _, param := range []string{"{booking_id}", "{property_id}", "{subscription_id}", "{notification_id}", "{key_id}"} {
				if b, a, ok := strings.Cut(o.path, param); ok {
					before, after, has = b, a, true
				}
			}
			if !has && o.method == http.MethodGet {
				continue
			}
			before = strings.ReplaceAll(before, "{host_id}", string(hostOne))
			if !has {
				id = ""
			}
			r := httptest.NewRequest(o.method, before, strings.NewReader(`{"status":"pending"}`))
			r.URL.Path, r.URL.RawPath = before+id+after, before+url.PathEscape(id)+after
			r.Header["If-Match"], r.Header["If-None-Match"], r.Header["Idempotency-Key"] = []string{tag}, []string{tag}, []string{key}
			g.survives(t, r)
		}
	})
}
