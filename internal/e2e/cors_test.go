//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A fetched is what a page has of its call: an answer, or that the browser kept it.
type fetched struct {
	Error  string `json:"error"`
	Status int    `json:"status"`
	ETag   string `json:"etag"`
	ID     string `json:"request_id"`
	Text   string `json:"text"`
}

// fetch calls the API as a script of the page does. Of a stream it reads the first
// piece.
const fetch = `(async () => {
	try {
		const r = await fetch(%s, %s);
		const first = await r.body.getReader().read();
		return {status: r.status, etag: r.headers.get("ETag") || "", request_id: r.headers.get("X-Request-Id") || "", text: new TextDecoder().decode(first.value)};
	} catch (e) { return {error: String(e)}; }
})()`

// A page is an empty one of an origin of its own.
func page(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>A page</title>"))
	}))
	t.Cleanup(s.Close)
	return s
}

// A real browser lets a page of a listed origin call the API, with all that the API
// takes and says in headers, and keeps everything from a page of another.
func TestABrowserLetsPagesOfTheListedOriginsCallAndNoOthers(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	listed, foreign := page(t), page(t)
	k := startHere(t, "KRIB_CORS_ORIGINS=https://other.example,"+listed.URL)
	id := k.book(t, 0)
	status := "/api/v1/external/bookings/" + id + "/status"
	agent := object{"Authorization": "Bearer " + k.APIKey, "Content-Type": "application/json"}
	headers := func(more ...string) object {
		out := maps.Clone(agent)
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	calls := []struct {
		what, path string
		options    object
		status     int
		holds      string // of the answer
	}{
		{"an open route", "/api/health", object{}, 200, "healthy"},
		{"a booking", "/api/v1/bookings", object{"method": "POST", "headers": headers("Idempotency-Key", "once"), "body": text(t, k.stay(1))}, 200, "booking_id"},
		{"a status", status, object{"headers": headers("If-None-Match", `"1"`)}, 200, id},
		{"a change of another version", status, object{"method": "PUT", "headers": headers("If-Match", `"7"`), "body": `{"status":"confirmed"}`}, 409, "version_mismatch"},
		{"without credentials", status, object{}, 401, "missing_credentials"},
		{"a wrong key", status, object{"headers": headers("Authorization", "Bearer krib_dev_00000000000000000000000000000000")}, 401, "invalid_api_key"},
		{"what is not there", "/api/v1/external/bookings/none/status", object{"headers": agent}, 404, "booking_not_found"},
		{"no such method", status, object{"method": "PATCH", "headers": agent, "body": "{}"}, 405, "method_not_allowed"},
		{"the host's stream", "/api/v1/hosts/" + k.HostID + "/events", object{"headers": headers("Authorization", "Bearer "+k.HostToken, "Last-Event-ID", "x")}, 200, "event:"},
	}
	for _, at := range []*httptest.Server{foreign, listed} { // in this order: the first one must not have booked
		if err := chromedp.Run(ctx, chromedp.Navigate(at.URL)); err != nil {
			t.Fatal(err)
		}
		for _, c := range calls {
			got := fetchIn(ctx, t, k.APIURL+c.path, c.options)
			switch {
			case at == foreign:
				if got.Error == "" {
					t.Errorf("%s: a page of another origin got %+v", c.what, got)
				}
			case got.Error != "" || got.Status != c.status || got.ID == "" || !contains([]byte(got.Text), c.holds):
				t.Errorf("%s: got %+v, want %d with %s", c.what, got, c.status, c.holds)
			case c.what == "a status" && got.ETag != `"2"`:
				t.Errorf("%s: the page reads the ETag %q", c.what, got.ETag)
			}
		}
		want := map[*httptest.Server]float64{foreign: 1, listed: 2}[at]
		if a := k.host(t, "GET", "/api/v1/hosts/"+k.HostID+"/bookings", nil); a.number("total_count") != want {
			t.Errorf("%v bookings after the pages of %s, want %v", a.number("total_count"), at.URL, want)
		}
	}
}

func fetchIn(ctx context.Context, t *testing.T, url string, options object) (got fetched) {
	t.Helper()
	script := fmt.Sprintf(fetch, text(t, url), text(t, options))
	wait := func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }
	if err := chromedp.Run(ctx, chromedp.Evaluate(script, &got, wait)); err != nil {
		t.Fatal(err)
	}
	return got
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
