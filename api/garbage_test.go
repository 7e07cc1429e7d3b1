package api_test

import (
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/stripe/stripe-go/v84/webhook"

	"github.com/krib-ai/krib/api"
)

// An operation is a route as the document describes it.
type operation struct {
	name, method, path string
	query              map[string]map[string]any // the schema of each parameter
	required           map[string]bool           // of those
	bodyName           string                    // of the schema; empty for none
	body               map[string]any            // the schema
}

// operations are every route of the document, which has exactly the router's.
func operations(t testing.TB) (all []operation) {
	t.Helper()
	d, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	for path, methods := range d.paths {
		for m, v := range methods {
			o := operation{name: strings.ToUpper(m) + " " + path, method: strings.ToUpper(m), path: path, query: map[string]map[string]any{}, required: map[string]bool{}}
			v := v.(map[string]any)
			given, _ := v["parameters"].([]any)
			for _, p := range given {
				if p := p.(map[string]any); p["in"] == "query" {
					name := p["name"].(string)
					o.query[name], o.required[name] = d.inline(p["schema"]).(map[string]any), p["required"] == true
				}
			}
			if body, ok := v["requestBody"].(map[string]any); ok {
				o.body = body["content"].(map[string]any)["application/json"].(map[string]any)["schema"].(map[string]any)
				o.bodyName = o.name // where it stands in the operation itself
				if ref, ok := o.body["$ref"].(string); ok {
					o.bodyName = strings.TrimPrefix(ref, "#/components/schemas/")
				}
				o.body = d.inline(o.body).(map[string]any)
			}
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.name, b.name) })
	return all
}

// hostile are texts that mean something to those who put texts together.
var hostile = []string{
	`' or 1=1 --`, `'; drop table bookings; --`, `\'; select pg_sleep(9) --`, `$1`, `%s%n`, `../../etc/passwd`, `{{7*7}}`, `<script>alert(1)</script>`, `${jndi:ldap://x}`,
}

// A spoiler sends what is wrong to every route and holds the refusals.
type spoiler struct {
	*world
	agent, owner client
	ids          map[string]string // by the parameter that they fill
}

func newSpoiler(t *testing.T) spoiler {
	t.Helper()
	w := newWorld(t, withStripe, func(o *api.Options) { o.Logger = slog.New(slog.DiscardHandler) }) // thousands of lines
	s := spoiler{world: w, agent: w.key("platform", "admin"), owner: w.host(hostOne), ids: map[string]string{"host_id": string(hostOne), "property_id": home}}
	s.ids["booking_id"] = s.agent.book(7)
	s.ids["subscription_id"] = s.agent.do("POST", hooksPath, hook("https://a.example")).want(200).text("data.id")
	s.ids["notification_id"] = s.agent.do("POST", inbox(hostOne), note("x")).want(200).text("data.notification_id")
	s.ids["key_id"] = string(w.key("bookings:read").key)
	return s
}

// fill puts ids into a path; over replaces some.
func (s spoiler) fill(path string, over map[string]string) string {
	for name, id := range s.ids {
		if o, ok := over[name]; ok {
			id = o
		}
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	return path
}

// bodies has one that is right for each schema of the document.
func (s spoiler) bodies() map[string]map[string]any {
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	return map[string]map[string]any{
		"BookingInput": stay(40), "StatusChange": {"status": "confirmed", "reason": "x", "version": 1}, "HostAnswer": {"reason": "x", "version": 1},
		"PaymentInput": payment("5", "spoiled"), "StripeEvent": {"id": "evt_1", "type": "payment_intent.succeeded"}, "SubscriptionInput": with(hook("https://b.example"), "headers", map[string]any{"X-Agent": "x"}),
		"SubscriptionPatch": {"headers": map[string]any{"X-Agent": "x"}}, "SecretRotation": {"overlap_seconds": 60},
		"SubscriptionTest": {"event_type": "test.webhook", "test_data": map[string]any{"x": 1}},
		"McpMessage":       {"jsonrpc": "2.0", "id": 1, "method": "ping"},
		"ReadAll":          {}, "NotificationIDs": {"notification_ids": []string{"none"}},
		"GuestMessage": {"message": "x", "title": "x"}, "AnyObject": {}, "AgentInput": {"name": "An agent"}, "KeyInput": newKey("environment", "test", "expires_at", later), "KeyRotation": {"overlap_seconds": 60, "expires_at": later},
		"NotificationInput": with(note("x"), "booking_id", "b", "property_id", "p", "priority", "low", "action_required", true, "action_url", "/x", "expires_at", later),
		"PriceRequest":      {"check_in": day(50), "check_out": day(52), "guests": 2, "promo_code": "x"}, "PropertyInput": cottage(),
		"HostSettingsInput": {
			"auto_approve_bookings": false, "auto_approve_amount_limit": 5, "auto_approve_currency": "AED", "instant_approval": false, "webhook_notifications": true,
			"notification_preferences": map[string]any{
				"new_booking": true, "payment_received": true, "urgent": true, "booking_update": true,
				"email": true, "quiet_hours": map[string]any{"enabled": true, "start": "22:00", "end": "07:00", "allow_urgent": true},
			},
			"email": "host@example.com", "time_zone": "Asia/Dubai",
		},
		"ReplayInput":                              {"since": day(-1) + "T00:00:00Z", "booking_id": "none", "event_types": []string{"booking.created"}, "dry_run": false},
		"FailedSince":                              {"since": day(-1) + "T00:00:00Z"},
		"POST /api/v1/external/sse/broadcast":      {"title": "x"},
		"POST /api/v1/hosts/{host_id}/events/send": {"title": "x"},
	}
}

// send calls an operation as who may, with a body that is signed where Stripe
// would sign it, and fails the test at an answer of 500 or more.
func (s spoiler) send(t *testing.T, o *operation, path, body string) reply {
	t.Helper()
	c := s.agent
	if isHosts(o.name) {
		c = s.owner
	}
	headers := []string{}
	if strings.Contains(path, "/stripe/") {
		signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: stripeSecret, Timestamp: time.Now()})
		headers = append(headers, "Stripe-Signature", signed.Header)
	}
	var in any
	if body != "" {
		in = body
	}
	r, err := c.send(o.method, path, in, headers...)
	if err != nil {
		t.Fatalf("%s %s %.200s: %v", o.method, path, body, err)
	}
	if r.status >= 500 {
		t.Errorf("%s %s %.200s: answered %d %s", o.method, path, body, r.status, r.body)
	}
	if r.status >= 400 {
		r.want(r.status) // the form of an error
	}
	return r
}

// refuses is send that wants the request refused, and blamed on a field if one is
// named.
func (s spoiler) refuses(t *testing.T, o *operation, path, body, field string) {
	t.Helper()
	r := s.send(t, o, path, body)
	if r.status < 400 {
		t.Errorf("%s %s %.300s: answered %d", o.method, path, body, r.status)
		return
	}
	if field == "" {
		return
	}
	for f := range r.fields() {
		if f == field || strings.HasPrefix(f, field+".") {
			return
		}
	}
	t.Errorf("%s %s %.300s: not blamed on %s: %s", o.method, path, body, field, r.body)
}

func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Whatever stands in a body, it is refused as a whole or by the member that is
// wrong, on every route that takes one.
func TestEveryRouteRefusesABodyThatIsWrong(t *testing.T) {
	s := newSpoiler(t)
	bodies := s.bodies()
	for _, o := range operations(t) {
		if o.bodyName == "" {
			continue
		}
		right, known := bodies[o.bodyName]
		if !known && kind(o.body) != "array" {
			t.Errorf("%s: give the test a %s that is right", o.name, o.bodyName)
			continue
		}
		path := s.fill(o.path, nil)
		if _, asks := o.query["event_type"]; asks {
			path += "?event_type=test.webhook"
		}
		whole := text(t, right)
		for _, body := range []string{
			"{", "[]", "null", `"x"`, "1", "\x00", "\xff\xfe", whole + "}", whole[:len(whole)-1], strings.TrimSuffix(whole, "}") + `"a":"` + "\xff" + `"}`,
			strings.Repeat(`{"a":`, 10_000), `{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}",
		} {
			s.refuses(t, &o, path, body, "")
		}
		if r := s.send(t, &o, path, `{"a":"`+strings.Repeat("x", 2<<20)+`"}`); r.status != 413 {
			t.Errorf("%s: a body of two megabytes is answered %d", o.name, r.status)
		}
		if kind(o.body) == "array" {
			s.refuses(t, &o, path, "["+strings.Repeat("{},", 1000)+"{}]", "")
			for _, body := range []string{"[5]", "[[]]", "[{}]", `[{"nonsense":1}]`, `["\u0000"]`, text(t, []any{with(note(hostile[0]), "host_id", hostile[1])})} {
				s.send(t, &o, path, body) // each item is answered for itself
			}
			continue
		}
		if o.bodyName == "StripeEvent" { // what is in it is Stripe's
			continue
		}
		s.refuses(t, &o, path, `{"x\u0000":1,"a":"\u0000"}`, "")
		if o.body["additionalProperties"] == false {
			s.refuses(t, &o, path, text(t, with(maps.Clone(right), "nonsense", 1)), "nonsense")
			s.refuses(t, &o, path, `{"nonsense":1,"nonsense":2,`+strings.TrimPrefix(text(t, with(maps.Clone(right), "more", 1)), "{"), "nonsense")
		}
		s.members(t, &o, path, o.body, right, "", func(v map[string]any) string { return text(t, v) })
	}
	if n := s.count(`select count(*) from bookings`); n > 1+len(hostile)*20 {
		t.Errorf("%d bookings", n)
	}
}

// members spoils one member of a right body at a time.
func (s spoiler) members(t *testing.T, o *operation, path string, schema, right map[string]any, at string, whole func(map[string]any) string) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		p := p.(map[string]any)
		for _, wrong := range spoiled(p) {
			s.refuses(t, o, path, whole(with(maps.Clone(right), name, wrong)), at+name)
		}
		switch kind(p) {
		case "object":
			inner, _ := right[name].(map[string]any)
			if inner == nil {
				t.Errorf("%s: give the test a right %s%s", o.name, at, name)
			}
			s.members(t, o, path, p, inner, at+name+".", func(v map[string]any) string { return whole(with(maps.Clone(right), name, v)) })
		case "string":
			for _, h := range hostile { // a text may hold it, and then it is a text
				s.send(t, o, path, whole(with(maps.Clone(right), name, h)))
			}
		}
	}
}

// kind is the type of a schema that is not null.
func kind(schema map[string]any) string {
	switch k := schema["type"].(type) {
	case string:
		return k
	case []any:
		return k[0].(string)
	}
	if schema["enum"] != nil {
		return "string"
	}
	return ""
}

// spoiled are values that a schema does not take.
func spoiled(schema map[string]any) []any {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	switch kind(schema) {
	case "string":
		wrong := []any{5, true, raw(`{}`), raw(`[]`), raw(`["x"]`), raw(`1e400`), "\x00", strings.Repeat("x", 100_000)}
		switch {
		case schema["format"] == "date":
			wrong = append(wrong, "2026-02-30", "0000-00-00", "99999-01-01", "2026-1-1", "tomorrow", "")
		case schema["format"] == "date-time":
			wrong = append(wrong, "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "99999-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "tomorrow")
		case schema["enum"] != nil, schema["pattern"] != nil, schema["format"] != nil:
			wrong = append(wrong, hostile[0], hostile[1], "nonsense of no kind")
		}
		return wrong
	case "integer":
		return []any{"5", "x", 1.5, raw(`1e400`), raw(`9223372036854775808`), raw(`-9223372036854775809`), -1, true, raw(`{}`), raw(`[1]`), hostile[0]}
	case "number":
		return []any{"5", "NaN", raw(`1e400`), raw(`-1e30`), raw(`1e30`), raw(`99999999999999999999.99`), true, raw(`{}`), raw(`[1]`), hostile[0]}
	case "boolean":
		return []any{"true", 1, 0, raw(`{}`), raw(`[true]`), hostile[0]}
	case "object":
		return []any{"x", 5, true, raw(`[]`), raw(`[{}]`), hostile[0]}
	case "array":
		wrong := []any{"x", 5, true, raw(`{}`), raw(`[]`), raw(`[5]`), raw(`[[]]`), raw(`[{}]`), []string{"\x00"}}
		if items, _ := schema["items"].(map[string]any); items["enum"] != nil {
			wrong = append(wrong, []string{"nonsense"}, []string{hostile[0]})
		}
		return wrong
	}
	return nil
}

// others is a query of the parameters that a route wants beside one, and they are
// right.
func (o *operation) others(one string) string {
	var b strings.Builder
	for name, schema := range o.query {
		values, _ := schema["enum"].([]any)
		switch {
		case name == one || !o.required[name]:
		case len(values) > 0:
			b.WriteString(name + "=" + values[0].(string) + "&")
		case schema["format"] == "date":
			b.WriteString(name + "=" + map[string]string{"check_in": day(50), "check_out": day(52)}[name] + "&")
		default:
			b.WriteString(name + "=x&")
		}
	}
	return b.String()
}

// Parameters of the URL, the same way.
func TestEveryRouteRefusesAQueryThatIsWrong(t *testing.T) {
	s := newSpoiler(t)
	for _, o := range operations(t) {
		if len(o.query) == 0 || o.path == "/api/v1/hosts/{host_id}/events" { // a cursor that is none begins the stream anew
			continue
		}
		path, body := s.fill(o.path, nil)+"?", ""
		if o.bodyName != "" {
			body = "{}"
		}
		for _, broken := range []string{"%zz", "limit=%", "a;b"} {
			s.refuses(t, &o, path+broken, body, "")
		}
		for name, schema := range o.query {
			if name == "after" || name == "lastEventId" { // whoever has the log reads its cursors
				continue
			}
			wrong := []string{"%ff", "%00", "a&" + name + "=b"}
			for _, v := range spoiled(schema) {
				if v, ok := v.(string); ok && v != "" && v != "5" && v != "true" { // an empty one is none, and these are right here
					wrong = append(wrong, url.QueryEscape(v))
				}
			}
			switch kind(schema) {
			case "integer":
				wrong = append(wrong, "-1", "1e19", "0x10", "99999999999999999999", "1.5", "15e-1")
			case "boolean":
				wrong = append(wrong, "maybe", "2", "tRUE", "yes")
			}
			for _, v := range wrong {
				if len(v) > 10_000 {
					v = v[:10_000] // a URL is bounded by the server
				}
				s.refuses(t, &o, path+o.others(name)+name+"="+v, body, name)
			}
			for _, h := range hostile {
				s.send(t, &o, path+o.others(name)+name+"="+url.QueryEscape(h), body)
			}
		}
	}
}

// An id that is none, of another kind, or made to be put into a statement.
func TestEveryRouteRefusesAnIDThatIsNone(t *testing.T) {
	s := newSpoiler(t)
	bodies := s.bodies()
	// A platform's agent may write to any host and ask what waits for it, and a home
	// may be called whatever its host likes.
	anybody := map[string]bool{"POST /api/v1/hosts/{host_id}/notifications": true, "GET /api/v1/external/hosts/{host_id}/pending-bookings": true}
	names := map[string]bool{"PUT /api/v1/hosts/{host_id}/properties/{property_id}": true}
	none := []string{"%ff", "%00", "a%0ab", strings.Repeat("x", 300)}
	for _, o := range operations(t) {
		body := ""
		if o.bodyName != "" && o.bodyName != "HostAnswer" {
			body = text(t, bodies[o.bodyName])
		}
		for param := range s.ids {
			if !strings.Contains(o.path, "{"+param+"}") {
				continue
			}
			for _, id := range none {
				s.refuses(t, &o, s.fill(o.path, map[string]string{param: id}), body, "")
			}
			for _, h := range hostile {
				path := s.fill(o.path, map[string]string{param: url.PathEscape(h)})
				if anybody[o.name] {
					s.send(t, &o, path, body)
					continue
				}
				s.refuses(t, &o, path, body, "")
			}
			for other, id := range s.ids {
				path := s.fill(o.path, map[string]string{param: id})
				if other == param || anybody[o.name] || names[o.name] && param == "property_id" {
					continue
				}
				s.refuses(t, &o, path, body, "")
			}
		}
	}
	for what, n := range map[string]int{
		"bookings": s.count(`select count(*) from bookings where version <> 2`), "subscriptions": s.count(`select count(*) from webhook_subscriptions where version <> 1`),
		"keys": s.count(`select count(*) from api_keys where revoked_at is not null`), "notifications": s.count(`select count(*) from host_notifications where deleted_at is not null`),
	} {
		if n != 0 {
			t.Errorf("%d %s were changed by an id of something else", n, what)
		}
	}
}
