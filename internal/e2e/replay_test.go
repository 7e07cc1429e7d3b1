//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/testenv"
)

// replay runs `krib replay` against the program, as an agent would.
func (k *krib) replay(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	env := map[string]string{"KRIB_API_URL": k.APIURL, "KRIB_API_KEY": k.APIKey}
	lookup := func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
	var stdout, stderr bytes.Buffer
	code = app.Run(t.Context(), append([]string{"replay"}, args...), lookup, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// withKey is the program as another caller sees it.
func (k *krib) withKey(key string) *krib {
	other := *k
	other.APIKey = key
	return &other
}

func (k *krib) replayed(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := k.replay(t, args...)
	if code != 0 {
		t.Fatalf("krib replay %v ended with %d: %s%s", args, code, out, errs)
	}
	return out
}

// arrivals counts each webhook-id that came.
func arrivals(e *testenv.Endpoint) map[string]int {
	n := map[string]int{}
	for _, r := range e.All() {
		n[r.Header.Get("Webhook-Id")]++
	}
	return n
}

// A receiver is down, its subscription is switched off, it is mended and switched
// on again: after one replay it has every event, each exactly once.
func TestADisabledSubscriptionThatWasMendedAndReplayedHasEveryEventOnce(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	endpoint, witness := testenv.Receiver(t, nil), testenv.Receiver(t, nil)
	sub, _ := k.subscribe(t, endpoint.URL(), "booking.created", "host.response_needed", "booking.confirmed")
	k.subscribe(t, witness.URL(), "booking.created", "host.response_needed", "booking.confirmed")
	confirm := func(id string) {
		k.agent(t, "PUT", "/api/v1/external/bookings/"+id+"/status", object{"status": "confirmed"})
	}
	confirm(k.book(t, 0))
	testenv.Eventually(t, "what was before the gap arrives", func() bool { return endpoint.Count() == 3 })
	toggle := "/api/v1/external/webhook-subscriptions/" + sub + "/toggle"
	since := time.Now().Add(-time.Millisecond).UTC().Format(time.RFC3339Nano)
	k.agent(t, "POST", toggle, nil)
	for n := range 10 {
		confirm(k.book(t, 1+n))
	}
	if code, _, errs := k.replay(t, "start", "--subscription", sub, "--since", since, "--wait"); code != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "enable it first") {
		t.Errorf("a replay to a disabled subscription ended with %d: %s", code, errs)
	}
	testenv.Eventually(t, "the witness has everything", func() bool { return witness.Count() == 33 })
	k.agent(t, "POST", toggle, nil)
	counted := k.replayed(t, "start", "--subscription", sub, "--since", since, "--only-failed", "--dry-run")
	k.replayed(t, "start", "--subscription", sub, "--since", since, "--only-failed", "--wait")
	got, want := arrivals(endpoint), arrivals(witness)
	for id := range want {
		if got[id] != 1 {
			t.Errorf("%s arrived %d times", id, got[id])
		}
	}
	if len(got) != 33 || len(want) != 33 {
		t.Errorf("%d events arrived, %d at the witness; want 33", len(got), len(want))
	}
	if !strings.HasPrefix(counted, fmt.Sprintf("%d events", endpoint.Count()-3)) {
		t.Errorf("the dry run said %q, and %d were sent", counted, endpoint.Count()-3)
	}
}

// The program is killed in the middle of a replay to a subscription of today.
func TestAReplaySurvivesAKillOfTheWholeProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopPostgres(t, dir) })
	env := kafkaEnv(t)
	k := startBinary(t, dir, env...)
	const bookings = 120
	witness := testenv.Receiver(t, nil)
	k.subscribe(t, witness.URL(), "booking.created", "host.response_needed")
	for n := range bookings {
		k.book(t, n)
	}
	testenv.Eventually(t, "the witness has everything", func() bool { return witness.Count() == 2*bookings })
	hold := make(chan struct{})
	var held atomic.Bool
	endpoint := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if r.N < 30 {
			return testenv.Response{}
		}
		held.Store(true)
		return testenv.Response{Hang: hold}
	})
	sub, _ := k.subscribe(t, endpoint.URL(), "booking.created", "host.response_needed")
	var job struct{ ID, State string }
	if err := json.Unmarshal([]byte(k.replayed(t, "start", "--subscription", sub, "--since", "1h", "--json")), &job); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "it is in the middle", held.Load)
	k.kill()
	close(hold)
	k = startBinary(t, dir, env...)
	if code, out, errs := k.replay(t, "show", job.ID, "--subscription", sub, "--wait"); code != 0 || !strings.Contains(out, "done: 100% read, 240 sent: 240 delivered") {
		t.Errorf("it ended with %d: %s%s", code, out, errs)
	}
	got, want := arrivals(endpoint), arrivals(witness)
	for id := range want {
		if got[id] == 0 {
			t.Errorf("%s did not arrive", id)
		}
	}
	if len(got) != len(want) || len(want) != 2*bookings {
		t.Errorf("%d events arrived, and %d at the witness", len(got), len(want))
	}
	k.stop()
}

func TestReplaysAreStartedListedShownAndCancelledByACommand(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	k.book(t, 0)
	second := k.book(t, 1)
	k.fannedOut(t, 2) // or the subscription gets them as they happen
	hold := make(chan struct{})
	endpoint := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Hang: hold} })
	sub, _ := k.subscribe(t, endpoint.URL(), "booking.created", "booking.confirmed")
	var job struct {
		ID, State, Kind string
		Progress        struct{ Matched, Produced, Waiting int }
	}
	decode := func(out string) {
		t.Helper()
		if err := json.Unmarshal([]byte(out), &job); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if out := k.replayed(t, "start", "--subscription", sub, "--booking", second, "--dry-run"); !strings.HasPrefix(out, "1 event would be sent\n") {
		t.Errorf("the dry run said %q", out)
	}
	decode(k.replayed(t, "start", "--subscription", sub, "--since", "24h", "--types", "booking.created", "--json"))
	testenv.Eventually(t, "both are on their way", func() bool {
		decode(k.replayed(t, "show", "--json", "--subscription", sub, job.ID))
		return job.State == "done" && job.Progress.Waiting == 2
	})
	if out := k.replayed(t, "cancel", job.ID, "--subscription", sub); !strings.Contains(out, "done") {
		t.Errorf("a replay that was done, cancelled: %s", out)
	}
	list := k.replayed(t, "list", "--subscription", sub)
	if lines := strings.Split(strings.TrimSpace(list), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[1], job.ID) || !strings.Contains(lines[2], "count") {
		t.Errorf("the list is\n%s", list)
	}
	close(hold)
	k.replayed(t, "show", job.ID, "--subscription", sub, "--wait")
	// One delivery, by its id, from the request that brought it.
	delivery := endpoint.Next(t).Header.Get("X-Webhook-Id")
	k.replayed(t, "start", "--subscription", sub, "--delivery", delivery, "--wait")
	if n := endpoint.Count(); n != 3 {
		t.Errorf("%d requests", n)
	}
	// A receiver that fails makes the command fail.
	broken := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Status: http.StatusGone} })
	sub, _ = k.subscribe(t, broken.URL(), "booking.created")
	if code, _, errs := k.replay(t, "start", "--subscription", sub, "--booking", second, "--wait"); code != 1 || !strings.Contains(errs, "krib replay: ") {
		t.Errorf("a replay that was refused ended with %d: %s", code, errs)
	}
}

func TestWhatIsWrongWithAReplayCommandIsOneLine(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	for want, args := range map[string][]string{
		"say start, list":         {"again"},
		"--subscription must":     {"list"},
		"--since, --booking":      {"start", "--subscription", "s"},
		"such as 6h":              {"start", "--subscription", "s", "--since", "yesterday"},
		"the id of a replay":      {"show", "--subscription", "s"},
		"--delivery stands alone": {"start", "--subscription", "s", "--delivery", "d", "--since", "1h"},
		"must be a URL":           {"list", "--subscription", "s", "--api-url", "nonsense"},
		"there is no webhook":     {"start", "--subscription", "s", "--since", "1h"},
		"no webhook subscription": {"cancel", "r", "--subscription", "s"},
		"calling the API":         {"list", "--subscription", "s", "--api-url", "http://127.0.0.1:1"},
		"set KRIB_API_KEY":        {"list", "--subscription", "s", "--api-key", "krib_dev_00000000000000000000000000000000"},
		"not as Krib's API":       {"list", "--subscription", "s", "--api-url", k.ReceiverURL},
		"1 arguments too many":    {"list", "--subscription", "s", "x"},
	} {
		code, _, errs := k.replay(t, args...)
		known := []int{1, 2}
		if !slices.Contains(known, code) || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) || strings.Contains(errs, "krib_dev_") {
			t.Errorf("%v ended with %d: %q, want %q in it", args, code, errs, want)
		}
	}
}

func TestAReplayCommandWithAnUnknownKeyIsRefusedByTheAPI(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	code, _, errs := k.withKey("krib_dev_00000000000000000000000000000000").replay(t, "list", "--subscription", "s")
	if code != 1 || !strings.Contains(errs, "the API key is unknown") || strings.Contains(errs, "krib_dev_") {
		t.Errorf("ended with %d: %s", code, errs)
	}
}

// fannedOut waits until the bookings so far have been fanned out: what a host is
// told of them is written in one transaction with their deliveries.
func (k *krib) fannedOut(t *testing.T, bookings int) {
	t.Helper()
	db := openDB(t, k)
	testenv.Eventually(t, "the bookings are fanned out", func() bool {
		return count(t, db, `select count(*) from host_notifications where type = 'new_booking'`) >= bookings
	})
}
