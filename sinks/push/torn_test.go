package push_test

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/push"
)

// cutter lets so many bytes of the body through and then kills the connection.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) < c.left {
		c.left -= len(b)
		return c.ResponseWriter.Write(b)
	}
	_, _ = c.ResponseWriter.Write(b[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func cutAt(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if n, err := strconv.Atoi(r.URL.Query().Get("cut")); err == nil {
		return &cutter{w, n}
	}
	return w
}

func TestAReplyThatIsCutAnywhereLosesAndRepeatsNothing(t *testing.T) {
	w := newWorld(t)
	r := w.start(func(o *push.Options) { o.Heartbeat = time.Hour }, cutAt)
	start := w.cursor(host)
	ids := w.notify(host, 3, 1)
	w.flow(r)
	whole := r.dial(t, host, start, "")
	length := len(whole.want("connected").raw)
	for range ids {
		length += len(whole.want("notification").raw)
	}
	whole.quit()
	for cut := range length + 20 { // times lose their trailing zeros, so lengths differ a little
		var got []string
		c := r.dial(t, host, start, "&cut="+strconv.Itoa(cut))
		for len(got) < len(ids) {
			e, ok := c.next()
			if !ok {
				c = r.dial(t, host, c.last, "")
				continue
			}
			if e.name == "notification" {
				got = append(got, e.ntf())
			}
		}
		c.quit()
		if !slices.Equal(got, ids) {
			t.Fatalf("cut after %d bytes: got %v, want %v", cut, got, ids)
		}
	}
}

func TestAGarbageCursorIsToldAgainWhenTheReplyIsCut(t *testing.T) {
	w := newWorld(t)
	w.notify(host, 1, 1)
	w.commit()
	r := w.start(func(o *push.Options) { o.Heartbeat = time.Hour }, cutAt)
	whole := r.dial(t, host, "garbage", "")
	length := len(whole.want("connected").raw) + len(whole.want("resync").raw)
	whole.quit()
	for cut := 0; cut < length-5; cut += 3 {
		c := r.dial(t, host, "garbage", "&cut="+strconv.Itoa(cut))
		for e, ok := c.next(); ok; e, ok = c.next() {
			if e.name == "resync" {
				t.Fatalf("cut after %d of %d bytes, and yet %q", cut, length, e.raw)
			}
		}
		c = r.dial(t, host, c.last, "")
		c.want("connected")
		c.want("resync")
		c.quit()
	}
}

func TestManyWritersAndRestlessReaders(t *testing.T) {
	w := newWorld(t)
	hosts := w.neighbours(3)
	// Small enough that some resumes come from memory and some from Kafka.
	r := w.start(func(o *push.Options) { o.RingBytes = 20_000 }, nil)
	other := w.start(func(o *push.Options) { o.RingBytes = 5_000 }, nil)
	start := w.cursor(hosts[0])
	const events = 1000
	want := map[schemas.HostID][]string{}
	var writers, readers sync.WaitGroup
	got := make([]map[schemas.HostID][]string, 4)
	for i := range got {
		got[i] = map[schemas.HostID][]string{}
		var mu sync.Mutex
		for _, h := range hosts[:2] {
			readers.Go(func() {
				ids := restless(t, []*replica{r, other}, h, start, events/2)
				mu.Lock()
				defer mu.Unlock()
				got[i][h] = ids
			})
		}
	}
	var mu sync.Mutex // of want: the order of writing is the order of the log
	for _, h := range hosts {
		for range 2 {
			writers.Go(func() {
				for sent := 0; sent < events/4; {
					n := min(1+rand.IntN(5), events/4-sent)
					mu.Lock()
					want[h] = append(want[h], w.notify(h, n, rand.IntN(300))...)
					mu.Unlock()
					sent += n
					if rand.IntN(3) == 0 {
						w.flow(r, other)
					}
				}
			})
		}
	}
	writers.Wait()
	w.flow(r, other)
	readers.Wait()
	for i := range got {
		for _, h := range hosts[:2] {
			if !slices.Equal(got[i][h], want[h]) {
				t.Errorf("reader %d of %s got %d events, not the %d that were written, each once and in order", i, h, len(got[i][h]), len(want[h]))
			}
		}
	}
	for _, from := range []string{"ring", "kafka"} {
		if r.metric(t, "krib_push_resumes_total", from)+other.metric(t, "krib_push_resumes_total", from) == 0 {
			t.Errorf("nobody resumed from %s", from)
		}
	}
}

// restless reads n notifications and changes the connection and the replica again
// and again.
func restless(t *testing.T, rs []*replica, h schemas.HostID, at string, n int) []string {
	t.Helper()
	var ids []string
	for len(ids) < n {
		c := rs[rand.IntN(len(rs))].dial(t, h, at, "")
		for stay := 1 + rand.IntN(60); stay > 0 && len(ids) < n; stay-- {
			e, ok := c.next()
			if !ok {
				break
			}
			if e.name == "resync" {
				t.Errorf("got %q", e.raw)
				return ids
			}
			if e.name == "notification" {
				ids = append(ids, e.ntf())
			}
		}
		at = c.last
		c.quit()
	}
	return ids
}
