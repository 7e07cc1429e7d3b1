//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/testenv"
)

// command runs a command of the CLI on a running program's topics.
func command(t *testing.T, k *krib, args ...string) (code int, out string) {
	t.Helper()
	env := func(name string) (string, bool) {
		return strings.Join(k.KafkaBrokers, ","), name == "KRIB_KAFKA_BROKERS"
	}
	var stdout, stderr bytes.Buffer
	code = app.Run(t.Context(), args, env, &stdout, &stderr)
	if stderr.Len() > 0 {
		t.Logf("krib %v says %s", args, &stderr)
	}
	return code, stdout.String()
}

type accounted struct {
	Subscription string `json:"subscription_id"`
	Matched      int    `json:"matched"`
	Delivered    int    `json:"delivered"`
	Waiting      int    `json:"waiting"`
	Dead         int    `json:"dead"`
	Withheld     int    `json:"withheld"`
	InFlight     int    `json:"in_flight"`
	Unknown      int    `json:"unknown"`
}

// audited is the account of the last hour, in which nothing may be missing.
func audited(t *testing.T, k *krib) map[string]accounted {
	t.Helper()
	code, out := command(t, k, "audit", "--since", "1h", "--grace", "0", "--json")
	if code != 0 {
		t.Fatalf("the audit ended with %d: %s", code, out)
	}
	var r struct{ Subscriptions []accounted }
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	lines := map[string]accounted{}
	for _, l := range r.Subscriptions {
		lines[l.Subscription] = l
	}
	return lines
}

// The whole pipeline: what died is accounted for, listed, requeued and arrives, and
// the account of the event's own run stays what it was.
func TestWhatDiedIsAccountedForAndRequeued(t *testing.T) {
	t.Parallel()
	k := startHere(t, "KRIB_RETRY_TIERS=100ms,200ms")
	var mended atomic.Bool
	good := testenv.Receiver(t, nil)
	bad := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		if mended.Load() {
			return testenv.Response{Status: http.StatusNoContent}
		}
		return testenv.Response{Status: http.StatusBadGateway}
	})
	well, _ := k.subscribe(t, good.URL(), "booking.created")
	ill, _ := k.subscribe(t, bad.URL(), "booking.created")
	const bookings = 3
	for i := range bookings {
		k.book(t, i)
	}
	log := "/api/v1/external/webhook-subscriptions/" + ill + "/deliveries"
	in := func(filter string) int { return int(k.agent(t, "GET", log+"?"+filter, nil).number("returned_count")) }
	testenv.Eventually(t, "all three are dead", func() bool { return in("status=dead") == bookings })
	lines := audited(t, k)
	if got := lines[well]; got.Delivered != bookings || got.Matched != bookings {
		t.Errorf("the good one's account is %+v", got)
	}
	if got := lines[ill]; got.Dead != bookings || got.Matched != bookings {
		t.Errorf("the bad one's account is %+v", got)
	}
	if code, out := command(t, k, "dead", "list", "--json", "--subscription", ill); code != 0 || strings.Count(out, "\n") != bookings {
		t.Errorf("listed with %d: %s", code, out)
	}
	mended.Store(true)
	if code, out := command(t, k, "dead", "requeue", "--subscription", ill); code != 0 || !strings.Contains(out, "requeued 3 ") {
		t.Errorf("requeued with %d: %s", code, out)
	}
	testenv.Eventually(t, "all three arrive by hand", func() bool { return in("status=delivered&trigger=manual") == bookings })
	if in("run=0&status=dead") != bookings || audited(t, k)[ill].Dead != bookings {
		t.Error("the event's own run is another one now")
	}
	week := k.agent(t, "GET", "/api/v1/external/webhook-subscriptions/"+ill+"/statistics", nil)
	if week.number("windows", "7d", "dead") != bookings || week.number("windows", "7d", "delivered") != bookings || week.number("windows", "7d", "attempts") != 4*bookings {
		t.Errorf("statistics %s", week.Raw)
	}

	k.agent(t, "POST", "/api/v1/external/webhook-subscriptions/"+ill+"/toggle", nil)
	testenv.Eventually(t, "the topic says that it is off", func() bool {
		_, out := command(t, k, "dead", "requeue", "--subscription", ill, "--dry-run")
		return strings.Contains(out, "3 of them are of subscriptions that are disabled")
	})
	command(t, k, "dead", "requeue", "--subscription", ill)
	testenv.Eventually(t, "all three are withheld", func() bool { return in("status=withheld&trigger=manual") == bookings })
}
