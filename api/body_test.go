package api_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf16"
)

// utf16Of is a text in UTF-16, the low byte first.
func utf16Of(s string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		b.WriteByte(byte(u))
		b.WriteByte(byte(u >> 8))
	}
	return b.String()
}

func TestABodyThatIsNoPlainUTF8IsRefusedWithTheReason(t *testing.T) {
	w := newWorld(t)
	a := w.key("admin")
	good := text(t, stay(7))
	var zipped, deflated bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(good))
	_ = z.Close()
	d := zlib.NewWriter(&deflated)
	_, _ = d.Write([]byte(good))
	_ = d.Close()
	for name, c := range map[string]struct {
		body, code string
		headers    []string
	}{
		"gzip":                 {zipped.String(), "unsupported_encoding", []string{"Content-Encoding", "gzip"}},
		"gzip that is not":     {good, "unsupported_encoding", []string{"Content-Encoding", "GZIP"}},
		"gzip unsaid":          {zipped.String(), "unsupported_encoding", nil},
		"zlib unsaid":          {deflated.String(), "unsupported_encoding", nil},
		"zstd unsaid":          {"\x28\xb5\x2f\xfd\x04\x00", "unsupported_encoding", nil},
		"brotli":               {"\x8b\x01\x80", "unsupported_encoding", []string{"Content-Encoding", "br"}},
		"two codings":          {good, "unsupported_encoding", []string{"Content-Encoding", "identity, deflate"}},
		"chunks named as one":  {good, "unsupported_encoding", []string{"Content-Encoding", "aws-chunked"}},
		"latin 1":              {good, "unsupported_charset", []string{"Content-Type", "application/json; charset=ISO-8859-1"}},
		"utf-16":               {good, "unsupported_charset", []string{"Content-Type", `application/json; charset="UTF-16"`}},
		"utf-16 with a mark":   {"\xff\xfe" + utf16Of(good), "unsupported_charset", nil},
		"utf-16 without":       {utf16Of(good), "unsupported_charset", nil},
		"utf-16, the high one": {"\xfe\xff\x00{\x00}", "unsupported_charset", nil},
	} {
		r := a.do("POST", bookings, c.body, c.headers...).refused(415, c.code)
		if r.header.Get("Accept-Encoding") != "identity" {
			t.Errorf("%s: headers %v", name, r.header)
		}
		a.do("POST", "/mcp", c.body, c.headers...).refused(415, c.code)
	}
	for i, c := range [][]string{
		{"Content-Encoding", "identity"},
		{"Content-Encoding", ""},
		{"Content-Type", "application/json; charset=UTF-8"},
		{"Content-Type", "application/json;charset=utf8"},
		{"Content-Type", "no type;;"},
		{"Content-Type", "text/plain"},
	} {
		a.do("POST", bookings, text(t, stay(10+3*i)), c...).want(200)
	}
	// A byte order mark is passed, and is no other body to an idempotency key.
	first := a.do("POST", bookings, "\ufeff"+text(t, stay(60)), "Idempotency-Key", "marked").want(200).text("data.booking_id")
	a.do("POST", bookings, text(t, stay(60)), "Idempotency-Key", "marked").want(200).is("data.booking_id", first)
	w.host(hostOne).do("POST", "/api/v1/hosts/"+string(hostOne)+"/events/send", "\ufeff{\"a\":1}").want(200).is("event.a", 1)
}

func TestBodiesAreBoundedByTheirRoute(t *testing.T) {
	w := newWorld(t, withStripe)
	a, owner := w.key("platform", "admin"), w.host(hostOne)
	white := func(n int) string { return "{" + strings.Repeat(" ", n-2) + "}" }
	for path, most := range map[string]int{bookings: 128 << 10, hooksPath: 128 << 10, "/mcp": 256 << 10, "/api/v1/external/sse/broadcast": 128 << 10, "/api/v1/external/webhooks/test?event_type=test.webhook": 128 << 10} {
		if r := a.do("POST", path, white(most)); r.status == 413 && r.doc["code"] == "body_too_large" {
			t.Errorf("%s: a body of %d bytes is refused", path, most)
		}
		a.do("POST", path, white(most+1)).refused(413, "body_too_large")
	}
	a.do("POST", "/api/v1/external/notifications/bulk", "["+strings.Repeat(" ", 1<<20-2)+"]").refused(422, "invalid_request")
	a.do("POST", "/api/v1/external/notifications/bulk", "["+strings.Repeat(" ", 1<<20-1)+"]").refused(413, "body_too_large")
	owner.do("PUT", "/api/v1/hosts/"+string(hostOne)+"/settings", white(128<<10+1)).refused(413, "body_too_large")
}

// A batch of the most items that there may be, all their members given, is taken.
func TestTheLargestBatchIsWithinTheBoundOfValues(t *testing.T) {
	w := newWorld(t)
	a := w.key("platform", "admin")
	item := with(note("x"), "host_id", hostOne, "booking_id", "b", "property_id", "p", "priority", "low", "action_required", true, "action_url", "/x", "expires_at", day(30)+"T00:00:00Z")
	items := make([]any, 100)
	for i := range items {
		items[i] = item
	}
	if r := a.do("POST", "/api/v1/external/notifications/bulk", items); r.status != 200 && r.status != 429 {
		t.Errorf("answered %d %.300s", r.status, r.body)
	}
	zeros := `{"x":[` + strings.TrimSuffix(strings.Repeat("0,", 5_000), ",") + "]}"
	r := a.do("POST", bookings, zeros).refused(422, "invalid_json")
	if got := r.fields(); got[""] != "values" {
		t.Errorf("blames %v", got)
	}
}

// Half of a surrogate pair is a valid escape of JSON and no character: readers of what is
// passed on refuse it, or each takes it for another text.
func TestHalvesOfSurrogatePairsAreRefusedWhereverTheyStand(t *testing.T) {
	w := newWorld(t)
	a, owner := w.key("platform", "admin"), w.host(hostOne)
	send, broadcast := "/api/v1/hosts/"+string(hostOne)+"/events/send", "/api/v1/external/sse/broadcast"
	id := a.do("POST", hooksPath, hook("https://a.example")).want(200).text("data.id")
	booking := a.book(7)
	before := w.outbox()
	for _, half := range []string{`\ud800`, `\uDFFF`, `\udc00\ud800`, `\ud83d\u0041`, `a\ud83d`, `\ud83d\\ude00`, `\uD83D\uD83D\uDE00`} {
		for _, c := range []struct {
			c                  client
			method, path, body string
			field              string
		}{
			{owner, "POST", send, `{"a":{"b":[1,{"c":"HALF"}]}}`, "a.b.1.c"},
			{owner, "POST", send, `{"a":{"HALF":1}}`, "a"},
			{a, "POST", broadcast, `{"title":"HALF"}`, "title"},
			{a, "POST", "/api/v1/external/webhooks/test?event_type=test.webhook", `{"x":["HALF"]}`, "x.0"},
			{a, "POST", hooksPath + "/" + id + "/test", `{"event_type":"test.webhook","test_data":{"x":"HALF"}}`, "test_data.x"},
			{a, "POST", inbox(hostOne), strings.Replace(text(t, note("MARK")), "MARK", "HALF", 1), "title"},
			{a, "POST", "/api/v1/external/bookings/" + booking + "/messages", `{"message":"HALF","title":"x"}`, "message"},
			{a, "POST", bookings, strings.Replace(text(t, stay(40)), "A quiet room", "HALF", 1), "special_requests"},
			{a, "PATCH", hooksPath + "/" + id, `{"description":"HALF"}`, "description"},
		} {
			r := c.c.do(c.method, c.path, strings.Replace(c.body, "HALF", half, 1)).refused(422, "invalid_request")
			if r.fields()[c.field] != "format" {
				t.Errorf("%s %s: blames %v", c.path, half, r.fields())
			}
		}
	}
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
	owner.do("POST", send, `{"a":"\ud83d\ude00 \\ud800"}`).want(200).is("event.a", `😀 \ud800`)
}

// What separates lines for some reader is escaped on its way out and refused where a text
// is one line.
func TestCharactersThatEndLinesNeverGoOutRaw(t *testing.T) {
	w := newWorld(t)
	a, owner := w.key("platform", "admin"), w.host(hostOne)
	for _, c := range []string{"\u007f", "\u0080", "\u0085", "\u009f", "\u2028", "\u2029"} {
		body := text(t, map[string]any{"a": "x" + c + "y", "b" + c: []string{c}})
		r := owner.do("POST", "/api/v1/hosts/"+string(hostOne)+"/events/send", body).want(200)
		if bytes.ContainsAny(r.body, c) || r.text("event.a") != "x"+c+"y" {
			t.Errorf("%q: answered %s", c, r.body)
		}
		var stored []byte
		if err := w.sql.QueryRow(t.Context(), `select value from outbox order by id desc limit 1`).Scan(&stored); err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsAny(stored, c) || !json.Valid(stored) {
			t.Errorf("%q: the record is %s", c, stored)
		}
		for field, body := range map[string]any{
			"guest_info.first_name": with(stay(40), "guest_info", map[string]any{"first_name": "A" + c + "B", "last_name": "C", "email": "a@example.com", "phone": "501234567"}),
		} {
			if got := a.do("POST", bookings, body).want(422).fields(); got[field] != "format" {
				t.Errorf("%q: %v", c, got)
			}
		}
		if got := a.do("POST", hooksPath, with(hook("https://c.example"), "agent_name", "A"+c)).want(422).fields(); got["agent_name"] != "format" {
			t.Errorf("%q: %v", c, got)
		}
		refused := a.do("POST", bookings, with(stay(40), "x"+c, 1)).want(422)
		if bytes.ContainsAny(refused.body, c) {
			t.Errorf("%q: answered %s", c, refused.body)
		}
	}
}
