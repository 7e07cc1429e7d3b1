package push

import (
	"errors"
	"os"
	"time"

	"github.com/krib-ai/krib/internal/sse"
)

// chunk is how much history goes between two looks at why to stop.
const chunk = 64 << 10

// A stream is the answer to one request. Only the goroutine that serves it uses it.
type stream struct {
	*sse.Writer

	sent func(frames int)
	safe string // the id of the last frame written whole
}

// write sends frames and flushes once.
func (s *stream) write(p place, fs []frame) error {
	if len(fs) == 0 {
		return nil
	}
	pieces := make([][]byte, len(fs))
	for i := range fs {
		pieces[i] = fs[i].bytes
	}
	if err := s.Write(pieces...); err != nil {
		return err
	}
	s.safe = p.at(fs[len(fs)-1].next).String()
	s.sent(len(fs))
	return nil
}

// last says why the stream ends, if the client still listens. Its id is what the
// client has anyway: some forget their position on an event without one.
func (s *stream) last(e ending, retry time.Duration) {
	s.Last(disconnect(s.safe, e, retry, time.Now()))
}

// verdict is why a write failed. The request's context says nothing of it: the
// server ends it at every error of a write.
func verdict(err error) code {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return codeStalled
	}
	return codeGone
}
