package deliver

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// nameServer answers for good.test with a loopback address, unless it is down,
// and fails for every other name.
func nameServer(t *testing.T, down *atomic.Bool) *net.Resolver {
	t.Helper()
	return resolver(t, func(query []byte) []byte { return reply(query, down.Load()) })
}

// A rebinding name server gives good.test an address of 127.0.0.0/24 that moves.
type rebinding struct {
	mu   sync.Mutex
	last byte
}

func (n *rebinding) move(last byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = last
}

func (n *rebinding) serve(t *testing.T) *net.Resolver {
	t.Helper()
	return resolver(t, func(query []byte) []byte {
		out := reply(query, false)
		if out[7] == 1 { // one answer, whose last byte is the address's
			n.mu.Lock()
			defer n.mu.Unlock()
			out[len(out)-1] = n.last
		}
		return out
	})
}

// resolver asks a name server of this test, which answers what answer says.
func resolver(t *testing.T, answer func(query []byte) []byte) *net.Resolver {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(answer(b[:n]), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func reply(query []byte, down bool) []byte {
	end := 12 + bytes.IndexByte(query[12:], 0) + 5 // the question ends with its type and class
	out := append([]byte(nil), query[:end]...)
	copy(out[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	if down || !bytes.Equal(query[12:end-4], []byte("\x04good\x04test\x00")) {
		out[3] |= 2 // SERVFAIL
		return out
	}
	if binary.BigEndian.Uint16(query[end-4:]) == 1 {
		out[7] = 1
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return out
}

func TestNameThatDoesNotResolveIsOursOnlyIfOthersDoNotEither(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	s := newSender(5*time.Second, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, true)
	s.dialer.Resolver = nameServer(t, &down)
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	class := func(host string) schemas.ErrorClass {
		to := &subscriber{secrets: []openSecret{{key: []byte("k")}}}
		to.URL = "http://" + host + ":" + port
		a := s.send(t.Context(), &schemas.Delivery{}, to, "", time.Now())
		return judge(a.status, a.header, a.err).class
	}
	if got := class("bad.test"); got != schemas.ErrorOurs {
		t.Errorf("before any name resolved: %q", got)
	}
	if got := class("good.test"); got != schemas.ErrorStatus {
		t.Fatalf("the good name: %q", got)
	}
	if got := class("bad.test"); got != schemas.ErrorDNS {
		t.Errorf("after another name resolved: %q", got)
	}
	s.names.good = time.Now().Add(-time.Hour)
	if got := class("bad.test"); got != schemas.ErrorDNS {
		t.Errorf("long after, while the other name still resolves: %q", got)
	}
	s.names.good = time.Now().Add(-time.Hour)
	down.Store(true)
	if got := class("bad.test"); got != schemas.ErrorOurs {
		t.Errorf("while no name resolves: %q", got)
	}
}

func TestTimestampIsTheBodysOwn(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"timestamp":"2026-03-01T12:00:00.10Z"}`: "2026-03-01T12:00:00.10Z",
		`{"timestamp":"a\r\nX-Evil: b"}`:          "7",
		`{"timestamp":12}`:                        "7",
		`{}`:                                      "7",
		`no json`:                                 "7",
	} {
		if got := timestampOf([]byte(body), "7"); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
