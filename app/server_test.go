package app

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/schemas"
)

// pipes is a listener of connections in memory, whose deadlines are those of the test's
// own clock.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A served connection reports when the server closes it.
type servedConn struct {
	net.Conn
	once  sync.Once
	ended chan time.Time
}

func (c *servedConn) Close() error {
	c.once.Do(func() { c.ended <- time.Now() })
	return c.Conn.Close()
}

func (c *servedConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

// idleStream sends nothing until its client leaves.
type idleStream struct{ noStream }

func (idleStream) Serve(w http.ResponseWriter, r *http.Request, _ schemas.HostID, _ time.Time, _ schemas.FeedFilter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Time{})
	_ = c.Flush()
	<-r.Context().Done()
}

const testSecret = "a secret of the tests, 32 bytes long"

// serveInMemory runs the API as the program serves it, without a database: what is
// asked here needs none.
func serveInMemory(t *testing.T) *pipes {
	t.Helper()
	a, err := auth.New(t.Context(), auth.Options{JWTSecret: []byte(testSecret)})
	if err != nil {
		t.Fatal(err)
	}
	ln := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := newServer(api.New(api.Options{Auth: a, Stream: idleStream{}, StripeSecret: "whsec_x", Logger: slog.New(slog.DiscardHandler)}), writeTime)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return ln
}

// dial opens a connection and says when the server ends it.
func (p *pipes) dial(t *testing.T) (net.Conn, chan time.Time) {
	t.Helper()
	client, server := net.Pipe()
	c := &servedConn{Conn: server, ended: make(chan time.Time, 1)}
	p.conns <- c
	t.Cleanup(func() { client.Close() })
	return client, c.ended
}

// trickle sends a byte a second.
func trickle(c net.Conn, text string) {
	for i := range len(text) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return
		}
		<-time.After(time.Second) // of the test's clock
	}
}

func lines(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func hostToken(t *testing.T) string {
	t.Helper()
	token, err := auth.SignHostToken([]byte(testSecret), "h", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Whatever a client does not finish, the server ends within its deadlines.
func TestNoConnectionIsHeldByWhatNeverComes(t *testing.T) {
	const long = "\nContent-Length: 100000\n\n"
	for name, c := range map[string]struct {
		request string
		slowly  string // a byte a second behind it
		within  time.Duration
		status  int // 0 for none
		token   bool
		deaf    bool // reads nothing of the answer
	}{
		"nothing":                       {"", "", headerTime, 0, false, false},
		"half a head":                   {"GET / HTTP/1.1\nHost:", "", headerTime, 0, false, false},
		"a head byte by byte":           {"", "GET /" + strings.Repeat("a", 200), headerTime, 400, false, false},
		"headers without end":           {"GET / HTTP/1.1\nHost: a\nX-A: ", strings.Repeat("a", 200), headerTime, 0, false, false},
		"the body of a long poll":       {"GET /api/v1/external/events?wait=30 HTTP/1.1\nHost: a" + long, "", readTime, 401, false, false},
		"a slow body of a long poll":    {"GET /api/v1/external/events?wait=30 HTTP/1.1\nHost: a" + long, strings.Repeat("a", 200), readTime, 401, false, false},
		"the body of an agents' stream": {"GET /api/v1/external/events/stream HTTP/1.1\nHost: a" + long, "", readTime, 401, false, false},
		"the body of a host's stream":   {"GET /api/v1/hosts/h/events HTTP/1.1\nHost: a" + long, "", readTime, 401, false, false},
		"the body of a message":         {"POST /mcp HTTP/1.1\nHost: a" + long, `{"jsonrpc":`, readTime, 401, false, false},
		"the body of a test":            {"POST /api/v1/external/webhooks/test HTTP/1.1\nHost: a" + long, "", readTime, 401, false, false},
		"the body of a DELETE":          {"DELETE /api/v1/external/webhook-subscriptions/x HTTP/1.1\nHost: a" + long, "", readTime, 401, false, false},
		"the body of a HEAD":            {"HEAD /api/v1/external/events HTTP/1.1\nHost: a" + long, "", readTime, 401, false, false},
		"the body of no route":          {"PUT /nothing HTTP/1.1\nHost: a" + long, "", readTime, 404, false, false},
		"a chunk":                       {"POST /api/v1/bookings HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\nff\n", "aaaa", readTime, 401, false, false},
		"a body that waits to be let":   {"POST /api/v1/bookings HTTP/1.1\nHost: a\nExpect: 100-continue" + long, "", readTime, 401, false, false},
		"a callback of no one":          {"POST /api/v1/integrations/stripe/webhook HTTP/1.1\nHost: a" + long, "", readTime, 401, false, false},
		"a host's body":                 {"PUT /api/v1/hosts/h/settings HTTP/1.1\nHost: a\nAuthorization: Bearer TOKEN" + long, "", readTime, 422, true, false},
		"a host's slow body":            {"POST /api/v1/hosts/h/notifications/read HTTP/1.1\nHost: a\nAuthorization: Bearer TOKEN" + long, strings.Repeat(" ", 200), readTime, 422, true, false},
		"the body of a stream":          {"GET /api/v1/hosts/h/events HTTP/1.1\nHost: a\nAuthorization: Bearer TOKEN" + long, "", readTime, 422, true, false},
		"the next request":              {"GET /llms.txt HTTP/1.1\nHost: a\n\n", "", idleTime, 200, false, false},
		"a reader":                      {"GET /api/openapi.json HTTP/1.1\nHost: a\n\n", "", writeTime, 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, ended := serveInMemory(t).dial(t)
				request := c.request
				if c.token {
					request = strings.Replace(request, "TOKEN", hostToken(t), 1)
				}
				begun := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					_, _ = io.WriteString(conn, lines(request))
					trickle(conn, lines(c.slowly))
				}()
				status := make(chan int, 1)
				if !c.deaf {
					go func() {
						defer close(status)
						in := bufio.NewReader(conn)
						if r, err := http.ReadResponse(in, nil); err == nil {
							status <- r.StatusCode
							_ = r.Body.Close()
						}
						_, _ = io.Copy(io.Discard, in)
					}()
				}
				// One second more than the bound: a client that still sends is given a moment.
				if took := (<-ended).Sub(begun); took > c.within+time.Second {
					t.Errorf("held for %s", took)
				}
				conn.Close()
				<-sent
				if !c.deaf {
					if got := <-status; got != c.status {
						t.Errorf("answered %d, want %d", got, c.status)
					}
				}
			})
		})
	}
}

// The deadlines are for what never comes, and not for answers that take long.
func TestAStreamOutlivesTheServersDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, ended := serveInMemory(t).dial(t)
		go func() {
			_, _ = fmt.Fprintf(conn, "GET /api/v1/hosts/h/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n", hostToken(t))
		}()
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("answered %+v, %v", r, err)
		}
		<-time.After(30 * time.Minute) // of the test's clock
		select {
		case <-ended:
			t.Error("the stream was ended")
		default:
		}
		conn.Close()
		_ = r.Body.Close()
		<-ended
	})
}

// What is decoded of a token before its signature is checked is bounded.
func TestATokenOfManyValuesIsNotDecoded(t *testing.T) {
	a, err := auth.New(t.Context(), auth.Options{JWTSecret: []byte(testSecret)})
	if err != nil {
		t.Fatal(err)
	}
	for _, claims := range []string{`{"x":[` + strings.Repeat("0,", 20_000) + "0]}", strings.Repeat("[", 40_000), `{"sub":"` + strings.Repeat("h", 40_000) + `"}`} {
		token := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".AAAA"
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := a.Host("Bearer " + token)
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; schemas.KindOf(err) != schemas.Unauthorized || spent > 1<<20 {
			t.Errorf("%v, for %d bytes", err, spent)
		}
	}
}

// A fromConn comes from an address, and is closed without a network.
type fromConn struct {
	net.Conn
	from   string
	once   sync.Once
	closed chan struct{}
}

func (c *fromConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))
}

func (c *fromConn) Close() error { c.once.Do(func() { close(c.closed) }); return nil }

func TestConnectionsAreBoundedInAllAndByAddress(t *testing.T) {
	t.Parallel()
	ln := &pipes{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	l := bound(ln, 5, 3, prometheus.NewRegistry())
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	defer ln.Close()
	// come is the connection as the server gets it, nil for one that was refused.
	come := func(from string) net.Conn {
		c := &fromConn{from: from, closed: make(chan struct{})}
		ln.conns <- c
		select {
		case got := <-accepted:
			return got
		case <-c.closed:
			return nil
		}
	}
	var first []net.Conn
	for i := range 3 {
		c := come(fmt.Sprintf("192.0.2.1:%d", 1+i))
		if c == nil {
			t.Fatalf("connection %d is refused", i)
		}
		first = append(first, c)
	}
	if come("192.0.2.1:9") != nil || come("[::ffff:192.0.2.1]:9") != nil {
		t.Error("an address has more than its bound")
	}
	if come("[2001:db8::1]:1") == nil {
		t.Error("another address is refused")
	}
	first[0].Close()
	first[0].Close() // counts once
	if come("192.0.2.1:10") == nil {
		t.Error("the room of a closed connection is not given again")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != 4 || len(l.from) != 2 {
		t.Errorf("%d open of %d addresses", l.open, len(l.from))
	}
}

func TestConnectionBoundsFollowFromTheStreams(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ streams, readers, all, each, wantAll, wantEach int }{
		{1000, 1000, 0, 0, 4000, 3500}, {200_000, 1000, 0, 0, 203_000, 202_500}, {1000, 1000, 10, 0, 10, 5}, {1000, 1000, 1, 0, 1, 1}, {1000, 1000, 100, 7, 100, 7},
	} {
		cfg := config{maxConnections: c.streams, pullMaxReaders: c.readers, connections: c.all, connectionsPerAddress: c.each}
		if all, each := cfg.connectionBounds(); all != c.wantAll || each != c.wantEach {
			t.Errorf("%+v: got %d and %d", c, all, each)
		}
	}
	if a, b := networkOf(&net.TCPAddr{IP: net.ParseIP("2001:db8:0:1::1")}), networkOf(&net.TCPAddr{IP: net.ParseIP("2001:db8:0:1:ffff::2")}); a != b {
		t.Errorf("%s and %s are two addresses", a, b)
	}
}
