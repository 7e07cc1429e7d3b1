package sse

import (
	"errors"
	"fmt"
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

// A Writer is the answer to one request. Only the request's goroutine uses it.
//
// After a write has failed nothing more may be written. The client may hold half a
// frame, without the blank line that ends it; what came next would be glued to it,
// and the blank line of that would dispatch a torn event and make its id the
// client's position: the event would be lost.
type Writer struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// NewWriter makes the writer of an answer; nothing is sent before Open.
func NewWriter(w http.ResponseWriter) *Writer {
	return &Writer{w: w, rc: http.NewResponseController(w)}
}

// Open sends the headers at once, so that the client knows it is connected and
// every proxy on the way shows whether it buffers.
func (w *Writer) Open() error {
	h := w.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx holds answers back otherwise
	_ = w.rc.SetReadDeadline(time.Time{})
	_ = w.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.w.WriteHeader(http.StatusOK)
	return w.flush()
}

// Write sends pieces, which end where frames end, and flushes once.
func (w *Writer) Write(pieces ...[]byte) error {
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
	_ = w.rc.SetWriteDeadline(time.Now().Add(LastTimeout))
	if _, err := w.w.Write(frame); err == nil {
		_ = w.rc.Flush()
	}
}
