package api_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/krib-ai/krib/api"
)

func TestBodiesThatAreRefusedWhole(t *testing.T) {
	w := newWorld(t)
	a := w.key("admin")
	good, err := json.Marshal(stay(7))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"empty": "", "blank": " \n", "null": "null", "a list": "[]", "text": `"x"`, "a number": "1", "cut off": string(good[:len(good)-1]),
		"trailing data": string(good) + "{}", "trailing brace": string(good) + "}", "not UTF-8": strings.Replace(string(good), "Test", "T\xffst", 1),
		"a byte order mark": "\ufeff" + string(good), "single quotes": "{'a':1}", "a comment": string(good) + "//", "NaN": `{"guests":NaN}`,
		"deep lists": `{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}", "very deep": strings.Repeat(`{"a":`, 100_000),
		"deep objects": strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33),
	} {
		if r := a.do("POST", bookings, body); r.status != 422 || r.doc["code"] != "invalid_json" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	a.do("POST", bookings, `{"x":"`+strings.Repeat("x", 1<<20)+`"}`).refused(413, "body_too_large")
	a.do("POST", bookings, with(stay(7), "special_requests", strings.Repeat("x", 1<<20-1000))).want(422)
}

func TestMembersThatAreRefused(t *testing.T) {
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
	many := a.do("POST", bookings, `{`+strings.Repeat(`"`+strings.Repeat("n", 300)+`":1,`, 2000)+`"x":1}`).want(422)
	if len(many.body) > 20_000 {
		t.Errorf("%d bytes of errors", len(many.body))
	}
	if n := w.outbox(); n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

// FuzzDecode sends any body to every endpoint that takes one: it may be accepted
// or refused, but never brings the handler down.
func FuzzDecode(f *testing.F) {
	w := newWorld(f, func(o *api.Options) { o.Logger = slog.New(slog.DiscardHandler) }) // a fuzz target may not log through f
	a := w.key("platform", "admin")
	for _, v := range []any{stay(7), hook("https://a.example"), note("x"), map[string]any{"status": "confirmed", "version": 1}} {
		raw, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, s := range []string{"", "{", `{"a":{"a":[null,1e400,"\ud800"]}}`, `{"guests":1e5,"events":[[]]}`, "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, at := range [][2]string{{"POST", bookings}, {"POST", hooksPath}, {"POST", inbox(hostOne)}, {"PUT", statusPath("none")}} {
			r := httptest.NewRequest(at[0], at[1], strings.NewReader(string(body)))
			r.Header.Set("Authorization", a.auth)
			got := httptest.NewRecorder()
			w.srv.Config.Handler.ServeHTTP(got, r)
			if got.Code >= http.StatusInternalServerError || !json.Valid(got.Body.Bytes()) {
				t.Errorf("%s %s answered %d: %s", at[0], at[1], got.Code, got.Body)
			}
		}
	})
}
