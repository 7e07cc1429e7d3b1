package api_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/api/mcp"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// bearer sends a client's credentials with every request.
type bearer struct {
	header string
	next   http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", b.header)
	return b.next.RoundTrip(r)
}

// A toolUser calls tools as one principal, through the protocol's own client.
type toolUser struct {
	client
	session *sdk.ClientSession
}

// connect opens a session, or says why there is none.
func (c client) connect(ctx context.Context) (*sdk.ClientSession, error) {
	transport := &sdk.StreamableClientTransport{
		Endpoint: c.w.srv.URL + "/mcp", HTTPClient: &http.Client{Transport: bearer{c.auth, c.w.srv.Client().Transport}}, MaxRetries: -1,
	}
	return sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil).Connect(ctx, transport, nil)
}

func (c client) model() toolUser {
	c.w.t.Helper()
	s, err := c.connect(c.w.t.Context())
	if err != nil {
		c.w.t.Fatal(err)
	}
	c.w.t.Cleanup(func() { s.Close() })
	return toolUser{c, s}
}

// call is the answer of a tool as the API would have given it.
func (m toolUser) call(tool string, arguments map[string]any) reply {
	m.w.t.Helper()
	got, err := m.session.CallTool(m.w.t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		m.w.t.Fatalf("%s: %v", tool, err)
	}
	text := got.Content[0].(*sdk.TextContent).Text
	r := reply{t: m.w.t, status: 200, body: []byte(text)}
	if err := json.Unmarshal(r.body, &r.doc); err != nil {
		m.w.t.Fatalf("%s: %v\n%s", tool, err, text)
	}
	switch structured, _ := got.StructuredContent.(map[string]any); {
	case got.IsError:
		if got.StructuredContent != nil {
			m.w.t.Errorf("%s: a refusal has structured content, which is not of the tool's schema", tool)
		}
		r.status = int(r.doc["status"].(float64))
	default:
		if diff := cmp.Diff(r.doc, structured); diff != "" {
			m.w.t.Errorf("%s: text and structure differ: %s", tool, diff)
		}
		if err := m.w.schemaOf(tool, false).Validate(got.StructuredContent); err != nil {
			m.w.t.Errorf("%s: the answer is not of the tool's schema: %v", tool, err)
		}
	}
	return r
}

// refuses wants a tool's error with this code.
func (m toolUser) refuses(tool string, arguments map[string]any, status int, code string) reply {
	m.w.t.Helper()
	r := m.call(tool, arguments)
	if r.status != status || r.doc["code"] != code || r.doc["detail"] == "" || r.doc["request_id"] == "" {
		m.w.t.Errorf("%s %v: answered %s, want %d %s", tool, arguments, r.body, status, code)
	}
	return r
}

// schemaOf is a tool's schema as the server lists it, compiled by itself.
func (w *world) schemaOf(tool string, input bool) *jsonschema.Schema {
	w.t.Helper()
	for _, t := range w.tools() {
		if t.Name != tool {
			continue
		}
		of := t.OutputSchema
		if input {
			of = t.InputSchema
		}
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft2020)
		if err := c.AddResource("mem:///"+tool, of); err != nil {
			w.t.Fatal(err)
		}
		s, err := c.Compile("mem:///" + tool)
		if err != nil {
			w.t.Fatalf("%s: %v", tool, err)
		}
		return s
	}
	w.t.Fatalf("there is no tool %s", tool)
	return nil
}

// tools are those that the server lists, to any key.
func (w *world) tools() []*sdk.Tool {
	w.t.Helper()
	if w.listed == nil {
		all, err := w.key("events:read").model().session.ListTools(w.t.Context(), nil)
		if err != nil {
			w.t.Fatal(err)
		}
		w.listed = all.Tools
	}
	return w.listed
}

func TestEveryToolIsListedWithWhatAModelHasToKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var names []string
	for _, tool := range w.tools() {
		names = append(names, tool.Name)
		if tool.Title == "" || tool.Description == "" || tool.Annotations == nil || tool.Annotations.DestructiveHint == nil || tool.Annotations.OpenWorldHint == nil {
			t.Errorf("%s is not described: %+v", tool.Name, tool)
		}
		w.schemaOf(tool.Name, true)
		w.schemaOf(tool.Name, false)
		undescribed(t, tool.Name, tool.InputSchema.(map[string]any))
	}
	want := mcp.Names()
	slices.Sort(names)
	slices.Sort(want)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	for name, reads := range map[string]bool{"search_properties": true, "quote_price": true, "list_events": true, "create_booking": false, "delete_webhook_subscription": false} {
		i := slices.IndexFunc(w.tools(), func(t *sdk.Tool) bool { return t.Name == name })
		if a := w.tools()[i].Annotations; a.ReadOnlyHint != reads {
			t.Errorf("%s: read only is %t", name, a.ReadOnlyHint)
		}
	}
}

// undescribed fails the test at a member of a tool's input without words.
func undescribed(t *testing.T, at string, schema map[string]any) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		p := p.(map[string]any)
		if p["description"] == nil {
			t.Errorf("%s.%s has no description", at, name)
		}
		undescribed(t, at+"."+name, p)
	}
}

func TestAModelFindsQuotesBooksAndFollowsAStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.key("admin").model()
	m.call("search_properties", map[string]any{"city": "Dubai", "max_guests": 2, "check_in": day(30), "check_out": day(32)}).is("data.properties.0.id", home, "data.search_metadata.limit", 10)
	m.call("get_property", map[string]any{"property_id": home}).is("data.currency", "AED", "data.max_guests", 4)
	dates := map[string]any{"property_id": home, "check_in": day(30), "check_out": day(32), "guests": 2}
	m.call("check_availability", dates).is("data.is_available", true)
	total := m.call("quote_price", dates).get("data.total_price")
	booking := with(stay(30), "total_amount", total, "idempotency_key", "once")
	id := m.call("create_booking", booking).is("data.status", "pending").text("data.booking_id")
	m.call("create_booking", booking).is("data.booking_id", id)
	m.call("get_booking", map[string]any{"booking_id": id}).is("data.status", "pending", "data.version", 2)
	m.call("list_pending_bookings", map[string]any{"host_id": hostOne}).is("data.total_count", 1)
	m.call("check_availability", dates).is("data.is_available", false)
	m.call("change_booking_status", map[string]any{"booking_id": id, "status": "cancelled", "reason": "Plans changed", "version": 2}).is("data.new_status", "cancelled")
	m.do("GET", statusPath(id), nil).want(200).is("data.status", "cancelled", "data.cancellation_reason", "Plans changed")
	if n := w.count(`select count(*) from bookings`); n != 1 {
		t.Errorf("%d bookings", n)
	}
}

func TestAModelManagesItsWebhookSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.key("admin").model()
	r := m.call("create_webhook_subscription", hook("https://a.example"))
	id := r.text("data.id")
	if !strings.HasPrefix(r.text("data.signing_secret"), "whsec_") {
		t.Errorf("no secret in %s", r.body)
	}
	m.call("update_webhook_subscription", map[string]any{"subscription_id": id, "is_active": false, "filter": "booking.guests > 1"}).
		is("data.is_active", false, "data.filter", "booking.guests > 1", "data.webhook_url", "https://a.example/")
	m.call("list_webhook_subscriptions", nil).is("data.total_count", 1, "data.subscriptions.0.id", id)
	m.call("delete_webhook_subscription", map[string]any{"subscription_id": id}).is("data.deleted_subscription_id", id)
	m.call("list_webhook_subscriptions", nil).is("data.total_count", 0)
}

func TestAToolRefusesAsTheAPIDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.key("admin").model()
	for _, c := range []struct {
		tool      string
		arguments map[string]any
		status    int
		code      string
		fields    map[string]string
	}{
		{
			"create_booking", with(stay(7), "guests", 99, "guest_info", map[string]any{"first_name": "A", "last_name": "B", "email": "nobody", "phone": "501234567"}), 422, "invalid_request",
			map[string]string{"guests": "range", "guest_info.email": "format"},
		},
		{"create_booking", with(stay(7), "nonsense", 1), 422, "invalid_request", map[string]string{"nonsense": "unknown"}},
		{"create_booking", with(stay(7), "idempotency_key", "a b"), 422, "invalid_idempotency_key", map[string]string{"idempotency_key": "format"}},
		{"create_booking", with(stay(7), "total_amount", 1), 400, "price_mismatch", map[string]string{"total_amount": "equals"}},
		{"create_booking", nil, 422, "invalid_request", map[string]string{
			"property_id": "required", "check_in": "required", "check_out": "required", "guests": "required", "guest_info": "required", "total_amount": "required",
		}},
		{"search_properties", map[string]any{"limit": "many"}, 422, "invalid_request", map[string]string{"limit": "type"}},
		{"search_properties", map[string]any{"town": "Dubai", "city": []string{"Dubai"}}, 422, "invalid_request", map[string]string{"town": "unknown", "city": "type"}},
		{"check_availability", map[string]any{"property_id": home, "check_in": "tomorrow", "check_out": nil}, 422, "invalid_request", map[string]string{"check_in": "format", "check_out": "required"}},
		{"get_booking", nil, 422, "invalid_request", map[string]string{"booking_id": "required"}},
		{"get_booking", map[string]any{"booking_id": ""}, 422, "invalid_request", map[string]string{"booking_id": "required"}},
		{"get_booking", map[string]any{"booking_id": "../../admin/keys"}, 404, "booking_not_found", map[string]string{}},
		{"get_booking", map[string]any{"booking_id": ".."}, 404, "booking_not_found", map[string]string{}},
		{"change_booking_status", map[string]any{"booking_id": "none", "status": "gone"}, 400, "invalid_status", map[string]string{"status": "enum"}},
		{"create_webhook_subscription", with(hook("ftp://a.example"), "events", []string{"x"}), 400, "invalid_events", map[string]string{"events": "enum"}},
		{"list_events", map[string]any{"types": "x"}, 422, "invalid_request", map[string]string{"types": "enum"}},
		{"list_events", nil, 503, "no_feed", map[string]string{}},
	} {
		r := m.refuses(c.tool, c.arguments, c.status, c.code)
		if got := r.fields(); !maps.Equal(got, c.fields) {
			t.Errorf("%s %v: blames %v, want %v", c.tool, c.arguments, got, c.fields)
		}
	}
	if n := w.outbox(); n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

// Whatever a model gives for an argument, it is told so or it is taken for what it
// is; it is never a fault of the API's.
func TestNoArgumentOfAToolIsAFaultOfTheAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *api.Options) {
		o.Logger = slog.New(slog.DiscardHandler) // hundreds of lines
		o.Pull = func(_ context.Context, ask schemas.Pull) (schemas.Pulled, error) {
			return schemas.Pulled{Events: []json.RawMessage{}, NextCursor: ask.After}, nil
		}
	})
	m := w.key("admin")
	right := map[string]map[string]any{
		"create_booking": stay(40), "create_webhook_subscription": hook("https://a.example"), "quote_price": {"property_id": home, "check_in": day(50), "check_out": day(52)},
		"change_booking_status":       {"booking_id": m.book(7), "status": "pending"},
		"update_webhook_subscription": {"subscription_id": m.do("POST", hooksPath, hook("https://b.example")).want(200).text("data.id")},
	}
	for _, tool := range w.tools() {
		for name, schema := range tool.InputSchema.(map[string]any)["properties"].(map[string]any) {
			wrong := spoiled(schema.(map[string]any))
			for _, h := range hostile {
				wrong = append(wrong, h)
			}
			for _, v := range wrong {
				arguments := maps.Clone(right[tool.Name])
				if arguments == nil {
					arguments = map[string]any{}
				}
				arguments[name] = v
				r := m.do("POST", "/mcp", with(message("tools/call"), "params", map[string]any{"name": tool.Name, "arguments": arguments}))
				if r.status != 200 { // the message is refused as a whole
					r.refused(422, "invalid_request")
					continue
				}
				var problem struct {
					Status int
					Code   string
				}
				if err := json.Unmarshal([]byte(r.text("result.content.0.text")), &problem); err != nil {
					t.Fatal(err)
				}
				refused := r.get("result").(map[string]any)["isError"] == true
				switch {
				case refused && (problem.Status < 400 || problem.Status >= 500 || problem.Code == ""):
					t.Errorf("%s %s=%.100v: %s", tool.Name, name, v, r.body)
				case !refused && right[tool.Name] != nil && kind(schema.(map[string]any)) != "string" && name != "guests":
					t.Errorf("%s %s=%.100v was taken: %s", tool.Name, name, v, r.body)
				}
			}
		}
	}
}

func TestAModelIsHeldToItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, reader := w.key("admin"), w.key("admin").model(), w.key("bookings:read").model()
	id := a.book(7)
	sub := a.do("POST", hooksPath, hook("https://a.example")).want(200).text("data.id")
	before := w.outbox()
	b.refuses("get_booking", map[string]any{"booking_id": id}, 404, "booking_not_found")
	b.refuses("change_booking_status", map[string]any{"booking_id": id, "status": "cancelled"}, 404, "booking_not_found")
	b.refuses("update_webhook_subscription", map[string]any{"subscription_id": sub, "is_active": false}, 404, "subscription_not_found")
	b.refuses("delete_webhook_subscription", map[string]any{"subscription_id": sub}, 404, "subscription_not_found")
	b.call("list_webhook_subscriptions", nil).is("data.total_count", 0)
	b.call("list_pending_bookings", map[string]any{"host_id": hostOne}).is("data.total_count", 0)
	reader.call("search_properties", nil).is("data.total_count", 1)
	for tool, arguments := range map[string]map[string]any{
		"create_booking": stay(9), "change_booking_status": {"booking_id": id, "status": "cancelled"}, "create_webhook_subscription": hook("https://b.example"),
		"list_webhook_subscriptions": nil, "list_events": nil,
	} {
		reader.refuses(tool, arguments, 403, "missing_scope")
	}
	w.exec(`update api_keys set revoked_at = now() where id = $1`, b.key)
	if _, err := b.session.CallTool(t.Context(), &sdk.CallToolParams{Name: "search_properties"}); err == nil || !strings.Contains(err.Error(), "Unauthorized") {
		t.Errorf("a revoked key's call ended with %v", err)
	}
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestAToolsCallCountsOnceAgainstTheKeysLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.key("admin")
	m := c.model()
	w.exec(`update api_keys set rate_limit_per_minute = 3 where id = $1`, c.key)
	m.call("search_properties", nil).want(200)
	if _, err := m.session.ListTools(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	c.do("GET", hooksPath, nil).want(200) // the third, whichever way it came
	r := m.refuses("search_properties", nil, 429, "rate_limited")
	if wait, ok := r.get("retry_after_seconds").(float64); !ok || wait < 1 || wait > 60 {
		t.Errorf("no time to wait in %s", r.body)
	}
	h := c.do("POST", "/mcp", message("tools/list")).refused(429, "rate_limited").header
	if h.Get("Retry-After") == "" || h.Get("RateLimit-Limit") != "3" {
		t.Errorf("headers %v", h)
	}
}

// message is one that asks for an answer.
func message(method string) map[string]any {
	return map[string]any{"jsonrpc": "2.0", "id": 1, "method": method}
}

func TestNoMessageIsReadWithoutAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for auth, code := range map[string]string{"": "missing_credentials", "Bearer krib_test_" + strings.Repeat("0", 32): "invalid_api_key", w.host(hostOne).auth: "invalid_api_key"} {
		c := client{w: w, auth: auth}
		for _, body := range []any{message("initialize"), message("tools/list"), message("server/discover"), "no message at all", nil} {
			c.do("POST", "/mcp", body).refused(401, code)
		}
		if s, err := c.connect(t.Context()); err == nil {
			s.Close()
			t.Errorf("%q has a session", auth)
		}
	}
}

func TestAMessageIsBoundedAndRefusedInTheAPIsForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.key("bookings:read")
	ping := text(t, message("ping"))
	c.do("POST", "/mcp", ping).want(200).is("result", map[string]any{})
	c.do("POST", "/mcp", `{"jsonrpc":"2.0","method":"x","params":"`+strings.Repeat("x", 1<<20)+`"}`).refused(413, "body_too_large")
	c.do("POST", "/mcp", "["+ping+","+ping+"]").refused(422, "invalid_json")
	c.do("POST", "/mcp", `{"jsonrpc":"2.0","id":1,"result":{}}`).refused(422, "invalid_request")
	c.do("POST", "/mcp", ping, "MCP-Protocol-Version", "1999-01-01").refused(400, "invalid_message")
	for _, method := range []string{"GET", "DELETE"} { // no session, no stream
		if got := c.do(method, "/mcp", nil).refused(405, "method_not_allowed").header.Get("Allow"); got != "POST" {
			t.Errorf("%s: Allow %q", method, got)
		}
	}
	if got := c.do("POST", "/mcp", ping, "X-Request-Id", "mine").header; got.Get("X-Request-Id") != "mine" || got.Get("Mcp-Session-Id") != "" {
		t.Errorf("headers %v", got)
	}
}

// A page that has its name resolved to this machine brings its own origin, whatever
// Host says.
func TestAPageOfAnotherOriginCannotCallTools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.key("admin")
	for _, from := range foreign {
		if from != "" {
			c.do("POST", "/mcp", message("ping"), "Origin", from).refused(403, "foreign_origin")
		}
	}
	c.do("POST", "/mcp", message("ping"), "Origin", w.srv.URL).refused(403, "foreign_origin")
	c.do("POST", "/mcp", message("ping"), "Origin", origin).want(200)
	c.do("POST", "/mcp", message("ping")).want(200)
	closed := newWorld(t, func(o *api.Options) { o.CORSOrigins = nil })
	closed.key("admin").do("POST", "/mcp", message("ping"), "Origin", origin).refused(403, "foreign_origin")
	open := newWorld(t, func(o *api.Options) { o.CORSOrigins = []string{"*"} })
	open.key("admin").do("POST", "/mcp", message("ping"), "Origin", "https://any.example").want(200)
}

func TestACallEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	entered, ended := make(chan schemas.Pull, 1), make(chan struct{})
	w := newWorld(t, func(o *api.Options) {
		o.Pull = func(ctx context.Context, ask schemas.Pull) (schemas.Pulled, error) {
			entered <- ask
			select {
			case <-ctx.Done():
				close(ended)
			case <-t.Context().Done(): // the test is over
			}
			return schemas.Pulled{}, context.Canceled
		}
	})
	m := w.key("admin").model()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := m.session.CallTool(ctx, &sdk.CallToolParams{Name: "list_events", Arguments: map[string]any{"wait": 30}})
		left <- err
	}()
	if ask := <-entered; ask.Limit != 20 || ask.For.AgentID != m.agent {
		t.Errorf("asked for %+v", ask)
	}
	cancel()
	if err := <-left; err == nil {
		t.Error("the call has an answer")
	}
	testenv.Eventually(t, "the API's request ends with its caller", func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
}

func TestACallOutlivesTheServersReadTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *api.Options) {
		o.Pull = func(ctx context.Context, ask schemas.Pull) (schemas.Pulled, error) { // a log in which nothing happens
			over, cancel := context.WithTimeout(ctx, ask.Wait)
			defer cancel()
			<-over.Done()
			return schemas.Pulled{Events: []json.RawMessage{}, NextCursor: "AQAB"}, ctx.Err()
		}
	})
	srv := httptest.NewUnstartedServer(w.srv.Config.Handler)
	srv.Config.ReadTimeout = 200 * time.Millisecond
	srv.Start()
	t.Cleanup(srv.Close)
	w.srv = srv
	w.key("admin").model().call("list_events", map[string]any{"wait": 1}).want(200).is("data.next_cursor", "AQAB")
}

// inTurn sends each request to the next of some servers.
type inTurn struct {
	hosts []string
	next  *atomic.Int64
	bearer
}

func (i inTurn) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = i.hosts[i.next.Add(1)%int64(len(i.hosts))]
	return i.bearer.RoundTrip(r)
}

func TestEveryReplicaAnswersAModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.key("admin")
	host := func(w *world) string { return strings.TrimPrefix(w.srv.URL, "http://") }
	turns := inTurn{[]string{host(w), host(w.replica())}, new(atomic.Int64), bearer{c.auth, http.DefaultTransport}}
	s, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil).
		Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: w.srv.URL + "/mcp", HTTPClient: &http.Client{Transport: turns}, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := toolUser{c, s}
	for n := range 4 {
		id := m.call("create_booking", stay(7+3*n)).text("data.booking_id")
		m.call("get_booking", map[string]any{"booking_id": id}).is("data.status", "pending")
	}
	if n := turns.next.Load(); n < 8 {
		t.Errorf("%d requests", n)
	}
}

func TestWhatAToolDoesIsKnownByTheRequestsID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.key("admin").do("POST", "/mcp", with(message("tools/call"), "params", map[string]any{"name": "get_booking", "arguments": map[string]any{"booking_id": "none"}}), "X-Request-Id", "mine").want(200)
	if !strings.Contains(r.text("result.content.0.text"), `"request_id":"mine"`) {
		t.Errorf("got %s", r.body)
	}
	testenv.Eventually(t, "the operation is counted as itself", func() bool {
		families, err := w.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if strings.Contains(f.String(), `"/api/v1/external/bookings/{booking_id}/status"`) && strings.Contains(f.String(), `"/mcp"`) {
				return true
			}
		}
		return false
	})
}
