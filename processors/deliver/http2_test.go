package deliver

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

var here = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// trusting is a sender that believes a test server's certificate.
func trusting(t *testing.T, srv *httptest.Server, timeout time.Duration) *sender {
	t.Helper()
	s := newSender(timeout, here, false)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	s.transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	t.Cleanup(s.transport.CloseIdleConnections)
	return s
}

func post(t *testing.T, s *sender, url string) answer {
	t.Helper()
	to := &subscriber{secrets: []openSecret{{key: []byte("k")}}}
	to.URL = url
	return s.send(t.Context(), &schemas.Delivery{ID: "dlv_1", EventID: "evt_1", Payload: "{}"}, to, "", time.Now())
}

func TestRequestsShareOneConnectionOfHTTP2(t *testing.T) {
	t.Parallel()
	var (
		mu    sync.Mutex
		conns = map[string]int{}
	)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		conns[r.Proto+" "+r.RemoteAddr]++
		_, _ = w.Write(make([]byte, 10<<10))
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s := trusting(t, srv, 10*time.Second)
	if a := post(t, s, srv.URL); a.err != nil || a.status != 200 {
		t.Fatalf("%+v", a)
	}
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if a := post(t, s, srv.URL); a.err != nil || a.status != 200 {
				t.Errorf("%+v", a)
			}
		})
	}
	wg.Wait()
	for name, n := range conns {
		if len(conns) != 1 || n != 31 || !strings.HasPrefix(name, "HTTP/2.0 ") {
			t.Errorf("connections: %v", conns)
		}
	}
}

func TestConnectionsOfHTTP1AreUsedAgain(t *testing.T) {
	t.Parallel()
	var (
		mu    sync.Mutex
		conns = map[string]bool{}
	)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		conns[r.RemoteAddr] = true
		_, _ = w.Write(make([]byte, 10<<10)) // more than is kept, less than is read
	}))
	t.Cleanup(srv.Close)
	s := newSender(10*time.Second, here, true)
	t.Cleanup(s.transport.CloseIdleConnections)
	for range 20 {
		if a := post(t, s, srv.URL); a.err != nil || a.status != 200 {
			t.Fatalf("%+v", a)
		}
	}
	if len(conns) != 1 {
		t.Errorf("%d connections for 20 requests", len(conns))
	}
}

// A connection that the receiver gave up while it was idle is no fault of the
// request that finds it so, and costs no attempt.
func TestARequestOnAConnectionThatWasGivenUpIsMadeOnANewOne(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				for n := range 2 {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					if req.Header["Idempotency-Key"] != nil {
						t.Error("the header that only the transport needs was sent")
					}
					if n == 0 { // the second is read, and the connection closed
						_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
					}
				}
			}()
		}
	}()
	s := newSender(10*time.Second, here, true)
	t.Cleanup(s.transport.CloseIdleConnections)
	for range 5 {
		if a := post(t, s, "http://"+l.Addr().String()); a.err != nil || a.status != 204 {
			t.Fatalf("%+v", a)
		}
	}
}

func TestAServerThatSaysGoAwayAfterEachAnswerGetsEveryRequestOnce(t *testing.T) {
	t.Parallel()
	var (
		mu   sync.Mutex
		seen int
	)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen++
		w.Header().Set("Connection", "close") // over HTTP/2 it becomes a GOAWAY
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s := trusting(t, srv, 10*time.Second)
	for range 20 {
		if a := post(t, s, srv.URL); a.err != nil || a.status != 200 {
			t.Fatalf("%+v", a)
		}
	}
	if seen != 20 {
		t.Errorf("%d requests came, want 20", seen)
	}
}

// Frames of HTTP/2: empty settings, and a GOAWAY that has taken no stream.
const (
	settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	goAway   = "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x02"
)

func TestAServerThatOnlySaysGoAwayIsRetriedLater(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(nil)
	srv.TLS = &tls.Config{NextProtos: []string{"h2"}}
	srv.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		"h2": func(_ *http.Server, c *tls.Conn, _ http.Handler) {
			_, _ = io.ReadAtLeast(c, make([]byte, 4<<10), 24) // the preface
			_, _ = io.WriteString(c, settings+goAway)
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		},
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s := trusting(t, srv, 2*time.Second)
	begun := time.Now()
	a := post(t, s, srv.URL)
	if v := judge(a.status, a.header, a.err); v.outcome != schemas.Retry || v.class == schemas.ErrorOurs || a.status != 0 {
		t.Errorf("%+v of %+v", v, a)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// The name leads to an address that may be called first, and to another later.
func TestANameThatComesToMeanLoopbackIsRefused(t *testing.T) {
	t.Parallel()
	inside, port := newInside(t)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})}}
	srv.Start()
	t.Cleanup(srv.Close)
	ns := &rebinding{last: 2}
	s := newSender(5*time.Second, []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, true)
	s.dialer.Resolver = ns.serve(t)
	if a := post(t, s, "http://good.test:"+port); a.err != nil || a.status != 200 {
		t.Fatalf("%+v", a)
	}
	ns.move(1)
	if a := post(t, s, "http://good.test:"+port); a.err != nil || a.status != 200 {
		t.Errorf("on the connection that it has: %+v", a)
	}
	s.transport.CloseIdleConnections()
	a := post(t, s, "http://good.test:"+port)
	if v := judge(a.status, a.header, a.err); v.outcome != schemas.Dead || v.class != schemas.ErrorRefused {
		t.Errorf("%+v of %+v", v, a)
	}
	if inside() > 0 {
		t.Error("loopback was called")
	}
}

// newInside listens on loopback, where nobody must come.
func newInside(t *testing.T) (came func() int, port string) {
	t.Helper()
	var (
		mu sync.Mutex
		n  int
	)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			mu.Lock()
			n++
			mu.Unlock()
		}
	}()
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}, port
}
