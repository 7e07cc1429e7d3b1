package sse_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/internal/testenv"
)

// A taker serves each request on its connection, and says when the handler and serve
// have ended.
type taker struct {
	*httptest.Server
	taken, handled, served atomic.Int64
}

func takeOver(t *testing.T, wrap func(http.ResponseWriter) http.ResponseWriter, serve func(context.Context, *sse.Writer)) *taker {
	t.Helper()
	s := &taker{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.handled.Add(1)
		w.Header().Set("X-Request-Id", "r-1")
		if wrap != nil {
			w = wrap(w)
		}
		writer := sse.NewWriter(w)
		if writer.TakeOver(r, func(ctx context.Context) {
			defer s.served.Add(1)
			serve(ctx, writer)
		}) {
			s.taken.Add(1)
			return
		}
		if writer.Open() == nil && r.Method != http.MethodHead {
			serve(r.Context(), writer)
		}
	}))
	s.EnableHTTP2 = true
	t.Cleanup(func() {
		s.Close()
		testenv.Eventually(t, "every stream has ended", func() bool { return s.served.Load() == s.taken.Load() })
	})
	return s
}

// raw sends a request as it stands and reads the connection.
func (s *taker) raw(t *testing.T, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

const get = "GET / HTTP/1.1\nHost: a\n\n"

func twoFrames(_ context.Context, w *sse.Writer) {
	if w.Open() == nil {
		_ = w.Write([]byte("data: 1\n"), []byte("\n"))
		_ = w.Write()
		_ = w.Write(nil, []byte{}) // not the chunk that ends an answer
		w.Last([]byte("data: 2\n\n"))
	}
}

const whole = "data: 1\n\ndata: 2\n\n"

func TestAnAnswerThatWasTakenOverIsOneOfHTTP(t *testing.T) {
	t.Parallel()
	s := takeOver(t, nil, twoFrames)
	s.Start()
	for request, length := range map[string]int64{get: -1, "GET / HTTP/1.0\n\n": -1} {
		_, r := s.raw(t, request)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(body) != whole || resp.StatusCode != http.StatusOK || resp.ContentLength != length || !resp.Close {
			t.Errorf("%q: %+v, %q, %v", request, resp, body, err)
		}
		for name, want := range map[string]string{"X-Request-Id": "r-1", "Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform"} {
			if got := resp.Header[name]; len(got) != 1 || got[0] != want {
				t.Errorf("%q: %s is %q", request, name, got)
			}
		}
		if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
			t.Errorf("%q: Date: %v", request, err)
		}
		if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
			t.Errorf("%q: behind the answer there is %q, %v", request, rest, err)
		}
	}
	if n := s.taken.Load(); n != 2 {
		t.Errorf("%d were taken over", n)
	}
}

// hidden shows no http.Hijacker, as middlewares of others do.
type hidden struct{ http.ResponseWriter }

func (h hidden) Flush() { h.ResponseWriter.(http.Flusher).Flush() }

func TestWhatCannotBeTakenOverIsAnsweredAsItWas(t *testing.T) {
	t.Parallel()
	read := func(s *taker, method string) (version int, kind, text string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.ProtoMajor, resp.Header.Get("Content-Type"), string(body)
	}
	second, plain := takeOver(t, nil, twoFrames), takeOver(t, nil, twoFrames)
	behind := takeOver(t, func(w http.ResponseWriter) http.ResponseWriter { return hidden{w} }, twoFrames)
	second.StartTLS()
	plain.Start()
	behind.Start()
	if version, _, body := read(second, http.MethodGet); version != 2 || body != whole {
		t.Errorf("HTTP/%d: %q", version, body)
	}
	if _, kind, body := read(plain, http.MethodHead); body != "" || kind != "text/event-stream" {
		t.Errorf("HEAD: %s, %q", kind, body)
	}
	if _, _, body := read(behind, http.MethodGet); body != whole {
		t.Errorf("behind a middleware: %q", body)
	}
	if n := second.taken.Load() + plain.taken.Load() + behind.taken.Load(); n != 0 {
		t.Errorf("%d were taken over", n)
	}
}

// The handler's end is not the stream's, the client's is; what it says in the middle
// is not an end.
func TestAStreamThatWasTakenOverLastsAsLongAsItsClient(t *testing.T) {
	t.Parallel()
	var more atomic.Bool
	s := takeOver(t, nil, func(ctx context.Context, w *sse.Writer) {
		if w.Open() != nil {
			return
		}
		for !more.Load() {
			if w.Write([]byte(": beat\n\n")) != nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
		w.Last([]byte("data: end\n\n"))
	})
	s.Start()
	quiet, _ := s.raw(t, get)
	speaks, r := s.raw(t, get)
	testenv.Eventually(t, "both handlers have returned", func() bool { return s.handled.Load() == 2 })
	if _, err := io.WriteString(speaks, "what?"); err != nil {
		t.Fatal(err)
	}
	_ = quiet.Close()
	testenv.Eventually(t, "the one whose client went has ended", func() bool { return s.served.Load() == 1 })
	more.Store(true)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), "data: end\n\n") {
		t.Errorf("the one that spoke got %.100q, %v", body, err)
	}
}

// A client that reads nothing holds a write for ten seconds; who has to end cannot
// wait so long.
func TestAWriteThatNobodyTakesIsAborted(t *testing.T) {
	t.Parallel()
	writers, failed := make(chan *sse.Writer, 1), make(chan error, 1)
	s := takeOver(t, nil, func(_ context.Context, w *sse.Writer) {
		_ = w.Open()
		writers <- w
		failed <- w.Write(make([]byte, 64<<20)) // more than all buffers on the way hold
	})
	s.Start()
	s.raw(t, get)
	w := <-writers
	w.Abort()
	w.Abort()
	if err := <-failed; !errors.Is(err, sse.ErrWrite) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, and not that the connection was closed", err)
	}
}

// However much is written at once, it arrives as it was.
func TestALongWriteArrivesWhole(t *testing.T) {
	t.Parallel()
	var pieces [][]byte
	for n := range 200 {
		pieces = append(pieces, bytes.Repeat([]byte{byte('a' + n%26)}, n*n%70_000))
	}
	s := takeOver(t, nil, func(_ context.Context, w *sse.Writer) {
		if err := errors.Join(w.Open(), w.Write(pieces...)); err != nil {
			t.Error(err)
		}
	})
	s.Start()
	for _, request := range []string{get, "GET / HTTP/1.0\n\n"} {
		_, r := s.raw(t, request)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := bytes.Join(pieces, nil); err != nil || !bytes.Equal(body, want) {
			t.Errorf("%q: %d bytes of %d, %v", request, len(body), len(want), err)
		}
	}
}

// A half lets half of one write through and fails, as a deadline does.
type half struct {
	http.ResponseWriter
	conn *halfConn
}

type halfConn struct {
	net.Conn
	at      string
	written atomic.Pointer[string]
}

func (h half) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, b, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn.Conn = conn
	return h.conn, b, err
}

func (c *halfConn) Write(b []byte) (int, error) {
	all := *c.written.Load()
	defer func() { c.written.Store(&all) }()
	if strings.Contains(string(b), c.at) {
		all += string(b[:len(b)/2])
		return len(b) / 2, io.ErrShortWrite
	}
	all += string(b)
	return c.Conn.Write(b)
}

// The client may hold half a chunk: another one, or the one that ends the answer,
// would be read as the rest of it.
func TestNothingFollowsAWriteThatFailed(t *testing.T) {
	t.Parallel()
	conn := &halfConn{at: "data: torn"}
	conn.written.Store(new(string))
	s := takeOver(t, func(w http.ResponseWriter) http.ResponseWriter { return half{w, conn} }, func(_ context.Context, w *sse.Writer) {
		_ = w.Open()
		if err := w.Write([]byte("data: torn\n\n")); !errors.Is(err, sse.ErrWrite) {
			t.Errorf("got %v", err)
		}
		if err := w.Write([]byte("data: next\n\n")); !errors.Is(err, sse.ErrWrite) {
			t.Errorf("the next write: %v", err)
		}
		w.Last([]byte("data: last\n\n"))
	})
	s.Start()
	s.raw(t, get)
	testenv.Eventually(t, "it has ended", func() bool { return s.served.Load() == 1 })
	s.Close()
	if all := *conn.written.Load(); !strings.HasSuffix(all, "\r\n\r\nc\r\ndata:") || strings.Contains(all, "next") {
		t.Errorf("written was %q", all)
	}
}
