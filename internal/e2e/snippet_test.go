//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// customersPage is what the snippet of docs/STREAM.md leaves to the page that has it: host,
// currentToken, readNotifications, show, apply and indicator. The first reading of
// the list lies still until the test says go, so that something happens between the
// state and the stream.
const customersPage = `<!doctype html><title>A customer's page</title>
<script>
const host = %q, currentToken = async () => %q;
const asked = [], shown = [], applied = [], states = [];
let go = false;
const readNotifications = async () => {
  const r = await fetch("/api/v1/hosts/" + host + "/notifications", { headers: { Authorization: "Bearer " + await currentToken() } });
  const { data } = await r.json();
  asked.push(data.stream_cursor);
  while (!go) await new Promise((resolve) => setTimeout(resolve, 10));
  return data;
};
const show = (list) => shown.push(list.notifications.map((n) => n.booking_id));
const apply = (kind, data) => applied.push([kind, data]);
const indicator = (state) => states.push(state);
</script>
<script type="module" src="/page.mjs"></script>`

// snippet is the block for browsers, as it stands.
func snippet(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/STREAM.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)\n<!-- browser: page.mjs -->\n```js\n(.*?)```\n").FindSubmatch(doc)
	if m == nil {
		t.Fatal("docs/STREAM.md has no block for browsers")
	}
	return string(m[1])
}

// site has the page beside the API, on one origin.
func site(t *testing.T, k *krib) string {
	t.Helper()
	api, err := url.Parse(k.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	serve := func(kind, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, text) // a page that was left
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(api)
		r.Out.Host = r.In.Host
	}})
	mux.Handle("/page.html", serve("text/html; charset=utf-8", fmt.Sprintf(customersPage, k.HostID, k.HostToken)))
	mux.Handle("/page.mjs", serve("text/javascript", snippet(t)))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// framed are the next n frames of the snippet's filter that the host's stream has
// behind a cursor, as a page gets them.
func (k *krib) framed(t *testing.T, cursor string, n int) (out []any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := k.stream(ctx, cursor, func(f frame) bool {
		if f.Event == "notification" || f.Event == "booking_update" {
			out = append(out, []any{f.Event, f.json(t)})
		}
		return len(out) < n
	})
	if err != nil || len(out) != n {
		t.Fatalf("the stream has %d frames behind the cursor: %v", len(out), err)
	}
	return out
}

// What the document tells browsers to do shows a page its state and then each event
// behind it once and in order, whatever happens between the two.
func TestTheDocumentedModuleBringsAPageItsStateAndEachEventOnce(t *testing.T) {
	t.Parallel()
	chrome := browser(t)
	k := startHere(t)
	inbox := "/api/v1/hosts/" + k.HostID + "/notifications"
	const frames = 3 // of a booking: two events, and the notification of one
	begin := k.host(t, "GET", inbox, nil).text("stream_cursor")
	before := k.book(t, 0)
	k.framed(t, begin, frames)

	at := site(t, k)
	run := func(what string, actions ...chromedp.Action) {
		t.Helper()
		if err := chromedp.Run(chrome, actions...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	var cursor string
	run("opening the page", chromedp.Navigate(at+"/page.html"), chromedp.Poll(`asked.length === 1`, nil), chromedp.Evaluate(`asked[0]`, &cursor))
	k.book(t, 1)
	k.framed(t, cursor, frames)
	run("going on", chromedp.Evaluate(`go = true`, nil), chromedp.Poll(`states.at(-1) === "live"`, nil))
	k.host(t, "POST", "/api/v1/hosts/"+k.HostID+"/events/send", object{"message": "not of the filter"})
	k.book(t, 2)

	want := k.framed(t, cursor, 2*frames)
	var applied, loaded string
	run("waiting for the events", chromedp.Poll(fmt.Sprintf(`applied.length >= %d`, 2*frames), nil),
		chromedp.Evaluate(`JSON.stringify(applied)`, &applied), chromedp.Evaluate(`JSON.stringify(shown)`, &loaded))
	var got []any
	if err := json.Unmarshal([]byte(applied), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the page was told\n%s\nand the stream has\n%v", applied, want)
	}
	if loaded != fmt.Sprintf(`[[%q]]`, before) {
		t.Errorf("the state that it was shown is %s", loaded)
	}
}
