//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
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
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
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
