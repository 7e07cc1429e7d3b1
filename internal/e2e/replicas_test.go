//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
)

// chaosKills is how often a replica is killed: 10 times, or as `make chaos` says.
func chaosKills(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("KRIB_CHAOS_KILLS"))
	if os.Getenv("KRIB_CHAOS_KILLS") == "" {
		return 10
	}
	if err != nil || n < 1 {
		t.Fatalf("KRIB_CHAOS_KILLS must be a number from 1 on")
	}
	return n
}

// A switcher is a dashboard that goes from one replica to another whenever its
// stream ends, and ends it itself now and then.
type switcher struct {
	t    *testing.T
	name string
	k    krib // but for the URL

	mu   sync.Mutex
	seen map[string]int // notifications by id
}

func (s *switcher) run(ctx context.Context, replicas []*atomic.Pointer[string], from string) {
	last := from
	for i := 0; ctx.Err() == nil; i++ {
		s.k.APIURL = *replicas[i%len(replicas)].Load()
		left := 1 + rand.IntN(400)
		last, _ = s.k.stream(ctx, last, func(f frame) bool {
			switch f.Event {
			case "resync":
				s.t.Errorf("%s could not resume: %s", s.name, f.Data)
			case "notification":
				var n struct {
					Data struct {
						ID string `json:"id"`
					} `json:"data"`
				}
				if err := json.Unmarshal([]byte(f.Data), &n); err != nil {
					s.t.Errorf("frame %s: %v", f.Data, err)
				}
				s.mu.Lock()
				s.seen[n.Data.ID]++
				s.mu.Unlock()
				left--
			}
			return left > 0
		})
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *switcher) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// Two replicas have the streams, and either is killed again and again. Dashboards
// that began with a list and switch between them have every notification once.
func TestTwoReplicasOfTheStreamAreKilledAndNothingIsLostOrRepeated(t *testing.T) {
	t.Parallel()
	dev, vars := servers(t)
	k := *dev
	k.APIURL = serveRoles(t, "api,relay,fanout,sinks,jobs", maps.Clone(vars))
	victims, urls := make([]*process, 2), make([]*atomic.Pointer[string], 2)
	for i := range victims {
		own := maps.Clone(vars)
		own["KRIB_HTTP_ADDR"] = "127.0.0.1:0"
		victims[i], urls[i] = startProcess(t, "api,push", own), &atomic.Pointer[string]{}
		urls[i].Store(new(victims[i].url()))
	}
	inbox := "/api/v1/hosts/" + k.HostID + "/notifications"
	from := k.host(t, http.MethodGet, inbox, nil).text("stream_cursor")

	watch, stopWatch := context.WithCancel(t.Context())
	defer stopWatch()
	var dashboards sync.WaitGroup
	clients := make([]*switcher, 3)
	for i := range clients {
		clients[i] = &switcher{t: t, name: fmt.Sprint("dashboard ", i), k: k, seen: map[string]int{}}
		dashboards.Go(func() { clients[i].run(watch, urls, from) })
	}
	load, stopLoad := context.WithCancel(t.Context())
	sent := map[string]bool{}
	var sender sync.WaitGroup
	sender.Go(func() {
		for n := 0; load.Err() == nil; n++ {
			items := make([]object, 20)
			for i := range items {
				items[i] = object{"host_id": k.HostID, "type": "guest_message", "title": fmt.Sprint(n, ".", i), "message": "m"}
			}
			for _, r := range k.agent(t, http.MethodPost, "/api/v1/external/notifications/bulk", items).data("results").([]any) {
				sent[r.(map[string]any)["notification_id"].(string)] = true
			}
			select {
			case <-load.Done():
			case <-time.After(25 * time.Millisecond):
			}
		}
	})
	for i := range chaosKills(t) {
		select {
		case <-time.After(time.Duration(200+rand.IntN(800)) * time.Millisecond):
		case <-t.Context().Done():
		}
		v := i % len(victims)
		victims[v].kill()
		victims[v].start()
		urls[v].Store(new(victims[v].url()))
	}
	stopLoad()
	sender.Wait()
	for _, c := range clients {
		testenv.Eventually(t, c.name+" has every notification", func() bool { return c.count() >= len(sent) })
	}
	stopWatch()
	dashboards.Wait()
	for _, c := range clients {
		for id, n := range c.seen {
			if n != 1 || !sent[id] {
				t.Errorf("%s saw %s %d times", c.name, id, n)
			}
		}
	}
	t.Logf("%d notifications, %d kills", len(sent), chaosKills(t))
}
