package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// startPatience is how long an early client waits for the first positions.
const startPatience = 10 * time.Second

// Serve answers with the host's stream until the client leaves, the hub drains,
// or until is near; the zero time is no limit. The caller has authenticated the
// host and checked the filter. The status is always 200: any other ends a browser's
// EventSource for ever.
//
// Where it can take the connection over from net/http it does, and returns at once:
// the stream goes on by itself, and Run waits for its end.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, host schemas.HostID, until time.Time, f schemas.FeedFilter) {
	p := h.parts[h.opts.Feed.Partition(host)]
	s := &stream{Writer: sse.NewWriter(w), sent: func(n int) { h.metrics.frames.Add(float64(n)) }}
	f.Property = strings.Clone(f.Property)
	v := &visit{host: schemas.HostID(strings.Clone(string(host))), addr: addressOf(r), until: until, filter: compile(f), asked: askedFor(r, p.place)}
	v.asked.cursor.Epoch = strings.Clone(v.asked.cursor.Epoch)
	if v.asked.given {
		s.safe = v.asked.cursor.String()
	}
	if s.TakeOver(r, func(ctx context.Context) { h.kept(ctx, s, p, v) }) {
		return
	}
	if !h.begin(r.Context(), s) || r.Method == http.MethodHead {
		return
	}
	h.answer(r.Context(), s, p, v)
}

// A visit is what is known of a request for a stream. It holds nothing of the request,
// which is forgotten when its connection was taken over.
type visit struct {
	host   schemas.HostID
	addr   string
	until  time.Time
	filter filter
	asked  request
}

// kept is the life of a stream whose connection was taken over.
func (h *Hub) kept(ctx context.Context, s *stream, p *partition, v *visit) {
	defer func() {
		if p := recover(); p != nil { // what recovers the panics of requests is not there any more
			h.log.ErrorContext(ctx, "a stream panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	if h.begin(ctx, s) {
		h.answer(ctx, s, p, v)
	}
}

func (h *Hub) begin(ctx context.Context, s *stream) bool {
	var err error
	aside(func() { err = s.Open() })
	if errors.Is(err, errors.ErrUnsupported) {
		h.log.ErrorContext(ctx, "a middleware hides Flush from the stream", slog.Any("error", err))
	}
	return err == nil
}

// answer lets a stream in and stays until it ends.
func (h *Hub) answer(ctx context.Context, s *stream, p *partition, v *visit) {
	c, refused := h.admit(v.host, v.addr, s.Abort)
	if refused != nil {
		s.last(*refused, longPatience())
		h.metrics.end(refused.code)
		return
	}
	defer h.release(c)
	defer s.Close()     // before Run may think that it is over
	c.filter = v.filter // before it joins, and never after
	defer expire(c, v.until)()
	if !h.awaitStart(ctx, c) {
		e := ending{codeOverloaded, "the stream is starting"}
		if end := c.ended(); end != nil {
			e = *end
		}
		s.last(e, patience())
		h.metrics.end(e.code)
		return
	}
	h.metrics.end(h.attend(ctx, s, c, p, v.asked))
}

// Refuse answers a stream that cannot be let in now and may be later: what says
// who asks cannot be looked up.
func (h *Hub) Refuse(w http.ResponseWriter, r *http.Request, host schemas.HostID, reason string) {
	s := &stream{Writer: sse.NewWriter(w)}
	if asked := askedFor(r, h.parts[h.opts.Feed.Partition(host)].place); asked.given {
		s.safe = asked.cursor.String()
	}
	if err := s.Open(); err != nil {
		return
	}
	s.last(ending{codeOverloaded, reason}, patience())
	h.metrics.end(codeOverloaded)
}

// awaitStart waits until the first positions are known.
func (h *Hub) awaitStart(ctx context.Context, c *conn) bool {
	t := time.NewTimer(startPatience)
	defer t.Stop()
	select {
	case <-h.started:
		return true
	case <-ctx.Done():
	case <-t.C:
	case <-c.wake: // nothing is queued before join, so this is an ending
	}
	return false
}

// attend joins the partition, says what the client gets, sends it, and stays.
func (h *Hub) attend(ctx context.Context, s *stream, c *conn, p *partition, asked request) code {
	h.checkFuture(ctx, p, &asked)
	next := int64(-1)
	if asked.given && asked.reason == "" {
		next = asked.cursor.Next
	}
	snap := p.join(c, next)
	defer p.leave(c)

	retry := patience()
	over := codeNone
	aside(func() { over = h.welcome(ctx, s, c, p, &asked, snap, retry) })
	if over != codeNone {
		return over
	}
	return h.stay(ctx, s, c, p, retry)
}

// welcome sends what stands before the live stream. Where the connection ends with
// that, it says why.
func (h *Hub) welcome(ctx context.Context, s *stream, c *conn, p *partition, asked *request, snap snapshot, retry time.Duration) code {
	past, err := h.past(ctx, s, c, p, asked, snap)
	switch {
	case errors.Is(err, sse.ErrWrite): // before the context, which ends with it
		return verdict(err)
	case ctx.Err() != nil:
		return codeGone
	case err != nil:
		// No resync: nothing says that the history is lost. It may be read later, or
		// by another replica.
		e := ending{codeOverloaded, "what follows the cursor cannot be read now"}
		if end := c.ended(); end != nil {
			e = *end
		}
		s.last(e, retry)
		return e.code
	}
	first := []frame{hello(c.host, p.place, *asked, snap.head, len(past), retry, h.opts.Heartbeat)}
	if asked.reason != "" {
		first = append(first, resync(p.at(snap.head), asked.reason, time.Now()))
	}
	if err := s.write(p.place, first); err != nil {
		return verdict(err)
	}
	if err := s.replay(p.place, c, past); err != nil {
		return verdict(err)
	}
	return codeNone
}

// checkFuture looks at a cursor that is ahead of this replica. It came with a
// state that the sink has just committed, or with a frame of another replica, and
// the sink's own word, asked for now, covers it. One beyond that word was made up.
func (h *Hub) checkFuture(ctx context.Context, p *partition, asked *request) {
	if !asked.given || asked.reason != "" || asked.cursor.Next <= p.known() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := h.readSink(ctx); err != nil {
		return // nobody can say; it waits for its position, which loses nothing
	}
	if asked.cursor.Next > p.known() {
		asked.reason = resyncInvalid
	}
}

// hello is the connected frame. During a resume its id is the cursor asked for.
// With the head there: a client that loses its connection in the middle of the
// replay would resume behind the rest of it.
func hello(host schemas.HostID, p place, asked request, head int64, missed int, retry, beat time.Duration) frame {
	id := p.at(head)
	if asked.given {
		id = asked.cursor
	}
	data := connectedData{
		Type: "connected", HostID: host, Timestamp: schemas.Stamp(time.Now()),
		Cursor: id.String(), Recovered: asked.given && asked.reason == "", Missed: missed, Head: p.at(head).String(),
		HeartbeatMS: beat.Milliseconds(),
	}
	return frame{control(retry, id.String(), "connected", data), id.Next}
}

// replay writes history at the client's pace, a piece at a time. It stops early
// where the connection has to end; what was not written, the client asks for again.
func (s *stream) replay(p place, c *conn, past []*entry) error {
	var (
		piece []frame
		bytes int
	)
	for i, e := range past {
		piece, bytes = append(piece, e.frame), bytes+len(e.bytes)
		if bytes < chunk && i < len(past)-1 {
			continue
		}
		if c.ended() != nil {
			return nil
		}
		if err := s.write(p, piece); err != nil {
			return err
		}
		piece, bytes = piece[:0], 0
	}
	return nil
}

// stay writes what is queued, until the connection ends. The goroutine that serves it
// is the writer: an idle connection costs none beside that and the one that notices
// the client's end.
func (h *Hub) stay(ctx context.Context, s *stream, c *conn, p *partition, retry time.Duration) code {
	beat := time.NewTimer(sse.Between(h.opts.Heartbeat/2, h.opts.Heartbeat)) // so that those who came together do not beat together
	defer beat.Stop()
	if end := c.ended(); end != nil {
		// It ended during the replay, so the queue begins behind a hole.
		s.last(*end, retry)
		return end.code
	}
	for {
		fs, end := c.take()
		if err := s.write(p.place, fs); err != nil {
			return verdict(err)
		}
		c.wrote()
		if end != nil {
			s.last(*end, retry)
			return end.code
		}
		select {
		case <-ctx.Done():
			return codeGone
		case <-c.wake:
		case <-beat.C:
			beat.Reset(h.opts.Heartbeat)
			p.beat(c, time.Now())
		}
	}
}

// expire ends the connection a little before its credentials end, wherever it is
// in its life: up to 5 s before, never more than a tenth of what is left, and not
// at the same moment for everybody. What it returns takes that back.
func expire(c *conn, until time.Time) (stop func()) {
	if until.IsZero() {
		return func() {}
	}
	left := max(0, time.Until(until))
	lead := min(left/10, 5*time.Second)
	due := left - time.Duration(float64(lead)*(0.5+rand.Float64()/2)) //nolint:gosec // spread, not secrecy
	t := time.AfterFunc(due, func() {
		c.finish(ending{codeExpired, "the credentials expire; come back with new ones"})
	})
	return func() { t.Stop() }
}

// aside runs what needs a deep stack on one of its own, which is given back. A
// stack that has grown stays as large for as long as the connection is open: the
// collector halves one only when three quarters of it are unused.
func aside(f func()) {
	done := make(chan any)
	go func() {
		defer func() {
			p := recover()
			if p != nil && p != any(http.ErrAbortHandler) {
				p = fmt.Sprintf("%v\n%s", p, debug.Stack()) // the place is lost otherwise
			}
			done <- p
		}()
		f()
	}()
	if p := <-done; p != nil {
		panic(p) // for whoever handles those of requests
	}
}
