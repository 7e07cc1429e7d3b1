//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/testenv"
)

// kills is how often the program is killed under load.
const kills = 10

// A crash is a test in which the whole program is killed at random while agents
// book and a dashboard listens. current is the run of the moment.
type crash struct {
	t       *testing.T
	dir     string
	env     []string
	pace    time.Duration // what an agent waits between two bookings
	current atomic.Pointer[krib]

	mu       sync.Mutex
	accepted map[string]int      // bookings that were answered with 200, and their last version
	seen     map[string][]string // notification ids in the order of the stream, by frame id
}

// The whole promise at once: nothing accepted is lost, nothing is told twice that
// must not be, and each booking's versions are 1, 2, 3 … on the topic.
func TestKilledAtRandomUnderLoadItLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	newCrash(t).run(func(c *crash) {
		for range kills {
			c.pause()
			c.current.Load().kill()
			c.start()
		}
	})
}

func newCrash(t *testing.T) *crash {
	t.Helper()
	c := &crash{t: t, dir: t.TempDir(), env: kafkaEnv(t), pace: 5 * time.Millisecond, accepted: map[string]int{}, seen: map[string][]string{}}
	t.Cleanup(func() { stopPostgres(t, c.dir) })
	return c
}

// start starts the program, again on what it had.
func (c *crash) start() { c.current.Store(startBinary(c.t, c.dir, c.env...)) }

// pause lets some load pass.
func (c *crash) pause() {
	select {
	case <-time.After(time.Duration(300+rand.IntN(1500)) * time.Millisecond):
	case <-c.t.Context().Done():
	}
}

// run puts load on the program, does what is given, and when all has calmed down
// checks the promise.
func (c *crash) run(harm func(*crash)) {
	t := c.t
	t.Helper()
	endpoint := testenv.Receiver(t, nil)
	c.start()
	c.current.Load().subscribe(t, endpoint.URL(), "booking.created", "host.response_needed", "booking.confirmed", "booking.cancelled")

	load, stopLoad := context.WithCancel(t.Context())
	watch, stopWatch := context.WithCancel(t.Context())
	defer stopWatch()
	var agents, dashboard sync.WaitGroup
	for a := range 4 {
		agents.Go(func() { c.agent(load, a) })
	}
	dashboard.Go(func() { c.dashboard(watch) })
	harm(c)
	// Some more afterwards, then let the agents finish what they began.
	more := len(c.bookings()) + 5
	testenv.Eventually(t, "bookings go on afterwards", func() bool { return len(c.bookings()) >= more })
	stopLoad()
	agents.Wait()

	k := c.current.Load()
	events := c.events(k)
	c.checkVersions(events)
	c.checkWebhooks(endpoint, events)
	c.checkNotifications(k, events)
	c.checkAccount(k, events)
	stopWatch()
	dashboard.Wait()
	t.Logf("%d bookings, %d events, %d webhooks", len(c.bookings()), len(events), endpoint.Count())
	k.stop()
}

func (c *crash) bookings() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	maps.Copy(out, c.accepted)
	return out
}

// agent books, confirms and cancels until ctx ends; the nights are free again
// then. A request whose answer was lost is repeated with the same key until there
// is one.
func (c *crash) agent(ctx context.Context, a int) {
	for i := 0; ctx.Err() == nil; i++ {
		stay := func(k *krib) any {
			s := k.stay(a + 4*(i%50))
			s["guest_info"] = object{"first_name": "Test", "last_name": "User", "email": fmt.Sprintf("guest%d-%d@example.com", a, i), "phone": "501234567"}
			return s
		}
		booked := c.insist("POST", "/api/v1/bookings", stay, fmt.Sprintf("book-%d-%d", a, i))
		if booked == nil {
			return
		}
		id := booked.text("booking_id")
		c.accept(id, int(booked.number("version")))
		for _, status := range []string{"confirmed", "cancelled"} {
			moved := c.insist("PUT", "/api/v1/external/bookings/"+id+"/status", func(*krib) any { return object{"status": status} }, "")
			if moved == nil {
				return
			}
			c.accept(id, int(moved.number("version")))
		}
		select { // load, and not all that the machine can give
		case <-ctx.Done():
		case <-time.After(c.pace):
		}
	}
}

func (c *crash) accept(id string, version int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted[id] = version
}

func (c *crash) insist(method, path string, body func(*krib) any, key string) *answer {
	for ctx := c.t.Context(); ctx.Err() == nil; {
		k := c.current.Load()
		a, err := k.tryOnce(ctx, method, path, k.APIKey, key, body(k))
		switch {
		case err == nil && a.Status == http.StatusOK:
			return a
		case err == nil && a.Status < 500:
			c.t.Errorf("%s %s: %d %s", method, path, a.Status, a.Raw)
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// dashboard listens and resumes, and keeps every notification's id.
func (c *crash) dashboard(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		k := c.current.Load()
		last, _ = k.stream(ctx, last, func(f frame) bool {
			switch f.Event {
			case "resync":
				c.t.Errorf("the stream could not resume: %s", f.Data)
			case "notification":
				var n struct {
					Data struct {
						ID string `json:"id"`
					} `json:"data"`
				}
				if err := json.Unmarshal([]byte(f.Data), &n); err != nil {
					c.t.Errorf("frame %s: %v", f.Data, err)
				}
				c.mu.Lock()
				c.seen[n.Data.ID] = append(c.seen[n.Data.ID], f.ID)
				c.mu.Unlock()
			}
			return true
		})
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

type logged struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Version int    `json:"version"`
	Booking struct {
		ID string `json:"id"`
	} `json:"booking"`
}

// events reads the topic until it holds what was accepted.
func (c *crash) events(k *krib) []logged {
	c.t.Helper()
	cl := plain(c.t, k, kgo.ConsumeTopics("booking.events"))
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	var out []logged
	latest := map[string]int{}
	missing := func() int {
		n := 0
		for id, v := range c.bookings() {
			if latest[id] < v {
				n++
			}
		}
		return n
	}
	for missing() > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			c.t.Fatalf("%d accepted bookings never reached the topic", missing())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var e logged
			if err := json.Unmarshal(r.Value, &e); err != nil {
				c.t.Errorf("event %s: %v", r.Value, err)
			}
			out = append(out, e)
			latest[e.Booking.ID] = e.Version
		})
	}
	return out
}

func (c *crash) checkVersions(events []logged) {
	c.t.Helper()
	next := map[string]int{}
	for _, e := range events {
		if next[e.Booking.ID]++; e.Version != next[e.Booking.ID] {
			c.t.Errorf("booking %s: version %d where %d should be", e.Booking.ID, e.Version, next[e.Booking.ID])
		}
	}
}

func (c *crash) checkWebhooks(endpoint *testenv.Endpoint, events []logged) {
	c.t.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	for _, e := range events {
		want[e.ID] = true
	}
	// The backlog of an outage may be long: what matters is that it shrinks.
	arrived, read := 0, 0
	for arrived < len(want) {
		testenv.Eventually(c.t, fmt.Sprintf("another webhook arrives after %d of %d", arrived, len(want)), func() bool { return endpoint.Count() > read })
		for _, r := range endpoint.All()[read:] {
			read++
			if id := r.Header.Get("Webhook-Id"); !got[id] && want[id] {
				got[id] = true
				arrived++
			}
		}
	}
	ids := map[string]string{}
	for _, r := range endpoint.All() {
		var b struct {
			ID        string `json:"id"`
			BookingID string `json:"booking_id"`
			Sequence  int    `json:"sequence"`
		}
		if err := json.Unmarshal(r.Body, &b); err != nil {
			c.t.Errorf("body %s: %v", r.Body, err)
		}
		change := fmt.Sprintf("%s/%d", b.BookingID, b.Sequence)
		id := r.Header.Get("Webhook-Id")
		if before := ids[change]; (before != "" && before != id) || id != b.ID || !want[id] {
			c.t.Errorf("change %s came as %s, before as %q; body says %s", change, id, before, b.ID)
		}
		ids[change] = id
	}
}

func (c *crash) checkNotifications(k *krib, events []logged) {
	c.t.Helper()
	want := map[string]int{} // by booking
	total := 0
	for _, e := range events {
		if e.Type != "host.response_needed" {
			want[e.Booking.ID]++
			total++
		}
	}
	db := openDB(c.t, k)
	testenv.Eventually(c.t, "every notification is a row", func() bool {
		return count(c.t, db, `select count(*) from host_notifications`) >= total
	})
	for id, n := range want {
		if got := count(c.t, db, `select count(*) from host_notifications where booking_id = $1`, id); got != n {
			c.t.Errorf("booking %s has %d notifications, want %d", id, got, n)
		}
	}
	testenv.Eventually(c.t, "the dashboard has seen every notification", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.seen) >= total
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, frames := range c.seen {
		if len(frames) != 1 {
			slices.Sort(frames)
			c.t.Errorf("notification %s was seen %d times: %v", id, len(frames), frames)
		}
	}
}

// checkAccount has the audit say, from the topics alone, what the receiver saw.
func (c *crash) checkAccount(k *krib, events []logged) {
	c.t.Helper()
	for id, l := range audited(c.t, k) {
		if l.Matched+l.Unknown != len(events) || l.Matched != l.Delivered+l.Waiting || l.Unknown > 1 {
			c.t.Errorf("the account of %s is %+v, of %d events", id, l, len(events))
		}
	}
}
