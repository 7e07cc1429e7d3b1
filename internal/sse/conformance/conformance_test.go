package conformance_test

import (
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/sse/conformance"
)

var (
	url      = flag.String("sse.url", "", "check the server of events at this URL, and not the one of the tests")
	bearer   = flag.String("sse.bearer", "", "a token for it")
	origin   = flag.String("sse.origin", "", "an origin whose pages may read it")
	position = flag.String("sse.position", "", "the parameter that carries an id in place of Last-Event-ID")
	control  = flag.String("sse.control", "", "the events that it sends of its own accord, separated by commas")
)

// target is the server of the flags: events have to happen there meanwhile. Without
// flags it is a small one that does everything right.
func target(t *testing.T) *conformance.Target {
	t.Helper()
	if *url == "" {
		return newServer().listen(t, true)
	}
	out := &conformance.Target{URL: *url, Header: http.Header{}, Origin: *origin, Position: *position, Control: strings.Split(*control, ",")}
	if *bearer != "" {
		out.Header.Set("Authorization", "Bearer "+*bearer)
	}
	return out
}

// To check any server: go test ./internal/sse/conformance -run TestTheServerConforms -v
// -sse.url https://… -sse.bearer ….
func TestTheServerConforms(t *testing.T) {
	t.Parallel()
	srv := target(t)
	for _, item := range conformance.Items() {
		t.Run(item.Name, func(t *testing.T) {
			switch err := item.Check(t.Context(), srv); {
			case errors.Is(err, conformance.ErrNotApplicable) && *url != "":
				t.Skip(err)
			case err != nil:
				t.Errorf("%v (%s)", err, item.From)
			}
		})
	}
}

// A flaw is a way to be broken, and the item that has to find it.
type flaw struct {
	name, item string
	in         func(*server)
}

func all(*http.Request) bool { return true }

func withID(r *http.Request) bool { return r.Header.Get("Last-Event-ID") != "" }

var flaws = []flaw{
	{"it is overloaded and says so by a status", "the status is 200, and nothing is redirected", answers(http.StatusServiceUnavailable, all)},
	{"it redirects", "the status is 200, and nothing is redirected", answers(http.StatusTemporaryRedirect, all)},
	{"it sends plain text", "the content type is text/event-stream, in UTF-8 if it says so", set("Content-Type", "text/plain")},
	{"it claims another encoding", "the content type is text/event-stream, in UTF-8 if it says so", set("Content-Type", "text/event-stream; charset=latin1")},
	{"it may be cached", "caches are told to keep nothing", set("Cache-Control", "max-age=60, no-transform")},
	{"it may be compressed on the way", "proxies are told to transform nothing", set("Cache-Control", "no-store")},
	{"nginx may hold it back", "nginx is told to hold nothing back", set("X-Accel-Buffering", "yes")},
	{"it promises a length", "no length is promised", set("Content-Length", "1000000")},
	{"it is compressed", "nothing is compressed, though the client would take it", set("Content-Encoding", "gzip")},
	{"it wants an Accept", "a client that does not say what it accepts is served", answers(http.StatusNotAcceptable, func(r *http.Request) bool { return r.Header.Get("Accept") == "" })},
	{"it wants the exact Accept", "a client that accepts anything is served", answers(http.StatusNotAcceptable, func(r *http.Request) bool { return r.Header.Get("Accept") == "*/*" })},
	{"HEAD has another type", "HEAD answers the headers and no body", answers(http.StatusOK, func(r *http.Request) bool { return r.Method == http.MethodHead })},
	{"it streams to whatever method", "a method that changes something is refused", answers(http.StatusOK, func(r *http.Request) bool { return r.Method == http.MethodPut })},
	{"it fails without credentials", "whoever may not read is refused for good, and not by an error of the server", answers(http.StatusInternalServerError, func(r *http.Request) bool { return r.Header.Get("Authorization") == "" })},
	{"it allows every origin, with credentials", "a page of the origin may read the answer, with credentials or without", func(s *server) {
		s.cors = func(h http.Header, _ string) {
			h.Set("Access-Control-Allow-Origin", "*")
			h.Set("Access-Control-Allow-Credentials", "true")
		}
	}},
	{"a cache may give the answer to another origin", "a page of the origin may read the answer, with credentials or without", func(s *server) {
		s.cors = func(h http.Header, origin string) { h.Set("Access-Control-Allow-Origin", origin) }
	}},
	{"no page may send Last-Event-ID", "a page of the origin may send Last-Event-ID after a preflight", func(s *server) {
		s.cors = func(h http.Header, origin string) {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Vary", "Origin")
		}
	}},
	{"it knows no preflight", "a page of the origin may send Last-Event-ID after a preflight", answers(http.StatusMethodNotAllowed, func(r *http.Request) bool { return r.Method == http.MethodOptions })},
	{"it begins with a byte order mark", "there is no byte order mark", replace("retry", "\uFEFFretry")},
	{"it writes CRLF", "lines end with LF alone", replace("\n", "\r\n")},
	{"it cuts a character", "everything is UTF-8", replace("é", "\xc3")},
	{"it writes NUL", "there is no NUL", replace("one", "o\x00e")},
	{"it has a field of its own", "every line is a field of the standard or a comment", replace("event: thing", "topic: x\nevent: thing")},
	{"its retry is a duration", "a retry is digits", replace("retry: 1000", "retry: 1s")},
	{"its retry is empty", "a retry is digits", replace("retry: 1000", "retry:")},
	{"it has events of an empty name", "the name of an event is not empty", replace("event: thing", "event:")},
	{"it takes the position away", "an id is not empty: that would take the position away", replace("event: hello", "id:\nevent: hello")},
	{"its ids are long", "an id needs no preflight: 128 bytes at most, and none that is unsafe", replace("id: ", "id: "+strings.Repeat("0", 128))},
	{"its ids are JSON", "an id needs no preflight: 128 bytes at most, and none that is unsafe", func(s *server) { s.id = func(int) string { return `{"offset":1}` } }},
	{"its heartbeat is an event that nobody gets", "every event that has an id or a name has data: without, it is dispatched to nobody", replace("data: {}\n", "")},
	{"its events have no position", "every event has an id, so that nothing is behind no position", func(s *server) {
		s.hello = func(int) string { return "retry: 1000\nevent: hello\ndata: {}\n\n" }
	}},
	{"events share a position", "what happens has a position of its own", func(s *server) { s.id = func(int) string { return "1" } }},
	{"it takes line ends out", "line ends and spaces of what is published survive", replace(`\r\n`, " ")},
	{"it says nothing until something happens", "the headers come at once, before anything has happened", func(s *server) {
		s.hello, s.beat = func(int) string { return "" }, ""
		s.flush = func(w http.ResponseWriter) {
			if s.count() > 0 {
				w.(http.Flusher).Flush()
			}
		}
	}},
	{"it fills a buffer first", "an event comes when it happens, and not when a buffer is full", func(s *server) {
		first := true
		s.flush = func(w http.ResponseWriter) {
			if first {
				w.(http.Flusher).Flush()
			}
			first = false
		}
	}},
	{"it is silent while nothing happens", "a quiet stream gives a sign of life", func(s *server) { s.beat = "" }},
	{"it leaves the delay to the client", "the client is told how long to wait before it comes back", replace("retry: 1000\n", "")},
	{"it repeats the last event", "it goes on behind the Last-Event-ID of the header", resumedAt(-1)},
	{"it passes an event over", "it goes on behind the Last-Event-ID of the header", resumedAt(+1)},
	{"it says the head before it has sent what is missing", "it goes on behind the Last-Event-ID of the header", func(s *server) {
		hello := s.hello
		s.hello = func(int) string { return hello(s.count()) }
	}},
	{"it reads the header alone", "it goes on behind the id in the query, for a client that can send no header", func(s *server) {
		from := s.from
		s.from = func(r *http.Request) int {
			r.URL.RawQuery = ""
			return from(r)
		}
	}},
	{"the query wins", "the header is newer than the query, and wins", func(s *server) {
		from := s.from
		s.from = func(r *http.Request) int {
			if id := r.URL.Query().Get("last"); id != "" {
				r.Header.Set("Last-Event-ID", id)
			}
			return from(r)
		}
	}},
	{"it takes what was written for read", "the same position answers the same again", func(s *server) {
		from, seen := s.from, 0
		s.from = func(r *http.Request) int {
			at := from(r)
			if withID(r) {
				at, seen = max(at, seen), at+1
			}
			return at
		}
	}},
	{"it falls over a position that it does not know", "a position that is nobody's is no error of the server", answers(http.StatusInternalServerError, func(r *http.Request) bool {
		return strings.HasPrefix(r.Header.Get("Last-Event-ID"), "nobody")
	})},
	{"it falls over what is not ASCII", "a position in bytes that are not ASCII is no error of the server", answers(http.StatusInternalServerError, func(r *http.Request) bool {
		return strings.HasPrefix(r.Header.Get("Last-Event-ID"), "é")
	})},
	{"it keeps those who have left", "a client that leaves is let go", func(s *server) { s.leave = func(n int) int { return n } }},
	{"it sends everything twice", "many clients have the event, each once", func(s *server) { s.twice = true }},
	{"it ends within an event", "it ends between two events, and cleanly", func(s *server) {
		s.finish = func(w http.ResponseWriter) { _, _ = w.Write([]byte("id: 1000\n")) }
	}},
	{"it ends with the connection", "it ends between two events, and cleanly", func(s *server) {
		s.finish = func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	}},
}

// resumedAt is a mistake by one in what a stream begins with.
func resumedAt(by int) func(*server) {
	return func(s *server) {
		from := s.from
		s.from = func(r *http.Request) int {
			if withID(r) {
				return from(r) + by
			}
			return from(r)
		}
	}
}

// Each item finds the server that is broken in its way: a check that lets everything
// pass would not be seen otherwise.
func TestEveryItemFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	items := conformance.Items()
	for _, f := range flaws {
		i := slices.IndexFunc(items, func(i conformance.Item) bool { return i.Name == f.item })
		if i < 0 {
			t.Fatalf("there is no item %q", f.item)
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newServer()
			f.in(s)
			srv := s.listen(t, false)
			srv.Patience = 2 * time.Second // what is broken may never answer
			err := items[i].Check(t.Context(), srv)
			if err == nil || errors.Is(err, conformance.ErrNotApplicable) {
				t.Errorf("%q found nothing: %v", f.item, err)
			}
			t.Log(err)
		})
	}
}

func TestEveryItemHasAServerThatBreaksIt(t *testing.T) {
	t.Parallel()
	for _, item := range conformance.Items() {
		broken := slices.ContainsFunc(flaws, func(f flaw) bool { return f.item == item.Name })
		if !broken && item.Name != overHTTP2 {
			t.Errorf("no server breaks %q", item.Name)
		}
	}
}

const overHTTP2 = "https is served over HTTP/2 too, without headers of the connection"

// A server of HTTPS that speaks 1.1 alone.
func TestHTTP2IsFoundMissing(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(newServer())
	t.Cleanup(srv.Close)
	items := conformance.Items()
	i := slices.IndexFunc(items, func(i conformance.Item) bool { return i.Name == overHTTP2 })
	err := items[i].Check(t.Context(), &conformance.Target{URL: srv.URL, Client: srv.Client(), Header: http.Header{"Authorization": {secret}}})
	if err == nil || errors.Is(err, conformance.ErrNotApplicable) {
		t.Errorf("it found nothing: %v", err)
	}
}
