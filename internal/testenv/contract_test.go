package testenv

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const smallContract = `{
  "openapi": "3.1.0", "info": {"title": "x", "version": "1"},
  "paths": {"/api/things/{id}": {"get": {"responses": {
    "200": {"description": "ok", "content": {"application/json": {"schema": {
      "type": "object", "required": ["at"], "properties": {"at": {"type": "string", "format": "date-time"}, "n": {"type": ["integer", "null"]}}}}}},
    "404": {"description": "no", "content": {"application/problem+json": {"schema": {"type": "object", "required": ["code"], "properties": {"code": {"type": "string"}}}}}}
  }}}}
}`

func TestAnAnswerThatIsNotTheDocumentsIsReported(t *testing.T) {
	c, err := NewContract([]byte(smallContract))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []struct {
		what, path, kind, body string
		status                 int
		want                   string // part of the report; empty for none
	}{
		{"what is right", "/api/things/1", "application/json", `{"at":"2026-03-01T09:30:00Z","n":null}`, 200, ""},
		{"an error that is right", "/api/things/1", "application/problem+json", `{"code":"none"}`, 404, ""},
		{"a path that is none", "/api/others", "application/problem+json", `{"code":"none"}`, 404, ""},
		{"a page", "/docs/", "text/html", `<p>`, 200, ""},
		{"a member that is missing", "/api/things/1", "application/json", `{}`, 200, "at"},
		{"another type", "/api/things/1", "application/json", `{"at":"2026-03-01T09:30:00Z","n":"1"}`, 200, "n"},
		{"another format", "/api/things/1", "application/json", `{"at":"today"}`, 200, "date-time"},
		{"a member that is not named", "/api/things/1", "application/json", `{"at":"2026-03-01T09:30:00Z","more":1}`, 200, "more"},
		{"an error without a member", "/api/things/1", "application/problem+json", `{}`, 404, "code"},
		{"a status that is not said", "/api/things/1", "application/problem+json", `{"code":"x"}`, 500, "500"},
		{"another kind of body", "/api/things/1", "text/plain", `x`, 200, "text/plain"},
		{"an operation that is not said", "/api/others", "application/json", `{}`, 200, "/api/others"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", a.kind)
			w.WriteHeader(a.status)
			_, _ = w.Write([]byte(a.body))
		}))
		var got string
		client := srv.Client()
		client.Transport = c.Through(client.Transport, func(_ *http.Request, err error) { got = err.Error() })
		res, err := client.Get(srv.URL + a.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		srv.Close()
		if (got == "") != (a.want == "") || !strings.Contains(got, a.want) {
			t.Errorf("%s: reported %q, want %q", a.what, got, a.want)
		}
	}
}

func TestADocumentThatIsNoOpenAPIIsRefused(t *testing.T) {
	for _, doc := range []string{"", "{}", `{"openapi":"3.1.0","paths":[]}`, `{"openapi":"3.1.0","info":{"title":"x"},"paths":{}}`} {
		if _, err := NewContract([]byte(doc)); err == nil {
			t.Errorf("%s was taken", doc)
		}
	}
}
