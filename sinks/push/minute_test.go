package push

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// pipes is a listener in memory whose connections hold nothing: a write waits until
// the other side reads, as it does on a socket whose buffers are full. Their
// deadlines go by the clock of a bubble.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}

	mu      sync.Mutex
	clients []net.Conn
}

// leave closes what clients have opened, and the streams with it: the server does not
// know of what was taken over from it.
func (l *pipes) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.clients {
		_ = c.Close()
	}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// open asks for the stream behind a position and reads the headers.
func (l *pipes) open(t *testing.T, last string) *sse.Reader {
	t.Helper()
	client, server := net.Pipe()
	l.mu.Lock()
	l.clients = append(l.clients, client)
	l.mu.Unlock()
	l.conns <- server
	if _, err := fmt.Fprintf(client, "GET / HTTP/1.1\r\nHost: krib\r\nLast-Event-ID: %s\r\n\r\n", last); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(client), nil) //nolint:bodyclose // the connection is closed
	if err != nil {
		t.Fatal(err)
	}
	return sse.NewReader(res.Body)
}

// all reads what happens, on and on over new connections, until there are n.
func (l *pipes) all(t *testing.T, r *sse.Reader, last string, n int) []string {
	t.Helper()
	var got []string
	for beats := 0; len(got) < n && beats < 100; {
		e, err := r.Next()
		if err != nil {
			r = l.open(t, last)
			continue
		}
		if e.Name == "heartbeat" {
			beats++
		}
		if last = e.ID; e.Name == "notification" {
			got = append(got, e.Data)
		}
	}
	return got
}

// A dashboard that reads nothing for a minute, as a suspended machine does, holds up
// nobody. The server lets it go, and when it reads on it has every event once.
func TestAReaderThatStopsForAMinuteLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events, every = 600, 100 * time.Millisecond
		reg := prometheus.NewRegistry()
		h := settled(t, func(o *Options) { o.Registry = reg })
		p := h.parts[0]
		ln := newPipes()
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.Serve(w, r, "host", time.Time{}, schemas.FeedFilter{}) })}
		go srv.Serve(ln)
		defer srv.Close()
		defer ln.leave()

		begin := p.at(7).String()
		slow := ln.open(t, begin)
		if e, err := slow.Next(); err != nil || e.Name != "connected" {
			t.Fatalf("got %+v, %v", e, err)
		}
		fast := ln.open(t, begin)
		quick := make(chan []string, 1)
		go func() { quick <- ln.all(t, fast, begin, events) }()

		var want []string
		for n := range events {
			next := int64(8 + n)
			want = append(want, fmt.Sprintf(`{"n":%d}`, n))
			b, err := sse.Append(nil, 0, p.at(next).String(), "notification", []byte(want[n]))
			if err != nil {
				t.Fatal(err)
			}
			p.add([]*entry{{frame: frame{b, next}, at: time.Now()}}, next, next, time.Now())
			p.advance(next, time.Now())
			sleep(t.Context(), every)
		}
		synctest.Wait()
		select {
		case got := <-quick:
			if !slices.Equal(got, want) {
				t.Errorf("the other one has %d events: %q", len(got), got)
			}
		default:
			t.Error("the other one was held up")
		}
		if got := endings(t, reg); len(got) != 1 || got["stalled"] != 1 {
			t.Errorf("connections ended by %v", got)
		}
		if got := ln.all(t, slow, begin, events); !slices.Equal(got, want) {
			t.Errorf("it has %d events, and not each of %d once: %q", len(got), events, got)
		}
	})
}
