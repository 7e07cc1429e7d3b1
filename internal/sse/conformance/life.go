package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// lifeItems are about what happens while a stream is open, and after it was not.
func lifeItems() []Item {
	return []Item{
		{"the headers come at once, before anything has happened", "eventsource-onopen", atOnce},
		{"an event comes when it happens, and not when a buffer is full", "event-data", whenItHappens},
		{"a quiet stream gives a sign of life", "the standard, 9.2.7: a comment every 15 seconds or so", alive},
		{"the client is told how long to wait before it comes back", "format-field-retry", waits},
		{"it goes on behind the Last-Event-ID of the header", "format-field-id, last-event-id2.py, eventsource-reconnect", resumes(func(id string, _ *Target) []change {
			return []change{header("Last-Event-ID", id)}
		})},
		{"it goes on behind the id in the query, for a client that can send no header", "the standard, 9.2.4", byQuery(func(id string, t *Target) []change {
			return []change{parameter(t.Position, id)}
		})},
		{"the header is newer than the query, and wins", "eventsource-reconnect", headerWins},
		{"the same position answers the same again", "format-data-before-final-empty-line", again},
		{"a position that is nobody's is no error of the server", "request-status-error", unknown},
		{"a position in bytes that are not ASCII is no error of the server", "format-field-id-2, cors-unsafe-last-event-id.py", notASCII},
		{"a client that leaves is let go", "eventsource-close, request-cancellation, eventsource-bfcache", letGo},
		{"many clients have the event, each once", "shared-worker/*, dedicated-worker/*", many},
		{"it ends between two events, and cleanly", "eventsource-reconnect, format-data-before-final-empty-line", endsWell},
	}
}

func atOnce(ctx context.Context, t *Target) error {
	s, err := t.open(ctx)
	if err != nil {
		return err
	}
	s.close()
	return nil
}

func whenItHappens(ctx context.Context, t *Target) error {
	s, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if err := t.publish(ctx, "now"); err != nil {
		return err
	}
	if _, _, err = t.await(s); err != nil {
		return fmt.Errorf("it did not come while the stream was open: %w", err)
	}
	return nil
}

// signs are how many ends of events and comments come while nothing happens. The
// first may be what a stream begins with.
const signs = 4

func alive(ctx context.Context, t *Target) error {
	s, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	for n := 0; n < signs; {
		line, err := s.body.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("after %d signs nothing came: %w", n, err)
		}
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == ':' {
			n++
		}
	}
	return nil
}

func waits(ctx context.Context, t *Target) error {
	s, err := t.sample(ctx)
	if err != nil {
		return err
	}
	for _, e := range s.all {
		for _, line := range e.lines {
			if bytes.HasPrefix(line, []byte("retry:")) {
				return nil
			}
		}
		if e == s.the[0] {
			break
		}
	}
	return errors.New("there is no retry up to the first event")
}

// resumes makes an item of a way to say a position.
func resumes(say func(id string, t *Target) []change) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		s, err := t.sample(ctx)
		if err != nil {
			return err
		}
		for i, e := range s.the[:2] {
			if err := t.follows(ctx, s, i+1, say(e.id, t)...); err != nil {
				return fmt.Errorf("behind event %d (%q): %w", i+1, e.id, err)
			}
		}
		return nil
	}
}

// follows opens a stream and wants all of the sample but the first n events, each
// once. They may come in another order, and with others between them: a position
// may be in several logs. What the server says of its own accord before them must
// not be as far as they are.
func (t *Target) follows(ctx context.Context, of *sample, n int, changes ...change) error {
	s, err := t.open(ctx, changes...)
	if err != nil {
		return err
	}
	defer s.close()
	left := map[string]string{} // ids by data
	for _, e := range of.the[n:] {
		left[e.data] = e.id
	}
	for len(left) > 0 {
		got, before, err := t.await(s)
		if err != nil {
			return fmt.Errorf("%d of %d did not come: %w", len(left), len(of.the)-n, err)
		}
		for _, e := range before {
			for _, id := range left {
				if e.hasID && e.id == id {
					return fmt.Errorf("%s has the id of an event that comes after it: cut between the two, the client loses that", e.name)
				}
			}
		}
		if _, wanted := left[got.data]; !wanted && of.has(got.data) {
			return fmt.Errorf("%q came again: %.80q", got.id, got.data)
		}
		delete(left, got.data)
	}
	return nil
}

func (s *sample) has(data string) bool {
	return slices.ContainsFunc(s.the, func(e *event) bool { return e.data == data })
}

func byQuery(say func(id string, t *Target) []change) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		if t.Position == "" {
			return ErrNotApplicable
		}
		return resumes(say)(ctx, t)
	}
}

func headerWins(ctx context.Context, t *Target) error {
	if t.Position == "" {
		return ErrNotApplicable
	}
	s, err := t.sample(ctx)
	if err != nil {
		return err
	}
	return t.follows(ctx, s, 2, header("Last-Event-ID", s.the[1].id), parameter(t.Position, s.the[0].id))
}

// again: an answer that was cut before its end is asked for once more.
func again(ctx context.Context, t *Target) error {
	s, err := t.sample(ctx)
	if err != nil {
		return err
	}
	for range 3 {
		if err := t.follows(ctx, s, 1, header("Last-Event-ID", s.the[0].id)); err != nil {
			return err
		}
	}
	return nil
}

func unknown(ctx context.Context, t *Target) error { return t.survives(ctx, "nobody-s.position-0") }

func notASCII(ctx context.Context, t *Target) error { return t.survives(ctx, "é…\xff") }

// survives: a browser sends whatever it was once given, also by another server.
func (t *Target) survives(ctx context.Context, id string) error {
	s, err := t.ask(ctx, header("Last-Event-ID", id))
	if err != nil {
		return err
	}
	defer s.close()
	if s.res.StatusCode > 499 {
		return fmt.Errorf("it is answered with %d", s.res.StatusCode)
	}
	return nil
}

func letGo(ctx context.Context, t *Target) error {
	if t.Open == nil {
		return ErrNotApplicable
	}
	for _, want := range []int{0, 1, 0} { // of the items before, of this one, and of none again
		var s *stream
		if want > 0 {
			var err error
			if s, err = t.open(ctx); err != nil {
				return err
			}
		}
		err := t.settled(ctx, want)
		if s != nil {
			s.close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settled asks how many streams are open until the number is as wanted.
func (t *Target) settled(ctx context.Context, want int) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		n, err := t.Open(ctx)
		if err != nil || n == want {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("%d are open and not %d: %w", n, want, ctx.Err())
		}
	}
}

// many: six is what a browser has over HTTP/1.1 for an origin.
func many(ctx context.Context, t *Target) error {
	streams := make([]*stream, 6)
	for i := range streams {
		s, err := t.open(ctx)
		if err != nil {
			return fmt.Errorf("opening stream %d: %w", i+1, err)
		}
		defer s.close()
		streams[i] = s
	}
	for range 2 {
		if err := t.publish(ctx, "to all"); err != nil {
			return err
		}
	}
	for i, s := range streams {
		var last *event
		for range 2 {
			e, _, err := t.await(s)
			if err != nil {
				return fmt.Errorf("on stream %d: %w", i+1, err)
			}
			if last != nil && e.id == last.id {
				return fmt.Errorf("stream %d has %q twice", i+1, e.id)
			}
			last = e
		}
	}
	return nil
}

func endsWell(ctx context.Context, t *Target) error {
	if t.End == nil {
		return ErrNotApplicable
	}
	s, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	ended := make(chan error, 1)
	go func() { ended <- t.End(ctx) }()
	for err == nil {
		_, err = s.next()
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	return <-ended
}
