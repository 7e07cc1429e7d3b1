package push

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

const (
	// writeTimeout bounds one drain of a queue. The server's own WriteTimeout counts
	// from the request and would cut every stream.
	writeTimeout = 10 * time.Second
	// lastTimeout bounds the farewell to a client that may not listen any more.
	lastTimeout = time.Second
	// chunk is how much history goes between two looks at why to stop.
	chunk = 64 << 10
)

// A stream is the answer to one request. Only the request's goroutine uses it.
//
// After a write has failed nothing more is written. The client may hold half a
// frame, without the blank line that ends it; what came next would be glued to it,
// and the blank line of that would dispatch a torn event and make its id the
// client's position: the event would be lost.
type stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	sent func(frames int)
	safe string // the id of the last frame written whole
}

// open sends the headers at once, so that the client knows it is connected and
// every proxy on the way shows whether it buffers.
func (s *stream) open() error {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx holds answers back otherwise
	_ = s.rc.SetReadDeadline(time.Time{})
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	s.w.WriteHeader(http.StatusOK)
	return s.flush()
}

// errWrite is in every error of writing to the client, after which nothing more
// is written.
var errWrite = errors.New("writing to a client")

// write sends frames and flushes once.
func (s *stream) write(p place, fs []frame) error {
	if len(fs) == 0 {
		return nil
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // where it is not supported, the server has its own
	for _, f := range fs {
		if _, err := s.w.Write(f.bytes); err != nil {
			return fmt.Errorf("%w: %w", errWrite, err)
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.safe = p.at(fs[len(fs)-1].next).String()
	s.sent(len(fs))
	return nil
}

// raw sends bytes that move no position.
func (s *stream) raw(b []byte) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.w.Write(b); err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	return s.flush()
}

// flush clears the deadline behind it: HTTP/2 resets a stream when the deadline
// passes, whether something is being written or not.
func (s *stream) flush() error {
	if err := s.rc.Flush(); err != nil {
		return fmt.Errorf("%w: flushing: %w", errWrite, err)
	}
	_ = s.rc.SetWriteDeadline(time.Time{})
	return nil
}

// last says why the stream ends, if the client still listens. Its id is what the
// client has anyway: some forget their position on an event without one. The
// deadline stays for the end of the body that the server writes.
func (s *stream) last(e ending, retry time.Duration) {
	_ = s.rc.SetWriteDeadline(time.Now().Add(lastTimeout))
	if _, err := s.w.Write(disconnect(s.safe, e, retry, time.Now())); err == nil {
		_ = s.rc.Flush()
	}
}

// verdict is why a write failed. The request's context says nothing of it: the
// server ends it at every error of a write.
func verdict(err error) code {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return codeStalled
	}
	return codeGone
}
