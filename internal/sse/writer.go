package sse

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	// writeTimeout bounds one write. The server's own WriteTimeout counts from the
	// request and would cut every stream.
	writeTimeout = 10 * time.Second
	// LastTimeout bounds the farewell to a client that may not listen any more.
	LastTimeout = time.Second
)

// ErrWrite is in every error of writing to the client, after which nothing more
// may be written.
var ErrWrite = errors.New("writing to a client")

// A Writer is the answer to one request. Only the goroutine that serves it uses it,
// but for Abort.
//
// After a write has failed nothing more may be written. The client may hold half a
// frame, without the blank line that ends it; what came next would be glued to it,
// and the blank line of that would dispatch a torn event and make its id the
// client's position: the event would be lost.
type Writer struct {
	w    http.ResponseWriter // nil once it was taken over
	rc   *http.ResponseController
	wire *wire // nil unless it was taken over
}

// NewWriter makes the writer of an answer; nothing is sent before Open.
func NewWriter(w http.ResponseWriter) *Writer {
	return &Writer{w: w, rc: http.NewResponseController(w)}
}

// Open sends the headers at once, so that the client knows it is connected and
// every proxy on the way shows whether it buffers.
func (w *Writer) Open() error {
	h := http.Header{}
	if w.wire == nil {
		h = w.w.Header()
	}
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx holds answers back otherwise
	if w.wire != nil {
		return w.wire.open(h)
	}
	_ = w.rc.SetReadDeadline(time.Time{})
	_ = w.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.w.WriteHeader(http.StatusOK)
	return w.flush()
}

// Write sends pieces, which end where frames end, and flushes once.
func (w *Writer) Write(pieces ...[]byte) error {
	if w.wire != nil {
		return w.wire.write(writeTimeout, pieces...)
	}
	_ = w.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // where it is not supported, the server has its own
	for _, b := range pieces {
		if _, err := w.w.Write(b); err != nil {
			return fmt.Errorf("%w: %w", ErrWrite, err)
		}
	}
	return w.flush()
}

// flush clears the deadline behind it: HTTP/2 resets a stream when the deadline
// passes, whether something is being written or not.
func (w *Writer) flush() error {
	if err := w.rc.Flush(); err != nil {
		return fmt.Errorf("%w: flushing: %w", ErrWrite, err)
	}
	_ = w.rc.SetWriteDeadline(time.Time{})
	return nil
}

// Last sends a farewell, if the client still listens. The deadline stays for the
// end of the body that the server writes.
func (w *Writer) Last(frame []byte) {
	if w.wire != nil {
		_ = w.wire.write(LastTimeout, frame)
		return
	}
	_ = w.rc.SetWriteDeadline(time.Now().Add(LastTimeout))
	if _, err := w.w.Write(frame); err == nil {
		_ = w.rc.Flush()
	}
}

// Close ends an answer whose connection was taken over; net/http ends the others. It
// may be called again.
func (w *Writer) Close() {
	if w.wire != nil {
		w.wire.close()
	}
}

// Abort ends the connection of an answer that was taken over, whatever is being
// written, and does nothing to others. Any goroutine may call it, from the moment at
// which serve was called.
func (w *Writer) Abort() {
	if w.wire != nil {
		w.wire.abort()
	}
}

// Between is a time in a range, another one at each call: those who are cut off
// together must not come back together.
func Between(low, high time.Duration) time.Duration {
	return low + rand.N(high-low+time.Millisecond) //nolint:gosec // spread, not secrecy
}
