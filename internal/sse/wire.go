package sse

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
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
	var head bytes.Buffer
	_, _ = head.WriteString("HTTP/1.1 200 OK\r\n")
	_ = c.header.Write(&head)
	_, _ = head.WriteString("\r\n")
	c.header = nil
	return c.send(head.Bytes(), time.Now().Add(writeTimeout))
}

// maxChunk bounds what is copied of what is written: a client that takes nothing holds
// one chunk, and not all that waits for it, which others share.
const maxChunk = 32 << 10

// write sends pieces in chunks, mostly one: that is one packet and one system call. No
// chunk is empty, for that would end the answer.
func (c *wire) write(within time.Duration, pieces ...[]byte) error {
	until := time.Now().Add(within)
	left := 0
	for _, p := range pieces {
		left += len(p)
	}
	b := scratches.Get().(*scratch)
	defer scratches.Put(b)
	for rest := []byte(nil); left > 0; {
		n := min(left, maxChunk)
		*b = slices.Grow((*b)[:0], n+len("ffff\r\n\r\n"))
		if c.chunked {
			*b = append(strconv.AppendInt(*b, int64(n), 16), "\r\n"...)
		}
		left -= n
		for n > 0 {
			if len(rest) == 0 {
				rest, pieces = pieces[0], pieces[1:]
			}
			some := min(n, len(rest))
			*b = append(*b, rest[:some]...)
			rest, n = rest[some:], n-some
		}
		if c.chunked {
			*b = append(*b, "\r\n"...)
		}
		if err := c.send(*b, until); err != nil {
			return err
		}
	}
	return nil
}

func (c *wire) send(b []byte, until time.Time) error {
	if c.failed {
		return fmt.Errorf("%w: it failed before", ErrWrite)
	}
	_ = c.conn.SetWriteDeadline(until) // a closed connection's error is the write's
	if _, err := c.conn.Write(b); err != nil {
		c.failed = true
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	return nil
}

// close ends the answer, if it is whole, and the connection.
func (c *wire) close() {
	if c.chunked && c.header == nil && !c.failed {
		_ = c.send([]byte("0\r\n\r\n"), time.Now().Add(LastTimeout))
	}
	c.abort()
}

// abort ends the connection at once; what is being written fails.
func (c *wire) abort() { c.once.Do(func() { _ = c.conn.Close() }) }

// A scratch is what a chunk is put together in.
type scratch []byte

var scratches = sync.Pool{New: func() any { return &scratch{} }}
