package pull

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

const (
	// checkEvery is how often a stream asks whether its key still works, and
	// checkWithin how long it goes on when nobody can say.
	checkEvery  = 2 * time.Second
	checkWithin = 30 * time.Second
	// slowWrite is when a client that did not take what was written is a slow one.
	slowWrite = 500 * time.Millisecond
)

// Follow answers with a stream of what follows a cursor, until the client leaves,
// the log drains, or renew says that the key has ended. Renew answers what the key
// may see now; it is asked every two seconds. An error means that nothing was
// written. A reader for whom there is no room is answered with a stream that ends
// at once and says when to come back.
func (l *Log) Follow(w http.ResponseWriter, r *http.Request, ask schemas.Pull, renew func(context.Context) (schemas.Subscription, error)) error {
	s := &stream{Writer: sse.NewWriter(w), l: l, want: ask.For, retry: sse.Between(2*time.Second, 6*time.Second)}
	rd, refused := l.admit(ask.Key, ask.For.AgentID)
	if refused != nil {
		l.metrics.end(refused.code)
		if _, err := parseCursor(ask.After); err == nil {
			s.id = ask.After // never what a client wrote that is no cursor
		}
		if err := s.Open(); err == nil {
			s.retry = sse.Between(15*time.Second, 30*time.Second)
			s.last(refused)
		}
		return nil
	}
	defer l.release(rd)
	l.listen(rd, &s.want)
	defer l.unlisten(rd)
	pos, err := l.begin(r.Context(), &ask)
	if err != nil {
		return err
	}
	s.pos = pos
	if err := s.Open(); err != nil {
		l.metrics.end(verdict(err))
		return nil
	}
	if r.Method == http.MethodHead {
		l.metrics.end(codeGone)
		return nil
	}
	l.metrics.end(s.run(r.Context(), rd, renew))
	return nil
}

// A stream is one connection. Only the request's goroutine uses it.
type stream struct {
	*sse.Writer

	l     *Log
	want  schemas.Subscription
	pos   []int64
	id    string // what the client has read up to
	retry time.Duration
	live  bool // it has been where memory reaches
	slow  bool // a write waited for the client, since it last was there
}

// run writes until the stream ends. The goroutine of the request is the writer: an
// idle stream costs no other.
func (s *stream) run(ctx context.Context, rd *reader, renew func(context.Context) (schemas.Subscription, error)) code {
	if err := s.hello(); err != nil {
		return verdict(err)
	}
	beat := time.NewTicker(s.l.opts.Heartbeat)
	defer beat.Stop()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	sure := time.Now()
	for {
		more, end, err := s.step(ctx)
		switch {
		case err != nil:
			return verdict(err)
		case ctx.Err() != nil:
			return codeGone
		case end != nil:
			s.last(end)
			return end.code
		}
		select {
		case <-ctx.Done():
			return codeGone
		case <-rd.drained:
			s.last(endDrain)
			return codeDrain
		case <-check.C:
			if end := s.check(ctx, rd, renew, &sure); end != nil {
				s.last(end)
				return end.code
			}
		case <-beat.C:
			if err := s.heartbeat(); err != nil {
				return verdict(err)
			}
		case <-rd.wake:
		case <-atOnce(more):
		}
	}
}

// step writes the next page, if there is any. Who was where memory reaches, and is
// not any more because it took its time to read, does not keep up: reading the log
// again for each of those would cost the others, and to be told is better than to be
// late and not know it. Where it was us who took the time, the log is read.
func (s *stream) step(ctx context.Context) (more bool, end *ending, err error) {
	behind := s.l.behind(s.pos)
	if behind && s.live && s.slow {
		return false, &ending{codeSlow, "the connection does not keep up; resume from the last id"}, nil
	}
	if !behind {
		s.live, s.slow = true, false
	}
	before := append([]int64(nil), s.pos...)
	p, err := s.l.next(ctx, s.pos, &s.want, streamPage)
	if err != nil {
		return false, &ending{codeHistory, "what follows the cursor cannot be read now; resume from the last id"}, nil //nolint:nilerr // it is an end for the client, and was logged where it happened
	}
	return p.more, nil, s.send(before, p.entries)
}

// send writes events, each with the cursor behind it: the positions from which the
// page was read, moved event by event.
func (s *stream) send(at []int64, es []*entry) error {
	var frames [][]byte
	id := s.id
	for _, e := range es {
		b := s.l.body(e)
		if b == nil {
			continue
		}
		at[e.partition] = e.offset + 1
		id = s.l.at(at)
		f, err := sse.Append(nil, 0, id, string(e.kind), b)
		if err != nil { // JSON of ours is one line; a type of event with a line end is somebody's attack
			s.l.metrics.undecodable.Inc()
			continue
		}
		frames = append(frames, f)
	}
	if len(frames) == 0 {
		return nil
	}
	if err := s.write(id, frames...); err != nil {
		return err
	}
	s.l.metrics.streamed.Add(float64(len(frames)))
	return nil
}

// write moves what the client has read up to, once it was written whole.
func (s *stream) write(id string, frames ...[]byte) error {
	start := time.Now()
	if err := s.Write(frames...); err != nil {
		return err
	}
	// A heartbeat after it that was taken at once does not say that the client kept up.
	s.id, s.slow = id, s.slow || time.Since(start) > slowWrite
	return nil
}

// check asks whether the key still works and what it sees.
func (s *stream) check(ctx context.Context, rd *reader, renew func(context.Context) (schemas.Subscription, error), sure *time.Time) *ending {
	want, err := renew(ctx)
	switch kind := schemas.KindOf(err); {
	case err == nil:
		*sure = time.Now()
		if want.Platform != s.want.Platform {
			s.want.Platform = want.Platform
			s.l.listen(rd, &s.want)
		}
		return nil
	case kind == schemas.Unauthorized, kind == schemas.Forbidden:
		return &ending{codeKey, "the key does not work any more, or not for this"}
	case time.Since(*sure) > checkWithin:
		return &ending{codeOverloaded, "the key cannot be checked at the moment"}
	}
	return nil
}

// verdict is why a write failed. The request's context says nothing of it: the
// server ends it at every error of a write.
func verdict(err error) code {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return codeStalled
	}
	return codeGone
}

type helloData struct {
	Type          string    `json:"type"`
	Timestamp     time.Time `json:"timestamp"`
	Cursor        string    `json:"cursor"`
	CompleteSince time.Time `json:"complete_since"`
	HeartbeatMS   int64     `json:"heartbeat_ms"`
}

type heartbeatData struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Cursor    string    `json:"cursor"`
}

type disconnectData struct {
	Type      string    `json:"type"`
	Code      code      `json:"code"`
	Reason    string    `json:"reason"`
	Cursor    string    `json:"cursor"`
	RetryMS   int64     `json:"retry_ms"`
	Terminal  bool      `json:"terminal"`
	Timestamp time.Time `json:"timestamp"`
}

func now() time.Time { return schemas.Stamp(time.Now()) }

// hello is the first frame. Its id is where the stream begins, so a client that
// loses it right after goes on from there.
func (s *stream) hello() error {
	id := s.l.at(s.pos)
	data := helloData{"connected", now(), id, s.l.completeSince(), s.l.opts.Heartbeat.Milliseconds()}
	return s.write(id, control(s.retry, id, "connected", data))
}

// heartbeat carries the positions that were looked at, so that what is filtered out
// does not have to be read again, and a quiet client has a cursor of now. All that
// it may see below them stands before it.
func (s *stream) heartbeat() error {
	id := s.l.at(s.pos)
	return s.write(id, control(0, id, "heartbeat", heartbeatData{"heartbeat", now(), id}))
}

// last says why the stream ends, if the client still listens. Its id is what the
// client has anyway: some forget their position on an event without one. A key that
// has ended will not work again; everything else may be tried again.
func (s *stream) last(e *ending) {
	data := disconnectData{"disconnect", e.code, e.reason, s.id, s.retry.Milliseconds(), e.code == codeKey, now()}
	s.Last(control(s.retry, s.id, "disconnect", data))
}

// control makes a frame of the log's own. Its data are strings of ours, numbers
// and times, which always encode, on one line.
func control(retry time.Duration, id, event string, data any) []byte {
	b, err := schemas.Encode(data)
	if err == nil {
		b, err = sse.Append(nil, retry, id, event, b)
	}
	if err != nil {
		panic("pull: a control frame did not encode: " + err.Error())
	}
	return b
}
