package sse_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/internal/sse/conformance"
)

func TestWhatIsAppendedIsReadBack(t *testing.T) {
	t.Parallel()
	var b []byte
	var err error
	for _, f := range []sse.Event{{"1", "one", `{"a":1}`}, {"2", "two", ": no comment"}, {"2", "three", ""}} {
		if b, err = sse.Append(b, 3*time.Second, f.ID, f.Name, []byte(f.Data)); err != nil {
			t.Fatal(err)
		}
	}
	r := sse.NewReader(iotest.OneByteReader(strings.NewReader(string(b))))
	for _, want := range []sse.Event{{"1", "one", `{"a":1}`}, {"2", "two", ": no comment"}, {"2", "three", ""}} {
		if got, err := r.Next(); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) || r.Retry != 3*time.Second {
		t.Errorf("the end is %v, retry %v", err, r.Retry)
	}
}

// The position moves with a whole event only, and a comment is none.
func TestAnEventThatIsCutIsNone(t *testing.T) {
	t.Parallel()
	r := sse.NewReader(strings.NewReader(": hello\n\nid: 1\nevent: a\ndata: x\ndata: y\n\nevent: b\ndata: z\n\nid: 2\nevent: c\ndata: w\n"))
	for _, want := range []sse.Event{{"1", "a", "x\ny"}, {"1", "b", "z"}} {
		if got, err := r.Next(); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if got, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %+v, %v of what was cut", got, err)
	}
}

func FuzzAppendHoldsOneEvent(f *testing.F) {
	f.Add("id", "event", "data")
	f.Add("1\ndata: x", "a", "b")
	f.Add("", "", "\r")
	f.Fuzz(func(t *testing.T, id, event, data string) {
		b, err := sse.Append(nil, 0, id, event, []byte(data))
		if err != nil {
			return
		}
		r := sse.NewReader(strings.NewReader(string(b)))
		if got, err := r.Next(); err != nil || got.ID != id || got.Name != event || got.Data != data {
			t.Errorf("%q was read as %+v, %v", b, got, err)
		}
		if got, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%q holds another event: %+v, %v", b, got, err)
		}
	})
}

// What web-platform-tests want of a browser, our reader does too, however the bytes
// arrive.
func TestAStreamIsReadAsABrowserReadsIt(t *testing.T) {
	t.Parallel()
	arrivals := map[string]func(io.Reader) io.Reader{
		"all at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "in halves": iotest.HalfReader, "with the end": iotest.DataErrReader,
	}
	for _, c := range conformance.Readings() {
		for how, arrive := range arrivals {
			t.Run(c.Name+"/"+how, func(t *testing.T) {
				t.Parallel()
				r := sse.NewReader(arrive(strings.NewReader(c.Body)))
				for _, want := range c.Want {
					if got, err := r.Next(); err != nil || got != sse.Event(want) {
						t.Errorf("got %+v, %v, want %+v (%s)", got, err, want, c.From)
					}
				}
				if got, err := r.Next(); !errors.Is(err, io.EOF) || r.Retry != c.Retry {
					t.Errorf("the end is %+v, %v, retry %v, want %v", got, err, r.Retry, c.Retry)
				}
			})
		}
	}
}

// A CR ends the line although an LF may follow: who waited for the next byte would
// have the event with the next one.
func TestAnEventThatEndsWithCRIsNotHeldBack(t *testing.T) {
	t.Parallel()
	body, server := io.Pipe()
	defer body.Close()
	r := sse.NewReader(body)
	for _, c := range []struct{ text, want string }{{"data: a\r\r", "a"}, {"\ndata: b\r\n\r", "b"}} {
		go func() { _, _ = server.Write([]byte(c.text)) }()
		if got, err := r.Next(); err != nil || got.Data != c.want {
			t.Errorf("got %+v, %v, want %s", got, err, c.want)
		}
	}
}
