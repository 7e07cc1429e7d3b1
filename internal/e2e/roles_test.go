//go:build e2e

package e2e

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/testenv"
)

// readyLine finds the API's address in a process's log.
var readyLine = regexp.MustCompile(`msg=ready api=(\S+)`)

// serveRoles runs `krib serve` with some roles in this process and returns its
// API's URL.
func serveRoles(t *testing.T, roles string, vars map[string]string) string {
	t.Helper()
	logs, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	lookup := func(k string) (string, bool) {
		v, ok := vars[k]
		return v, ok
	}
	done := make(chan int, 1)
	go func() {
		done <- app.Run(ctx, []string{"serve", "--roles", roles, "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"}, lookup, io.Discard, w)
		_ = w.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("krib serve --roles=%s ended with %d", roles, code)
		}
	})
	addr := make(chan string, 1)
	go func() {
		var seen []byte
		buf := make([]byte, 4096)
		for {
			n, err := logs.Read(buf)
			if err != nil {
				return
			}
			if seen == nil {
				seen = []byte{}
			}
			if len(seen) < 1<<20 {
				seen = append(seen, buf[:n]...)
			}
			if m := readyLine.FindSubmatch(seen); m != nil {
				select {
				case addr <- "http://" + string(m[1]):
				default:
				}
			}
		}
	}()
	select {
	case a := <-addr:
		return a
	case code := <-done:
		t.Fatalf("krib serve --roles=%s ended with %d", roles, code)
	case <-time.After(time.Minute):
		t.Fatalf("krib serve --roles=%s was not ready within a minute", roles)
	}
	return ""
}

// The parts meet only in topics and tables: split over processes they are the
// same pipeline. Two processes have the API; the stream is read at the one that
// took no booking.
func TestRolesInProcessesOfTheirOwnAreTheSamePipeline(t *testing.T) {
	t.Parallel()
	dev, vars := servers(t)
	vars["KRIB_RETRY_TIERS"] = "100ms,200ms"
	var wg sync.WaitGroup
	urls := make([]string, 4)
	for i, roles := range []string{"api,relay,push", "api,push,sinks,relay", "fanout,jobs", "deliver,retry"} {
		wg.Go(func() { urls[i] = serveRoles(t, roles, vars) })
	}
	wg.Wait()
	writes, reads := *dev, *dev
	writes.APIURL, reads.APIURL = urls[0], urls[1]
	writes.keepsItsContract(t)
	reads.keepsItsContract(t)
	endpoint := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if r.N == 0 {
			return testenv.Response{Status: 503}
		}
		return testenv.Response{}
	})
	writes.subscribe(t, endpoint.URL(), "booking.created")
	cursor := reads.host(t, "GET", "/api/v1/hosts/"+dev.HostID+"/notifications", nil).text("stream_cursor")
	booking := writes.book(t, 0)
	endpoint.Next(t)
	if r := endpoint.Next(t); !contains(r.Body, booking) {
		t.Errorf("delivered %s", r.Body)
	}
	if f := reads.next(t, cursor, "notification"); !contains([]byte(f.Data), booking) {
		t.Errorf("frame %s", f.Data)
	}
	sentElsewhere(t, &writes, &reads, cursor)
}

// sentElsewhere sends events through one process and reads them at another, which
// is opened with a ticket of the first.
func sentElsewhere(t *testing.T, writes, reads *krib, cursor string) {
	t.Helper()
	events := "/api/v1/hosts/" + writes.HostID + "/events"
	writes.host(t, "POST", events+"/send", object{"message": "to myself", "type": "notification"})
	if f := reads.next(t, cursor, "custom"); !contains([]byte(f.Data), "to myself") || !contains([]byte(f.Data), writes.HostID) {
		t.Errorf("frame %s", f.Data)
	}
	writes.agent(t, "POST", "/api/v1/external/sse/broadcast", object{"message": "to everybody", "host_id": "another"})
	if f := reads.next(t, cursor, "system_announcement"); !contains([]byte(f.Data), "to everybody") {
		t.Errorf("frame %s", f.Data)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, reads.APIURL+writes.host(t, "POST", events+"/ticket", nil).text("url"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := streams.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK || !contains([]byte(res.Header.Get("Set-Cookie")), "krib_stream=") {
		t.Errorf("a ticket of another process: %d, cookie %q", res.StatusCode, res.Header.Get("Set-Cookie"))
	}
}
