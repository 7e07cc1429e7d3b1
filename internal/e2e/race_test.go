//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/krib-ai/krib/internal/testenv"
)

// serveBinary runs the built program's `krib serve` in a process of its own and
// returns its API's URL.
func serveBinary(t *testing.T, roles string, vars map[string]string) string {
	t.Helper()
	cmd := exec.Command(binary(t), "serve", "--roles", roles, "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	cmd.Env = os.Environ()
	for k, v := range vars {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	log := &testenv.Output{}
	cmd.Stderr, cmd.Stdout = log, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			t.Errorf("krib serve --roles=%s ended with %v\n%s", roles, err, log)
		}
	})
	var at string
	testenv.Eventually(t, "krib serve --roles="+roles+" is ready", func() bool {
		if m := readyLine.FindStringSubmatch(log.String()); m != nil {
			at = "http://" + m[1]
		}
		return at != ""
	})
	return at
}

// Sixty-four clients at two processes want every one of a hundred bookings
// confirmed or cancelled, each as the version that it has seen. One wins each, and
// the topic tells of that one alone.
func TestOfConfirmAndCancelThroughTwoProcessesOneWinsEachBooking(t *testing.T) {
	t.Parallel()
	const stays, racers = 100, 64
	one := startBinary(t, t.TempDir(), append(kafkaEnv(t), "DATABASE_URL="+testenv.Database(t))...)
	other := *one
	other.APIURL = serveBinary(t, "api", installation(t, one))
	processes := []*krib{one, &other}
	ids := make([]string, stays)
	for i := range ids {
		ids[i] = processes[i%2].book(t, i)
	}

	statuses := []string{"confirmed", "cancelled"}
	var mu sync.Mutex
	won := map[string][]string{}
	start := make(chan struct{})
	var clients sync.WaitGroup
	for c := range racers {
		k, status := processes[c%2], statuses[c/2%2]
		clients.Go(func() {
			<-start
			for _, id := range ids {
				a, err := k.try(t.Context(), "PUT", "/api/v1/external/bookings/"+id+"/status", k.APIKey, object{"status": status, "version": 2})
				switch {
				case err != nil:
					t.Errorf("client %d: %v", c, err)
				case a.Status == http.StatusOK:
					mu.Lock()
					won[id] = append(won[id], status)
					mu.Unlock()
				case a.Status != http.StatusConflict:
					t.Errorf("client %d: %d %s", c, a.Status, a.Raw)
				}
			}
		})
	}
	close(start)
	clients.Wait()

	events := map[string][]string{}
	for _, r := range readPlain(t, one, "booking.events", 3*stays) {
		var e logged
		if err := json.Unmarshal(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if events[e.Booking.ID] = append(events[e.Booking.ID], e.Type); e.Version != len(events[e.Booking.ID]) {
			t.Errorf("booking %s: version %d where %d should be", e.Booking.ID, e.Version, len(events[e.Booking.ID]))
		}
	}
	both := map[string]int{}
	for i, id := range ids {
		if len(won[id]) != 1 {
			t.Errorf("%q won booking %s, want one of them", won[id], id)
			continue
		}
		both[won[id][0]]++
		if want := []string{"booking.created", "host.response_needed", "booking." + won[id][0]}; !slices.Equal(events[id], want) {
			t.Errorf("the events of booking %s are %q, want %q", id, events[id], want)
		}
		a := processes[(i+1)%2].agent(t, "GET", "/api/v1/external/bookings/"+id+"/status", nil)
		if a.text("status") != won[id][0] || a.number("version") != 3 {
			t.Errorf("booking %s is %s, want %s", id, a.Raw, won[id][0])
		}
	}
	db := openDB(t, one)
	if n := count(t, db, `select (select count(*) from outbox_stuck) + (select count(*) from bookings where version <> 3) + abs($1 - (select count(*) from bookings))`, stays); n != 0 {
		t.Errorf("%d records are stuck, bookings were changed twice, or are too many", n)
	}
	t.Logf("won: %v", both)
}
