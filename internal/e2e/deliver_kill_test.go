//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
)

// A process is one of the built binary's, which serves some roles.
type process struct {
	t     *testing.T
	roles string
	env   []string
	cmd   *exec.Cmd
	log   *testenv.Output
	ended chan struct{}
}

// startProcess runs `krib serve` as a process of its own and waits until it is
// ready.
func startProcess(t *testing.T, roles string, vars map[string]string) *process {
	t.Helper()
	p := &process{t: t, roles: roles, env: os.Environ()}
	for k, v := range vars {
		p.env = append(p.env, k+"="+v)
	}
	// The same ordinal each time: who comes back is the member that it was, and need
	// not wait until the group has given it up.
	p.env = append(p.env, "KRIB_INSTANCE="+strings.ReplaceAll(roles, ",", "-"))
	p.start()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the log of krib serve --roles=%s:\n%s", roles, p.log)
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(binary(p.t), "serve", "--roles", p.roles, "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	p.cmd.Env, p.log, p.ended = p.env, &testenv.Output{}, make(chan struct{})
	p.cmd.Stderr, p.cmd.Stdout = p.log, io.Discard
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd, ended := p.cmd, p.ended
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	testenv.Eventually(p.t, "krib serve --roles="+p.roles+" is ready", func() bool { return strings.Contains(p.log.String(), "msg=ready") })
}

// url is where its API listens.
func (p *process) url() string {
	p.t.Helper()
	m := readyLine.FindStringSubmatch(p.log.String())
	if m == nil {
		p.t.Fatalf("krib serve --roles=%s does not say where it listens", p.roles)
	}
	return "http://" + m[1]
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// servers are the settings of an installation whose database and brokers a run of
// dev has planted the seed into.
func servers(t *testing.T) (*krib, map[string]string) {
	t.Helper()
	dev := startHere(t, "KRIB_KAFKA_BROKERS="+strings.Join(testenv.Brokers(t), ","))
	dev.stop()
	return dev, installation(t, dev)
}

// installation is what a process needs to serve the same installation as dev.
func installation(t *testing.T, dev *krib) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dev.dir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var id struct {
		MasterKeys string `json:"master_keys"`
		JWTSecret  string `json:"jwt_secret"`
	}
	if err := json.Unmarshal(b, &id); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"DATABASE_URL": dev.DatabaseURL, "KRIB_KAFKA_BROKERS": strings.Join(dev.KafkaBrokers, ","), "KRIB_MASTER_KEYS": id.MasterKeys, "KRIB_JWT_SECRET": id.JWTSecret,
		"KRIB_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8", "KRIB_WEBHOOK_ALLOW_HTTP": "true", "LOG_LEVEL": "info",
	}
}

const (
	// inFlight is what one endpoint's lane may have under way.
	inFlight = 64
	// uncommitted is longer than an offset waits for its commit (200 ms), also on a
	// busy machine. What failed since is tried once more after a kill; what was taken
	// is not, for the topic of attempts says so.
	uncommitted = time.Second
)

// A flaky receiver fails every third request by chance, so that retries are under
// way at every kill, and knows when, and which events it has taken.
type flaky struct {
	mu     sync.Mutex
	failed []time.Time
	took   map[string]bool
}

func (f *flaky) answer(r testenv.Request) testenv.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rand.IntN(3) > 0 {
		f.took[r.Header.Get("webhook-id")] = true
		return testenv.Response{}
	}
	f.failed = append(f.failed, time.Now())
	return testenv.Response{Status: http.StatusInternalServerError}
}

func (f *flaky) taken() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.took)
}

// since counts what failed in the last d.
func (f *flaky) since(d time.Duration) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, _ := slices.BinarySearchFunc(f.failed, time.Now().Add(-d), time.Time.Compare)
	return len(f.failed) - from
}

// Those who deliver and those who hold retries are killed again and again under
// load, each in a process of its own. Every event arrives, an attempt is one row,
// and no more arrives twice than was in flight or had just failed.
func TestDeliverAndRetryKilledUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	dev, vars := servers(t)
	vars["KRIB_RETRY_TIERS"] = "100ms,100ms,200ms,200ms,300ms,300ms,500ms,500ms,1s,1s,2s,2s"
	receiver := flaky{took: map[string]bool{}}
	endpoint := testenv.Receiver(t, receiver.answer)
	k := *dev
	k.APIURL = serveRoles(t, "api,relay,fanout,sinks,push,jobs", maps.Clone(vars))
	deliver, retry := startProcess(t, "deliver", vars), startProcess(t, "retry", vars)
	id, _ := k.subscribe(t, endpoint.URL(), "booking.created", "host.response_needed", "booking.confirmed", "booking.cancelled")
	k.agent(t, http.MethodPatch, "/api/v1/external/webhook-subscriptions/"+id, object{"max_failed_attempts": 1000})

	bookings := k.bookUntilStopped(t)
	repeatable := 0
	for i := range 6 {
		select {
		case <-time.After(time.Duration(300+rand.IntN(1200)) * time.Millisecond):
		case <-t.Context().Done():
		}
		victim := retry
		if i%2 == 0 {
			victim = deliver
			repeatable += inFlight + receiver.since(uncommitted)
		}
		victim.kill()
		victim.start()
	}
	n := bookings()

	db := openDB(t, &k)
	events := 4 * n // created, response needed, confirmed, cancelled
	testenv.Eventually(t, "every event was delivered", func() bool { return receiver.taken() >= events })
	testenv.Eventually(t, "the log says of every event that it was taken", func() bool {
		return count(t, db, `select count(distinct event_id) from webhook_deliveries where state = 'delivered'`) >= events
	})
	for _, c := range []struct {
		what, query string
		want        int
	}{
		{"deliveries", `select count(*) from webhook_deliveries`, events},
		{"events with an attempt that was taken", `select count(distinct event_id) from webhook_attempts where outcome = 'delivered'`, events},
		{"attempts with more than one row", `select count(*) from (select from webhook_attempts group by delivery_id, run, number having count(*) > 1) x`, 0},
		{"deliveries that lack an attempt before their last", `select count(*) from (select from webhook_attempts group by delivery_id, run having count(*) <> max(number)) x`, 0},
	} {
		if got := count(t, db, c.query); got != c.want {
			t.Errorf("%d %s, want %d", got, c.what, c.want)
		}
	}
	repeated := 0
	testenv.Eventually(t, fmt.Sprintf("at most %d requests are beyond the attempts that are known", repeatable), func() bool {
		repeated = endpoint.Count() - count(t, db, `select count(*) from webhook_attempts`)
		return repeated <= repeatable
	})
	t.Logf("%d bookings, %d events, %d requests, %d of them repeated of at most %d", n, events, endpoint.Count(), repeated, repeatable)
}

// bookUntilStopped lets three agents make, confirm and cancel bookings. The function
// that it returns stops them and says how many they made.
func (k *krib) bookUntilStopped(t *testing.T) func() int {
	t.Helper()
	load, stop := context.WithCancel(t.Context())
	var agents sync.WaitGroup
	var made atomic.Int64
	for a := range 3 {
		agents.Go(func() {
			for i := 0; load.Err() == nil; i++ {
				b := k.book(t, a+3*(i%60))
				made.Add(1)
				for _, s := range []string{"confirmed", "cancelled"} {
					k.agent(t, http.MethodPut, "/api/v1/external/bookings/"+b+"/status", object{"status": s})
				}
				select {
				case <-load.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	return func() int {
		stop()
		agents.Wait()
		return int(made.Load())
	}
}
