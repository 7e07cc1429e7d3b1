package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/sse/conformance"
)

const (
	secret = "Bearer secret"
	page   = "https://page.example"
	beat   = 20 * time.Millisecond
)

// A server is a small one that does everything right, but for what is broken: the
// functions stand where a server has a choice.
type server struct {
	header func(http.Header)         // the last word on the answer's headers
	status func(*http.Request) int   // before anything else; 0 goes on
	bytes  func(frame []byte) []byte // what is written of a frame
	id     func(n int) string        // of event n, from 1
	from   func(r *http.Request) int // the event after which a stream begins
	hello  func(at int) string       // the first frame
	beat   string                    // the heartbeat
	flush  func(http.ResponseWriter) // after the headers and after each frame
	leave  func(n int) int           // how many streams are counted when one has left
	finish func(http.ResponseWriter) // how a stream ends
	twice  bool                      // each event comes two times
	cors   func(http.Header, string) // for an origin

	mu     sync.Mutex
	events []string
	told   chan struct{} // closed when there is another event
	ended  chan struct{}
	open   atomic.Int64
}

func newServer() *server {
	s := &server{told: make(chan struct{}), ended: make(chan struct{})}
	s.header = func(http.Header) {}
	s.status = func(*http.Request) int { return 0 }
	s.bytes = func(b []byte) []byte { return b }
	s.id = strconv.Itoa
	s.from = func(r *http.Request) int {
		id := r.Header.Get("Last-Event-ID")
		if id == "" {
			id = r.URL.Query().Get("last")
		}
		if n, err := strconv.Atoi(id); err == nil {
			return n
		}
		return s.count()
	}
	s.hello = func(at int) string { return fmt.Sprintf("retry: 1000\nid: %d\nevent: hello\ndata: {}\n\n", at) }
	s.beat = ": still here\n\n"
	s.flush = func(w http.ResponseWriter) { w.(http.Flusher).Flush() }
	s.leave = func(n int) int { return n - 1 }
	s.finish = func(http.ResponseWriter) {}
	s.cors = func(h http.Header, origin string) {
		h.Set("Vary", "Origin")
		if origin == page {
			h.Set("Access-Control-Allow-Origin", page)
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Set("Access-Control-Allow-Headers", "authorization, last-event-id")
		}
	}
	return s
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

func (s *server) publish(_ context.Context, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := json.Marshal(text)
	s.events = append(s.events, string(b))
	close(s.told)
	s.told = make(chan struct{})
	return err
}

// after is what follows event n, and what is closed when there is more.
func (s *server) after(n int) ([]string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events[min(max(n, 0), len(s.events)):], s.told
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.cors(w.Header(), r.Header.Get("Origin"))
	status := s.status(r)
	switch {
	case status != 0:
	case r.Method == http.MethodOptions:
		status = http.StatusNoContent
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		status = http.StatusMethodNotAllowed
	case r.Header.Get("Authorization") != secret:
		status = http.StatusUnauthorized
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	s.header(h)
	if r.Method != http.MethodHead {
		s.serve(w, r)
	}
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.open.Add(1)
	defer func() { s.open.Store(int64(s.leave(int(s.open.Load())))) }()
	at := s.from(r)
	s.flush(w)
	s.write(w, s.hello(at))
	beats := time.NewTicker(beat)
	defer beats.Stop()
	for {
		events, more := s.after(at)
		for _, data := range events {
			at++
			s.write(w, fmt.Sprintf("id: %s\nevent: thing\ndata: %s\n\n", s.id(at), data))
			if s.twice {
				s.write(w, fmt.Sprintf("id: %s\nevent: thing\ndata: %s\n\n", s.id(at), data))
			}
		}
		select {
		case <-more:
		case <-beats.C:
			s.write(w, s.beat)
		case <-r.Context().Done():
			return
		case <-s.ended:
			s.finish(w)
			return
		}
	}
}

func (s *server) write(w http.ResponseWriter, frame string) {
	_, _ = w.Write(s.bytes([]byte(frame)))
	s.flush(w)
}

// listen starts the server and says how it is checked.
func (s *server) listen(t *testing.T, https bool) *conformance.Target {
	t.Helper()
	srv := httptest.NewUnstartedServer(s)
	if https {
		srv.EnableHTTP2 = true
		srv.StartTLS()
	} else {
		srv.Start()
	}
	end := sync.OnceFunc(func() { close(s.ended) })
	t.Cleanup(srv.Close)
	t.Cleanup(end)
	return &conformance.Target{
		URL: srv.URL, Client: srv.Client(), Header: http.Header{"Authorization": {secret}}, Control: []string{"hello"}, Publish: s.publish, Verbatim: true,
		Position: "last", Origin: page, Open: func(context.Context) (int, error) { return int(s.open.Load()), nil },
		End: func(context.Context) error { end(); return nil },
	}
}

// replace is a flaw in what is written.
func replace(old, with string) func(*server) {
	return func(s *server) {
		s.bytes = func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(old), []byte(with)) }
	}
}

// set is a flaw in the headers.
func set(name, value string) func(*server) {
	return func(s *server) { s.header = func(h http.Header) { h.Set(name, value) } }
}

// answers is a flaw in the status for some requests.
func answers(status int, to func(*http.Request) bool) func(*server) {
	return func(s *server) {
		s.status = func(r *http.Request) int {
			if to(r) {
				return status
			}
			return 0
		}
	}
}
