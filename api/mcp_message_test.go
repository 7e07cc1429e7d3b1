package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestAMessagesIDComesBackAsItWasWritten(t *testing.T) {
	w := newWorld(t)
	c := w.key("admin")
	for _, id := range []string{
		"1", "0", "-7", "9007199254740993", "-9007199254740993", "18446744073709551616", "123456789012345678901234567890", "1.0", "1e2", "2.5", `"1"`, `"a b"`, `""`, `"é😀"`, `"\u00e9\ud83d\ude00"`,
		`"<&>"`, `"` + strings.Repeat("x", 5000) + `"`,
	} {
		for _, method := range []string{`"ping"`, `"tools/list"`, `"no/such"`, `"tools/call","params":{"name":"search_properties"}`, `"tools/call","params":{"name":"no_such_tool"}`} {
			r := c.do("POST", "/mcp", `{"jsonrpc":"2.0","id":`+id+`,"method":`+method+`}`).want(200)
			if !bytes.Contains(r.body, []byte(`"id":`+id+`,`)) && !bytes.Contains(r.body, []byte(`"id":`+id+`}`)) {
				t.Errorf("%s of %s: answered %.300s", id, method, r.body)
			}
		}
	}
	c.do("POST", "/mcp", `{"jsonrpc":"2.0","id":9007199254740993,"method":"no/such"}`, "MCP-Protocol-Version", "2025-11-25").want(200).is("error.code", -32601)
}

func TestAnUnknownMethodIsRefusedInTheProtocolsForm(t *testing.T) {
	w := newWorld(t)
	c := w.key("bookings:read")
	for _, method := range []string{"no/such", "tools/calls", "TOOLS/LIST", "rpc.discover", "tools", "x y", "é"} {
		for _, version := range []string{"2025-06-18", "2025-11-25"} {
			r := c.do("POST", "/mcp", with(message(method), "params", map[string]any{"x": 1}), "MCP-Protocol-Version", version).want(200).is("error.code", -32601, "id", 1, "jsonrpc", "2.0")
			if !strings.Contains(r.text("error.message"), method) {
				t.Errorf("%s: answered %s", method, r.body)
			}
		}
	}
	// The newest version asks for the status too.
	c.do("POST", "/mcp", with(message("no/such"), "id", json.RawMessage("9007199254740993"), "params", map[string]any{"_meta": map[string]any{"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}),
		"MCP-Protocol-Version", "2026-07-28", "MCP-Method", "no/such").unknownMethod(t, "9007199254740993")
	if r := c.do("POST", "/mcp", map[string]any{"jsonrpc": "2.0", "method": "notifications/no_such"}).want(202); len(r.body) != 0 {
		t.Errorf("a notification is answered %s", r.body)
	}
	c.do("POST", "/mcp/", message("ping")).want(200).is("id", 1)
	c.do("GET", "/mcp/", nil).refused(405, "method_not_allowed")
}

func (r reply) unknownMethod(t *testing.T, id string) {
	t.Helper()
	if r.status != 404 || !bytes.Contains(r.body, []byte(`"id":`+id)) || !bytes.Contains(r.body, []byte("-32601")) {
		t.Errorf("answered %d %s", r.status, r.body)
	}
}

// What a tool's schema calls an integer is none in quotes, wherever its request has it.
func TestAnArgumentIsOfItsSchemasTypeInEveryTool(t *testing.T) {
	w := newWorld(t)
	m := w.key("admin").model()
	dates := map[string]any{"property_id": home, "check_in": day(50), "check_out": day(52)}
	for _, c := range []struct {
		tool, name string
		right      map[string]any
		wrong      []any
		taken      []any
	}{
		{"search_properties", "limit", nil, []any{"2", "2.0", true, []int{2}, 2.5}, []any{2, 2.0}},
		{"search_properties", "latitude", map[string]any{"longitude": 55}, []any{"25", false}, []any{25, 25.5}},
		{"search_properties", "city", nil, []any{5, true, []string{"Dubai"}}, []any{"5"}},
		{"check_availability", "guests", dates, []any{"2", "two", true}, []any{2, 2.0}},
		{"quote_price", "guests", dates, []any{"2", "two", true}, []any{2, 2.0}},
		{"create_booking", "guests", stay(60), []any{"2", true, map[string]any{}}, []any{2.0}},
		{"list_webhook_subscriptions", "active_only", nil, []any{"true", 1, "True"}, []any{true}},
		{"get_property", "property_id", nil, []any{5, true}, []any{home}},
		{"create_booking", "idempotency_key", stay(70), []any{5, true}, []any{"five"}},
	} {
		for _, v := range c.wrong {
			if got := m.refuses(c.tool, with(copyOf(c.right), c.name, v), 422, "invalid_request").fields(); got[c.name] != "type" {
				t.Errorf("%s %s=%v: blames %v", c.tool, c.name, v, got)
			}
		}
		for _, v := range c.taken {
			m.call(c.tool, with(copyOf(c.right), c.name, v)).want(200)
		}
	}
}

func TestACallOfNothingButErrorsHasAShortAnswer(t *testing.T) {
	w := newWorld(t)
	arguments := map[string]any{strings.Repeat("n", 1000): 1}
	for i := range 4000 {
		arguments[fmt.Sprintf("unknown_%d", i)] = i
	}
	r := w.key("admin").do("POST", "/mcp", with(message("tools/call"), "params", map[string]any{"name": "create_booking", "arguments": arguments})).want(200)
	if len(r.body) > 20_000 || !strings.Contains(string(r.body), "invalid_request") {
		t.Errorf("%d bytes: %.300s", len(r.body), r.body)
	}
}

// copyOf is a copy that can be written to.
func copyOf(m map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, m)
	return out
}

// Whatever becomes of a message, it is one of the key's requests.
func TestEveryMessageCountsOnceAgainstTheKeysLimit(t *testing.T) {
	w := newWorld(t)
	c := w.key("admin")
	w.exec(`update api_keys set rate_limit_per_minute = 1000 where id = $1`, c.key)
	call := func(params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + params + `}`
	}
	left := 1000
	for what, body := range map[string]string{
		"a ping": text(t, message("ping")), "a notification": `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "an unknown method": text(t, message("no/such")),
		"no JSON": "{", "a list": "[]", "no message": `{"id":1}`, "a member twice": `{"id":1,"id":2}`,
		"an unknown tool": call(`{"name":"no_such"}`), "no tool": call(`{}`), "no params": `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, "params of another kind": call(`5`),
		"a wrong name": call(`{"name":5}`), "wrong arguments": call(`{"name":"search_properties","arguments":[]}`), "unknown arguments": call(`{"name":"search_properties","arguments":{"town":1}}`),
		"a missing id": call(`{"name":"get_booking","arguments":{}}`), "a call": call(`{"name":"search_properties","arguments":{}}`), "a call that is refused": call(`{"name":"create_booking","arguments":{}}`),
		"wrong metadata": call(`{"name":"search_properties","_meta":5}`),
	} {
		c.do("POST", "/mcp", body)
		left-- // and one for the look
		left--
		if got := c.do("GET", hooksPath, nil).want(200).header.Get("RateLimit-Remaining"); got != fmt.Sprint(left) {
			t.Fatalf("%s: %s are left, want %d", what, got, left)
		}
	}
	c.do("POST", "/mcp?nonsense=1", message("ping")).want(422)
	w.exec(`update api_keys set rate_limit_per_minute = 1 where id = $1`, c.key)
	for _, body := range []string{"{", text(t, message("no/such")), call(`{"name":"no_such"}`), call(`5`)} {
		c.do("POST", "/mcp", body).refused(429, "rate_limited")
	}
	r := c.do("POST", "/mcp", call(`{"name":"search_properties","arguments":{"town":1}}`)).want(200)
	if !strings.Contains(r.text("result.content.0.text"), "rate_limited") {
		t.Errorf("answered %s", r.body)
	}
}
