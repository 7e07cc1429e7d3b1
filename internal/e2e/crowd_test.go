//go:build e2e

package e2e

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/krib-ai/krib/internal/sse"
)

const (
	crowd     = 5000
	crowdRoom = 4900 // the rest is asked to come back
	// crowdBytes is what a stream may cost the process, with room for what the
	// collector has not collected: the benchmark says what it does cost.
	crowdBytes = 64 << 10
)

// Five thousand dashboards come at the same moment. Each is let in or asked to come
// back, the process stays small, and what happens then reaches all that are in.
func TestFiveThousandStreamsAreOpenedAtOnce(t *testing.T) {
	t.Parallel()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < crowd+500 { // Go has raised it as far as it may
		t.Fatalf("%d open files are allowed (%v), and %d are needed: ulimit -n", files.Cur, err, crowd+500)
	}
	k := startBinary(t, t.TempDir(), fmt.Sprint("SSE_MAX_CONNECTIONS=", crowdRoom), "SSE_MAX_PER_HOST=0", "DATABASE_URL=")
	before := k.resident(t)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	gate := make(chan struct{})
	events := make([]string, crowd) // the first of each stream
	streams := make([]*sse.Reader, crowd)
	g := &errgroup.Group{}
	for i := range crowd {
		g.Go(func() error {
			<-gate
			r, err := k.dialStream(ctx, t)
			if err != nil {
				return err
			}
			e, err := r.Next()
			events[i], streams[i] = e.Name, r
			if e.Name == "disconnect" && !strings.Contains(e.Data, `"code":"overloaded"`) {
				return fmt.Errorf("refused with %s", e.Data)
			}
			return err
		})
	}
	close(gate)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, name := range events {
		count[name]++
	}
	if want := map[string]int{"connected": crowdRoom, "disconnect": crowd - crowdRoom}; !maps.Equal(count, want) {
		t.Errorf("first events are %v, want %v", count, want)
	}
	if grown := k.resident(t) - before; grown > crowdRoom*crowdBytes {
		t.Errorf("%d bytes for each stream, want %d at most", grown/crowdRoom, crowdBytes)
	}

	k.host(t, http.MethodPost, "/api/v1/hosts/"+k.HostID+"/events/send", object{"text": "to all"})
	for i, r := range streams {
		if events[i] != "connected" {
			continue
		}
		g.Go(func() error {
			for {
				if e, err := r.Next(); err != nil || e.Name == "custom" {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Errorf("it did not reach a stream: %v", err)
	}
}

// dialStream opens a stream on a connection of its own, with small buffers.
func (k *krib) dialStream(ctx context.Context, t *testing.T) (*sse.Reader, error) {
	t.Helper()
	addr := strings.TrimPrefix(k.APIURL, "http://")
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	t.Cleanup(func() { conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /api/v1/hosts/%s/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", k.HostID, addr, k.HostToken)
	if err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil) //nolint:bodyclose // the connection is closed
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the status is %d", res.StatusCode)
	}
	if err != nil {
		return nil, err
	}
	return sse.NewReader(res.Body), nil
}

// resident is what the process has in memory, by its own metrics.
func (k *krib) resident(t *testing.T) int64 {
	t.Helper()
	res, err := requests.Get(k.AdminURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "process_resident_memory_bytes "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int64(n)
		}
	}
	t.Fatal("the metrics do not say how large the process is")
	return 0
}

const (
	burst   = 100 // notifications a tenth of a second
	bursts  = 30
	joiners = 5
)

// A thousand notifications a second come to one host, in bursts. Dashboards that come
// meanwhile read the whole list and then the stream from where the list is true: the
// two together are what was sent. What was sent a moment ago may be in both, since
// its row is there before the sink has read its record; nothing is in either twice.
func TestStateThenStreamLosesNothingUnderAThousandEventsASecond(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	var (
		mu   sync.Mutex
		sent []string
	)
	joined := make(chan int, joiners)
	done := make(chan struct{})
	g.Go(func() error {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		sending, ctx := errgroup.WithContext(ctx)
		begun := time.Now()
		for n := range bursts {
			if n%(bursts/joiners) == 0 {
				joined <- n
			}
			sending.Go(func() error { // the next one does not wait for its answer
				ids, err := k.sendMany(ctx, n)
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, ids...)
				return err
			})
			select {
			case <-tick.C:
			case <-ctx.Done():
				return sending.Wait()
			}
		}
		err := sending.Wait()
		t.Logf("%.0f notifications a second", burst*bursts/time.Since(begun).Seconds())
		return err
	})
	for range joiners {
		g.Go(func() error {
			begun := <-joined
			listed, cursor, err := k.listAll(ctx)
			if err != nil {
				return err
			}
			streamed, err := k.streamUpTo(ctx, cursor, listed, burst*bursts)
			if err != nil {
				return err
			}
			<-done
			mu.Lock()
			defer mu.Unlock()
			name := fmt.Sprint("the dashboard that came at burst ", begun)
			for what, ids := range map[string][]string{"the list": listed, "the stream": streamed} {
				if slices.Sort(ids); len(slices.Compact(slices.Clone(ids))) != len(ids) {
					t.Errorf("%s has something twice from %s", name, what)
				}
			}
			got := slices.Compact(slices.Sorted(slices.Values(slices.Concat(listed, streamed))))
			if want := slices.Sorted(slices.Values(sent)); !slices.Equal(got, want) {
				t.Errorf("%s has %d from the list and %d from the stream, and not all of %d", name, len(listed), len(streamed), len(want))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// sendMany sends a burst and answers the ids.
func (k *krib) sendMany(ctx context.Context, n int) ([]string, error) {
	items := make([]object, burst)
	for i := range items {
		items[i] = object{"host_id": k.HostID, "type": "guest_message", "title": fmt.Sprint(n, ".", i), "message": "m"}
	}
	a, err := k.try(ctx, http.MethodPost, "/api/v1/external/notifications/bulk", k.APIKey, items)
	if err := answered(a, err); err != nil {
		return nil, err
	}
	var ids []string
	for _, r := range a.data("results").([]any) {
		ids = append(ids, r.(object)["notification_id"].(string))
	}
	return ids, nil
}

// listAll reads every page of the inbox. The position is that of the first one: what
// came after it is on no later page, for these are older.
func (k *krib) listAll(ctx context.Context) (ids []string, cursor string, err error) {
	for next := ""; ; {
		a, err := k.try(ctx, http.MethodGet, "/api/v1/hosts/"+k.HostID+"/notifications?limit=100"+next, k.HostToken, nil)
		if err := answered(a, err); err != nil {
			return nil, "", err
		}
		if cursor == "" {
			cursor = a.text("stream_cursor")
		}
		for _, n := range a.data("notifications").([]any) {
			ids = append(ids, n.(object)["id"].(string))
		}
		older := a.text("next_cursor")
		if older == "" {
			return ids, cursor, nil
		}
		next = "&cursor=" + older
	}
}

// streamUpTo reads the stream from a cursor until it has, with what was listed, so
// many notifications, and a heartbeat has said that nothing more stood behind them. On
// a machine that is too busy for it to keep up it is let go, and comes back as every
// client does.
func (k *krib) streamUpTo(ctx context.Context, cursor string, listed []string, n int) (ids []string, err error) {
	have := map[string]bool{}
	for _, id := range listed {
		have[id] = true
	}
	var bad error
	again := true
	for times := 0; again && err == nil && bad == nil; times++ {
		if times > 10 {
			return ids, errors.New("the stream ends again and again")
		}
		again = false
		cursor, err = k.stream(ctx, cursor, func(f frame) bool {
			switch f.Event {
			case "notification":
				var o struct {
					Data struct {
						ID string `json:"id"`
					} `json:"data"`
				}
				if bad = json.Unmarshal([]byte(f.Data), &o); bad == nil {
					ids = append(ids, o.Data.ID)
					have[o.Data.ID] = true
				}
			case "resync":
				bad = fmt.Errorf("the stream says %s", f.Data)
			case "disconnect":
				if again = strings.Contains(f.Data, `"code":"slow_consumer"`); !again {
					bad = fmt.Errorf("the stream says %s", f.Data)
				}
			case "heartbeat":
				return len(have) < n
			}
			return bad == nil && !again
		})
	}
	return ids, cmp.Or(bad, err)
}
