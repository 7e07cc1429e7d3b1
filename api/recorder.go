package api

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// A recorder knows what was answered. What else the writer below can do is
// reached through Unwrap; flushing is here, because it begins the answer. Chi's
// recorder is not used: its Flush has no error, and a stream to a client that
// takes nothing would go on as if all had arrived.
type recorder struct {
	http.ResponseWriter
	status, bytes int // status is 0 until the answer has begun
	taken         *takenOver
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.begun()
	n, err := w.ResponseWriter.Write(b)
	w.bytes += n
	return n, err
}

// FlushError is what http.ResponseController asks for before Flush.
func (w *recorder) FlushError() error {
	w.begun()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack is for streams, which take their connection over. The answer ends when they
// close it.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // as if it were not here
	}
	w.begun()
	w.taken = &takenOver{Conn: conn}
	return w.taken, buffered, nil
}

// begun says that the answer has: with what is written or flushed before a
// status, 200 goes out.
func (w *recorder) begun() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}

// A takenOver connection counts what is written to it, head and chunks included, and
// says when it was closed.
type takenOver struct {
	net.Conn

	bytes atomic.Int64

	mu     sync.Mutex
	closed bool
	then   func(bytes int)
}

func (c *takenOver) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err //nolint:wrapcheck // as if it were not here
}

// Close is called once.
func (c *takenOver) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.then != nil {
		c.then(int(c.bytes.Load()))
	}
	return err //nolint:wrapcheck // as if it were not here
}

// atEnd calls then when the connection was closed, with what was written.
func (c *takenOver) atEnd(then func(bytes int)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.then = then
	if c.closed {
		then(int(c.bytes.Load()))
	}
}
