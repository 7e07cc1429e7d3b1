package testenv

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// A Request is what a receiver was sent, as it arrived.
type Request struct {
	Method string
	Path   string
	// Target is the path and the query as they came.
	Target string
	Header http.Header
	Body   []byte
	// At is when its headers had arrived.
	At time.Time
	// Remote is the sender's address; one connection keeps one.
	Remote string
	// N counts the receiver's requests from 0.
	N int
}

// A Response is what a receiver answers. Its zero value is 200 without a body.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	// Hang, if set, holds the answer until it is closed. A sender that leaves before
	// gets none.
	Hang <-chan struct{}
}

// An Endpoint is what Receiver starts. It may be used from many goroutines.
type Endpoint struct {
	server *httptest.Server
	answer func(Request) Response
	closed chan struct{}

	mu      sync.Mutex
	all     []Request
	taken   int
	arrived chan struct{} // closed and made anew at each request
}

// Receiver is a customer's endpoint: a real HTTP server on the loopback address
// that keeps every request it is sent and answers what answer says, or 200 when
// that is nil. Requests that arrive together are answered together. It closes
// after the test.
func Receiver(tb testing.TB, answer func(Request) Response) *Endpoint {
	tb.Helper()
	if answer == nil {
		answer = func(Request) Response { return Response{} }
	}
	e := &Endpoint{answer: answer, closed: make(chan struct{}), arrived: make(chan struct{})}
	e.server = httptest.NewServer(e)
	tb.Cleanup(func() {
		close(e.closed) // lets go of what hangs, or the server would wait for it
		e.server.CloseClientConnections()
		e.server.Close()
	})
	return e
}

// URL is the endpoint's address without a path.
func (e *Endpoint) URL() string { return e.server.URL }

// ServeHTTP makes the endpoint its server's handler; tests have no use for it.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender left in the middle: there is no request
	}
	a := e.answer(e.keep(Request{
		Method: r.Method, Path: r.URL.Path, Target: r.RequestURI, Header: r.Header.Clone(), Body: body, At: at, Remote: r.RemoteAddr,
	}))
	if a.Hang != nil {
		select {
		case <-a.Hang:
		case <-r.Context().Done():
		case <-e.closed:
			// Merely to return would answer 200 to a sender that is still there.
			panic(http.ErrAbortHandler)
		}
	}
	maps.Copy(w.Header(), a.Header)
	if a.Status != 0 {
		w.WriteHeader(a.Status)
	}
	_, _ = w.Write(a.Body) // a sender that left hears nothing
}

func (e *Endpoint) keep(r Request) Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.N = len(e.all)
	e.all = append(e.all, r)
	close(e.arrived)
	e.arrived = make(chan struct{})
	return r
}

// Next is the oldest request that no call of Next has answered yet. It waits for
// one, and fails the test after 30 s. A request is here before it is answered.
func (e *Endpoint) Next(tb testing.TB) Request {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		r, arrived, ok := e.take()
		if ok {
			return r
		}
		select {
		case <-arrived:
		case <-deadline.C:
			tb.Fatalf("no request came in %v; %d came before", patience, e.Count())
		}
	}
}

// take answers a request, or a channel that the next one closes.
func (e *Endpoint) take() (Request, <-chan struct{}, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.taken == len(e.all) {
		return Request{}, e.arrived, false
	}
	e.taken++
	return e.all[e.taken-1], nil, true
}

// All are the requests so far, taken or not, in the order of their arrival.
func (e *Endpoint) All() []Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// Count is how many requests came so far.
func (e *Endpoint) Count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.all)
}
