//go:build e2e

package e2e

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A watch hears what a page complains of, and whom it asks.
type watch struct {
	mu         sync.Mutex
	complaints []string
	hosts      []string
}

func watched(ctx context.Context) *watch {
	w := &watch{}
	chromedp.ListenTarget(ctx, func(ev any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			w.complaints = append(w.complaints, e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning || e.Type == runtime.APITypeAssert {
				w.complaints = append(w.complaints, string(e.Args[0].Value)+e.Args[0].Description)
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
				w.complaints = append(w.complaints, e.Entry.Text+" "+e.Entry.URL)
			}
		case *network.EventRequestWillBeSent:
			if u, err := url.Parse(e.Request.URL); err == nil && u.Scheme != "data" {
				w.hosts = append(w.hosts, u.Host)
			}
		}
	})
	return w
}

func (w *watch) quiet(t *testing.T, host string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.complaints) > 0 {
		t.Errorf("the console says %q", w.complaints)
	}
	if len(w.hosts) == 0 || slices.ContainsFunc(w.hosts, func(h string) bool { return h != host }) {
		t.Errorf("the page asked %q, want only %s", w.hosts, host)
	}
}

// picture keeps a screenshot where KRIB_TEST_SCREENSHOTS names a folder.
func picture(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("KRIB_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	var png []byte
	if err := chromedp.Run(ctx, chromedp.FullScreenshot(&png, 100)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/"+name+".png", png, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheDocumentsAreBrowsableAndAskNobodyElse(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	k := startHere(t)
	host := strings.TrimPrefix(k.APIURL, "http://")
	if err := chromedp.Run(ctx, network.Enable(), log.Enable()); err != nil {
		t.Fatal(err)
	}
	w := watched(ctx)
	var operations, response string
	err := chromedp.Run(ctx,
		chromedp.EmulateViewport(1280, 900),
		chromedp.Navigate(k.APIURL+"/docs/"),
		chromedp.WaitVisible(`#operations-Bookings-createBooking`, chromedp.ByQuery),
		chromedp.Text(`#api`, &operations, chromedp.ByQuery),
		chromedp.Click(`#operations-Bookings-createBooking button`, chromedp.ByQuery),
		chromedp.WaitVisible(`#operations-Bookings-createBooking .responses-inner .highlight-code`, chromedp.ByQuery),
		chromedp.Text(`#operations-Bookings-createBooking .responses-inner`, &response, chromedp.ByQuery),
	)
	if err != nil {
		t.Fatalf("the API's page: %v", err)
	}
	picture(ctx, t, "api")
	if !strings.Contains(operations, "/api/v1/hosts/{host_id}/notifications") || !strings.Contains(operations, "OAS 3.1") {
		t.Errorf("the page shows %q", operations)
	}
	if !strings.Contains(response, "booking_id") || !strings.Contains(response, "bkg_") {
		t.Errorf("the answer's example is %q", response)
	}
	w.quiet(t, host)
	var channels, messages string
	err = chromedp.Run(ctx,
		chromedp.Navigate(k.APIURL+"/docs/topics.html"),
		chromedp.WaitVisible(`main[data-state="shown"]`, chromedp.ByQuery),
		chromedp.Text(`#channels`, &channels, chromedp.ByQuery),
		chromedp.Text(`#messages`, &messages, chromedp.ByQuery),
	)
	if err != nil {
		t.Fatalf("the topics' page: %v", err)
	}
	picture(ctx, t, "topics")
	for _, topic := range topicsOf(t, k) {
		if !strings.Contains(channels, topic) {
			t.Errorf("the page does not show %s", topic)
		}
	}
	if !strings.Contains(messages, "special_requests") || !strings.Contains(messages, "x-pii") || !strings.Contains(messages, "nine_tenths") {
		t.Error("the page does not show members, marks and values")
	}
	w.quiet(t, host)
}
