package conformance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// An event is a block of lines up to a blank one, as it came. Its fields are read
// leniently, so that one fault is not found by every item.
type event struct {
	raw            []byte
	lines          [][]byte // without their ends
	id, name, data string
	hasID, hasData bool
}

// A stream is an answer that is being read.
type stream struct {
	res  *http.Response
	body *bufio.Reader
}

// change alters a request before it is sent.
type change func(*http.Request)

func method(m string) change { return func(r *http.Request) { r.Method = m } }

func header(name, value string) change {
	return func(r *http.Request) {
		if r.Header.Del(name); value != "" {
			r.Header.Set(name, value)
		}
	}
}

func parameter(name, value string) change {
	return func(r *http.Request) {
		q, _ := url.ParseQuery(r.URL.RawQuery)
		q.Set(name, value)
		r.URL.RawQuery = q.Encode()
	}
}

// ask sends a request as an EventSource would, but for what is changed.
func (t *Target) ask(ctx context.Context, changes ...change) (*stream, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	maps.Copy(req.Header, t.Header)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Cache-Control", "no-store")
	req.Header.Set("Accept-Encoding", "identity")
	for _, c := range changes {
		c(req)
	}
	res, err := t.client().Do(req) //nolint:bodyclose // the stream's close does
	if err != nil {
		return nil, fmt.Errorf("no headers came: %w", err)
	}
	return &stream{res, bufio.NewReader(res.Body)}, nil
}

// open is ask for a stream that must be had.
func (t *Target) open(ctx context.Context, changes ...change) (*stream, error) {
	s, err := t.ask(ctx, changes...)
	if err != nil {
		return nil, err
	}
	if s.res.StatusCode != http.StatusOK {
		s.close()
		return nil, fmt.Errorf("the status is %d", s.res.StatusCode)
	}
	return s, nil
}

func (s *stream) close() { _ = s.res.Body.Close() }

// errCut says that the stream ended within a block.
var errCut = errors.New("the stream ends without the blank line of its last event")

// next reads a block that dispatches or at least moves something. io.EOF is a clean
// end between two blocks.
func (s *stream) next() (*event, error) {
	e := &event{}
	for {
		line, err := s.body.ReadBytes('\n')
		e.raw = append(e.raw, line...)
		switch {
		case errors.Is(err, io.EOF) && len(e.raw) > 0:
			return nil, errCut
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		case err != nil:
			return nil, fmt.Errorf("reading the stream: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return e, nil
		}
		e.lines = append(e.lines, line)
		e.field(string(line))
	}
}

func (e *event) field(line string) {
	name, value, _ := strings.Cut(strings.TrimPrefix(line, "\uFEFF"), ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "id":
		e.id, e.hasID = value, true
	case "event":
		e.name = value
	case "data":
		if e.hasData {
			e.data += "\n"
		}
		e.data, e.hasData = e.data+value, true
	}
}

// await reads until an event happened, and returns it with all that came before.
func (t *Target) await(s *stream) (got *event, before []*event, err error) {
	for {
		e, err := s.next()
		if err != nil {
			return nil, before, err
		}
		if e.hasData && !t.own(e) {
			return e, before, nil
		}
		before = append(before, e)
	}
}

func (t *Target) publish(ctx context.Context, text string) error {
	if t.Publish == nil {
		return nil
	}
	if err := t.Publish(ctx, text); err != nil {
		return fmt.Errorf("publishing: %w", err)
	}
	return nil
}

// nasty is a text that every format of lines has to carry with care.
const nasty = " one\ntwo\r\nthree\u2028four: five\tsix é😀"

// A sample is what a stream said while three events happened.
type sample struct {
	all []*event // with the server's own
	the []*event // the three
}

// sample is taken once for all items that look at the form of what comes.
func (t *Target) sample(ctx context.Context) (*sample, error) {
	t.once.Do(func() { t.sampled, t.failed = t.take(ctx) })
	return t.sampled, t.failed
}

func (t *Target) take(ctx context.Context) (*sample, error) {
	s, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	out := &sample{}
	for i := range 3 {
		if err := t.publish(ctx, fmt.Sprint(nasty, i)); err != nil {
			return nil, err
		}
		e, before, err := t.await(s)
		out.all = append(out.all, before...)
		if err != nil {
			return nil, fmt.Errorf("waiting for event %d: %w", i+1, err)
		}
		out.all, out.the = append(out.all, e), append(out.the, e)
	}
	return out, nil
}
