//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/krib-ai/krib/internal/testenv"
)

// browser opens a headless Chromium. Where there is none the test is skipped,
// except in CI, which installs one.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" && os.Getenv("CI") != "" {
		t.Fatal("there is no Chromium, and CI must have one")
	}
	if path == "" {
		t.Skip("there is no Chromium on the PATH: apt-get install chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	alloc, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A host's page shows a booking the moment it is made, and a mark that was set
// on it.
func TestTheHostsPageShowsABookingLive(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	k := startHere(t)
	err := chromedp.Run(ctx,
		chromedp.Navigate(k.DashboardURL+"#host="+k.HostID+"&token="+k.HostToken),
		chromedp.WaitVisible(`#state[data-state="live"]`, chromedp.ByQuery),
	)
	if err != nil {
		t.Fatalf("the page did not become live: %v", err)
	}
	k.book(t, 0)
	var title, unread, fragment string
	err = chromedp.Run(ctx,
		chromedp.WaitVisible(`#list li`, chromedp.ByQuery),
		chromedp.Text(`#list li`, &title, chromedp.ByQuery),
		chromedp.WaitVisible(`#unread`, chromedp.ByQuery),
		chromedp.Text(`#unread`, &unread, chromedp.ByQuery),
		chromedp.Location(&fragment),
		chromedp.Click(`#list li button`, chromedp.ByQuery),
		chromedp.WaitNotVisible(`#unread`, chromedp.ByQuery),
	)
	if err != nil {
		t.Fatalf("the booking did not appear: %v", err)
	}
	if !contains([]byte(title), "New Booking Request") || unread != "1" {
		t.Errorf("the list shows %q, the badge %q", title, unread)
	}
	if contains([]byte(fragment), k.HostToken) {
		t.Error("the token stays in the address bar")
	}
	if a := k.host(t, "GET", "/api/v1/hosts/"+k.HostID+"/notifications/count", nil); a.number("unread_count") != 0 {
		t.Errorf("unread after the click: %s", a.Raw)
	}
}

// A tab is one page of the host in the test's browser.
type tab struct {
	t     *testing.T
	ctx   context.Context //nolint:containedctx // chromedp keeps a tab in its context
	close context.CancelFunc
}

// open brings the host's page up in a tab of its own and waits until it is live.
func open(browser context.Context, t *testing.T, page string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	p := &tab{t, ctx, cancel}
	p.run("the page did not become live", chromedp.Navigate(page), chromedp.WaitVisible(`#state[data-state="live"]`, chromedp.ByQuery))
	return p
}

func (p *tab) run(what string, actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

// told waits until the page has logged so many notifications, which only the
// stream brings, and looks again whether it was told of one twice.
func (p *tab) told(n int) {
	p.t.Helper()
	var live, rows int
	look := []chromedp.Action{
		chromedp.Evaluate(`[...document.querySelectorAll("#live li")].filter((e) => e.textContent.includes("  notification")).length`, &live),
		chromedp.Evaluate(`document.querySelectorAll("#list li").length`, &rows),
	}
	deadline := time.Now().Add(time.Minute)
	for live < n && time.Now().Before(deadline) {
		p.run("looking at the page", look...)
	}
	if live != n || rows != n {
		p.t.Errorf("the page was told of %d notifications and shows %d, want %d", live, rows, n)
	}
}

// connections are the streams of the whole process.
func (k *krib) connections(t *testing.T) float64 {
	t.Helper()
	return k.agent(t, "GET", "/api/v1/sse/statistics", nil).number("total_connections")
}

func TestTwoTabsShareOneStreamAndAnotherTakesOver(t *testing.T) {
	t.Parallel()
	chrome := browser(t)
	k := startHere(t)
	if err := chromedp.Run(chrome); err != nil { // the browser itself: closing the first tab must not end it
		t.Fatal(err)
	}
	page := k.DashboardURL + "#host=" + k.HostID + "&token=" + k.HostToken
	first := open(chrome, t, page)
	second := open(chrome, t, page)
	k.book(t, 0)
	first.told(1)
	second.told(1)
	if n := k.connections(t); n != 1 {
		t.Errorf("two tabs hold %v streams", n)
	}
	first.close()
	k.book(t, 1)
	second.told(2)
	testenv.Eventually(t, "one stream is left", func() bool { return k.connections(t) == 1 })
	k.book(t, 2)
	second.told(3)
}

func TestAPageGoesOnAfterARestartWithNothingLostOrRepeated(t *testing.T) {
	t.Parallel()
	chrome := browser(t)
	dir, database := t.TempDir(), "DATABASE_URL="+testenv.Database(t)
	env := append(kafkaEnv(t), database)
	k := startBinary(t, dir, env...)

	// What stays while the server behind it is another one.
	var behind atomic.Pointer[url.URL]
	turn := func() {
		u, err := url.Parse(k.APIURL)
		if err != nil {
			t.Fatal(err)
		}
		behind.Store(u)
	}
	turn()
	door := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind.Load())
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(door.Close)

	p := open(chrome, t, door.URL+"/dashboard/#host="+k.HostID+"&token="+k.HostToken)
	k.book(t, 0)
	p.told(1)
	k.book(t, 1)
	k.kill() // before or after the page has heard of it
	k = startBinary(t, dir, env...)
	turn()
	k.book(t, 2)
	p.told(3)
	var state string
	p.run("reading the state", chromedp.AttributeValue(`#state`, "data-state", &state, nil, chromedp.ByQuery))
	if state != "live" {
		t.Errorf("the page says %s", state)
	}
	if n := k.connections(t); n != 1 {
		t.Errorf("%v streams", n)
	}
}

// A customer's page that uses the module with a filter, and whose cursor means
// nothing any more.
func TestACustomersPageReadsItsStateAnewAndIsToldWhatItAskedFor(t *testing.T) {
	t.Parallel()
	chrome := browser(t)
	k := startHere(t)
	p := open(chrome, t, k.DashboardURL+"#host="+k.HostID+"&token="+k.HostToken)
	p.run("starting the module", chromedp.Evaluate(fmt.Sprintf(`import("./krib-events.js").then(({ KribEvents }) => {
		window.loads = [], window.events = [], window.states = [];
		new KribEvents({
			host: %q, token: async () => %q, filters: { events: ["custom", "system_announcement"] },
			load: async (reason) => { loads.push(reason); return loads.length === 1 ? "0123456789-0-1" : null; },
			onEvent: (kind, data) => events.push(kind + " " + data.message),
			onState: (state) => states.push(state),
		}).start();
	}); 0`, k.HostID, k.HostToken), nil))
	p.run("waiting for the second load", chromedp.Poll(`window.loads?.length === 2 && states.at(-1) === "live"`, nil))
	k.book(t, 0)
	k.agent(t, "POST", "/api/v1/external/sse/broadcast", object{"message": "noon"})
	k.host(t, "POST", "/api/v1/hosts/"+k.HostID+"/events/send", object{"message": "door"})
	var got string
	p.run("waiting for the events", chromedp.Poll(`events.length >= 2`, nil),
		chromedp.Evaluate(`JSON.stringify([loads, events])`, &got))
	if want := `[["start","epoch"],["system_announcement noon","custom door"]]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
