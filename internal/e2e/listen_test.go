//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/testenv"
)

// A developer is a krib listen that runs in this process.
type developer struct {
	out, notes testenv.Output
	stop       func() // as Ctrl-C; waits for the end
}

func listenHere(t *testing.T, env map[string]string, args ...string) *developer {
	t.Helper()
	d := &developer{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	lookup := func(k string) (string, bool) {
		v, ok := env[k]
		return v, ok
	}
	done := make(chan int, 1)
	go func() { done <- app.Run(ctx, append([]string{"listen"}, args...), lookup, &d.out, &d.notes) }()
	d.stop = sync.OnceFunc(func() {
		start := time.Now()
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("krib listen ended with %d: %s", code, d.notes.String())
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("krib listen took %v to end", took)
		}
	})
	t.Cleanup(d.stop)
	return d
}

func (d *developer) says(t *testing.T, what string) {
	t.Helper()
	testenv.Eventually(t, "krib listen says "+what, func() bool { return strings.Contains(d.notes.String(), what) })
}

// verified checks a request as an agent would and returns its event's id and booking.
func verified(t *testing.T, secret string, r testenv.Request) (id, booking string) {
	t.Helper()
	hook, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := hook.Verify(r.Body, r.Header); err != nil {
		t.Errorf("svix does not take it: %v", err)
	}
	var body struct {
		ID             string  `json:"id"`
		Type           string  `json:"type"`
		BookingID      string  `json:"booking_id"`
		SubscriptionID *string `json:"subscription_id"`
		URL            string  `json:"external_agent_url"`
		Data           object  `json:"data"`
	}
	if err := json.Unmarshal(r.Body, &body); err != nil || body.Data == nil || body.SubscriptionID == nil || !strings.HasSuffix(body.URL, "/hooks") {
		t.Errorf("not a webhook's body: %v, %s", err, r.Body)
	}
	h := r.Header
	if h.Get("Webhook-Id") != body.ID || h.Get("X-Webhook-Event") != body.Type || h.Get("X-Webhook-Attempt") != "1" || h.Get("X-Webhook-Id") == "" ||
		!strings.HasPrefix(h.Get("X-Webhook-Signature"), "sha256=") || h.Get("X-Webhook-Timestamp") == "" || h.Get("Content-Type") != "application/json" {
		t.Errorf("not a webhook's headers: %v", h)
	}
	return body.ID, body.BookingID
}

const listenSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// Book, receive at a local server, verify; stop the server, book behind its back,
// start it again: everything comes, once, although the API had gone away.
func TestListenForwardsSignedEventsAndLosesNothingOverARestart(t *testing.T) {
	t.Parallel()
	dir, database := t.TempDir(), "DATABASE_URL="+testenv.Database(t)
	env := append(kafkaEnv(t), database)
	k := startBinary(t, dir, env...)
	local := testenv.Receiver(t, nil)
	d := listenHere(t, map[string]string{"KRIB_DATA_DIR": dir, "KRIB_SIGNING_SECRET": listenSecret, "KRIB_BEARER": "my-own-key"}, "--forward-to", local.URL()+"/hooks")
	d.says(t, "listening to "+k.APIURL)
	var bookings []string
	seen := map[string]int{}
	take := func(events int) {
		for range events {
			r := local.Next(t)
			id, booking := verified(t, listenSecret, r)
			if seen[id]++; seen[id] > 1 {
				t.Errorf("%s came %d times", id, seen[id])
			}
			if r.Header.Get("Authorization") != "Bearer my-own-key" || !slices.Contains(bookings, booking) {
				t.Errorf("not what was booked, or without the key: %s", r.Body)
			}
		}
	}
	bookings = append(bookings, k.book(t, 0))
	take(2)
	k.stop()
	d.says(t, "trying again")
	// At its old address, since that is what it listens to.
	k = startBinaryWith(t, dir, append(devArgs(dir), "--http-addr", strings.TrimPrefix(k.APIURL, "http://")), env...)
	bookings = append(bookings, k.book(t, 1))
	take(2)
	d.says(t, "connected again")
	bookings = append(bookings, k.book(t, 2))
	take(2)
	testenv.Eventually(t, "all is printed", func() bool { return strings.Count(d.out.String(), "\n") == 6 })
	d.stop()
	if want := "events: 6, delivered: 6, failed: 0"; !strings.Contains(d.notes.String(), want) {
		t.Errorf("it does not say %q: %s", want, d.notes.String())
	}
	if out := d.out.String(); strings.Count(out, "\n") != 6 || !strings.Contains(out, bookings[2]+"  200  ") {
		t.Errorf("it printed %s", out)
	}
	k.stop()
}

func TestListenTellsOfFailuresAndPrintsJSON(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	env := map[string]string{"KRIB_API_URL": k.APIURL, "KRIB_API_KEY": k.APIKey}
	refusing := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Status: http.StatusTeapot} })
	d := listenHere(t, env, "--forward-to", refusing.URL()+"/hooks", "--events", "booking.created")
	nobody := listenHere(t, env, "--forward-to", "http://127.0.0.1:1/hooks", "--events", "booking.created")
	only := listenHere(t, env, "--no-forward", "--json")
	for _, l := range []*developer{d, nobody, only} {
		l.says(t, "listening to")
	}
	d.says(t, "signing secret: whsec_")
	id := k.book(t, 0)
	testenv.Eventually(t, "all have printed it", func() bool {
		return strings.Contains(d.out.String(), "\n") && strings.Contains(nobody.out.String(), "\n") && strings.Count(only.out.String(), "\n") == 2
	})
	if got := d.out.String(); !strings.Contains(got, "booking.created") || !strings.Contains(got, id+"  418  ") {
		t.Errorf("printed %q", got)
	}
	if got := nobody.out.String(); !strings.Contains(got, id+"  failed after ") || !strings.Contains(got, "refused") {
		t.Errorf("printed %q", got)
	}
	secret := strings.TrimSpace(strings.SplitN(strings.SplitN(d.notes.String(), "signing secret: ", 2)[1], "\n", 2)[0])
	verified(t, secret, refusing.Next(t))
	var line struct {
		Type      string `json:"type"`
		BookingID string `json:"booking_id"`
		Event     object `json:"event"`
	}
	if err := json.Unmarshal([]byte(strings.SplitN(only.out.String(), "\n", 2)[0]), &line); err != nil || line.Type != "booking.created" || line.BookingID != id || line.Event["data"] == nil {
		t.Errorf("printed %s, %v", only.out.String(), err)
	}
	d.stop()
	only.stop()
	if !strings.Contains(d.notes.String(), "events: 1, delivered: 0, failed: 1") || !strings.Contains(only.notes.String(), "events: 2") {
		t.Errorf("said %q and %q", d.notes.String(), only.notes.String())
	}
	since := listenHere(t, env, "--no-forward", "--since", "1h", "--events", "booking.created")
	testenv.Eventually(t, "what was before is printed", func() bool { return strings.Contains(since.out.String(), id) })
}

func TestListenSaysInOneLineThatTheKeyIsRefused(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	var out, said testenv.Output
	env := map[string]string{"KRIB_API_URL": k.APIURL, "KRIB_API_KEY": "krib_dev_" + fmt.Sprintf("%032d", 0)}
	code := app.Run(t.Context(), []string{"listen", "--no-forward"}, func(n string) (string, bool) { v, ok := env[n]; return v, ok }, &out, &said)
	if code != 1 || !strings.Contains(said.String(), "answered 401") || strings.Contains(said.String(), env["KRIB_API_KEY"]) {
		t.Errorf("ended with %d: %s", code, said.String())
	}
}
