package push_test

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/push"
)

// cutter lets so many bytes of the body through and then kills the connection, where
// net/http writes the answer.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cutter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.ErrUnsupported
}

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) < c.left {
		c.left -= len(b)
		return c.ResponseWriter.Write(b)
	}
	_, _ = c.ResponseWriter.Write(b[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// severer lets so many bytes through, of headers and chunks too, where the connection
// was taken over.
type severer struct {
	http.ResponseWriter
	left int
}

func (c *severer) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *severer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(c.ResponseWriter).Hijack()
	return &severed{conn, c.left}, buffered, err
}

type severed struct {
	net.Conn
	left int
}

func (c *severed) Write(b []byte) (int, error) {
	if len(b) < c.left {
		c.left -= len(b)
		return c.Conn.Write(b)
	}
	n, _ := c.Conn.Write(b[:c.left])
	c.left = 0
	_ = c.Close()
	return n, net.ErrClosed
}

func cutAt(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if n, err := strconv.Atoi(r.URL.Query().Get("cut")); err == nil {
		return &cutter{w, n}
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("sever")); err == nil {
		return &severer{w, n}
	}
	return w
}

// overhead is more than what headers and chunks add to the frames of a short answer.
const overhead = 500

// cuts are all ways to cut an answer whose frames have so many bytes.
func cuts(length, step int) (queries []string) {
	for n := 0; n < length; n += step {
		queries = append(queries, "&cut="+strconv.Itoa(n))
	}
	for n := 0; n < length+overhead; n += step {
		queries = append(queries, "&sever="+strconv.Itoa(n))
	}
	return queries
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
	for _, cut := range cuts(length+20, 1) { // times lose their trailing zeros, so lengths differ a little
		var got []string
		c := r.dial(t, host, start, cut)
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
			t.Fatalf("%s: got %v, want %v", cut, got, ids)
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
	for _, cut := range cuts(length-5, 3) {
		c := r.dial(t, host, "garbage", cut)
		told := false
		for !told {
			e, ok := c.next()
			if !ok {
				break
			}
			told = e.name == "resync"
		}
		if told && strings.HasPrefix(cut, "&cut") { // of the others, the last are whole
			t.Fatalf("%s of %d bytes, and yet a resync", cut, length)
		}
		c.quit()
		c = r.dial(t, host, c.last, "")
		c.want("connected")
		if !told {
			c.want("resync")
		}
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
