package sse

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// TakeOver takes the connection of an HTTP/1 answer over from net/http, runs serve
// on a goroutine of its own and says true; the handler must return then. What
// net/http holds for an answer (its buffers, the request and its headers, a deep
// stack) is given back, which is more than half of what an idle stream costs. The
// context of serve ends when the client goes, and with nothing else: the server's
// Shutdown does not wait for the connection, and what recovers the panics of requests
// is not there. The connection is closed when serve has returned.
//
// It is false for HTTP/2, for HEAD, and where a middleware hides http.Hijacker: then
// nothing has happened, and the answer is written through net/http.
func (w *Writer) TakeOver(r *http.Request, serve func(context.Context)) bool {
	if r.ProtoMajor != 1 || r.Method == http.MethodHead {
		return false
	}
	conn, _, err := w.rc.Hijack()
	if err != nil {
		return false
	}
	w.wire = &wire{conn: conn, chunked: r.ProtoAtLeast(1, 1), header: w.w.Header().Clone()}
	w.w, w.rc = nil, nil // they hold the buffers
	go func() {
		defer w.Close()
		ctx, gone := context.WithCancel(context.Background())
		defer gone()
		go w.wire.watch(gone)
		serve(ctx)
	}()
	return true
}

// A wire is a connection that was taken over.
type wire struct {
	conn    net.Conn
	chunked bool
	header  http.Header // until it was sent
	failed  bool        // a write did: the client may hold half a chunk
	one     [1]byte     // of what the client sends
	once    sync.Once
}

// watch waits for the client to go. It has nothing more to say, and if it does say
// something, that is not read: it was told that the connection closes behind this
// answer, and its end shows at the next write.
func (c *wire) watch(gone func()) {
	if n, err := c.conn.Read(c.one[:]); n == 0 || err != nil {
		gone()
	}
}

func (c *wire) open(h http.Header) error {
	maps.Copy(c.header, h)
	c.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	c.header.Set("Connection", "close")
	if c.chunked {
		c.header.Set("Transfer-Encoding", "chunked")
	}
	b := borrow()
	defer b.giveBack()
	_, _ = b.WriteString("HTTP/1.1 200 OK\r\n")
	_ = c.header.Write(b)
	_, _ = b.WriteString("\r\n")
	c.header = nil
	return c.send(b.bytes, writeTimeout)
}

// write sends pieces as one chunk. None would be the chunk that ends the answer.
func (c *wire) write(within time.Duration, pieces ...[]byte) error {
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	if n == 0 {
		return nil
	}
	b := borrow()
	defer b.giveBack()
	if c.chunked {
		b.bytes = append(strconv.AppendInt(b.bytes, int64(n), 16), "\r\n"...)
	}
	for _, p := range pieces {
		b.bytes = append(b.bytes, p...)
	}
	if c.chunked {
		b.bytes = append(b.bytes, "\r\n"...)
	}
	return c.send(b.bytes, within)
}

func (c *wire) send(b []byte, within time.Duration) error {
	if c.failed {
		return fmt.Errorf("%w: it failed before", ErrWrite)
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(within)) // a closed connection's error is the write's
	if _, err := c.conn.Write(b); err != nil {
		c.failed = true
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	return nil
}

// close ends the answer, if it is whole, and the connection.
func (c *wire) close() {
	if c.chunked && c.header == nil && !c.failed {
		_ = c.send([]byte("0\r\n\r\n"), LastTimeout)
	}
	c.abort()
}

// abort ends the connection at once; what is being written fails.
func (c *wire) abort() { c.once.Do(func() { _ = c.conn.Close() }) }

// A scratch is what a chunk is put together in: one write for each is one packet and
// one system call.
type scratch struct{ bytes []byte }

// maxScratch is the largest that is kept.
const maxScratch = 64 << 10

var scratches = sync.Pool{New: func() any { return &scratch{bytes: make([]byte, 0, 4<<10)} }}

func borrow() *scratch { return scratches.Get().(*scratch) }

func (s *scratch) giveBack() {
	if cap(s.bytes) <= maxScratch {
		s.bytes = s.bytes[:0]
		scratches.Put(s)
	}
}

func (s *scratch) Write(p []byte) (int, error) {
	s.bytes = append(s.bytes, p...)
	return len(p), nil
}

func (s *scratch) WriteString(p string) (int, error) {
	s.bytes = append(s.bytes, p...)
	return len(p), nil
}
