package sse

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxLine bounds a line that a Reader takes.
const maxLine = 4 << 20

// An Event is one that a stream has dispatched.
type Event struct {
	// ID is the stream's position: the last id that was sent, with this event or
	// before it.
	ID   string
	Name string
	Data string
}

// A Reader reads a stream by the rules of the HTML standard: what is not ended by
// a blank line is no event, and does not move the position. An event without a name
// has an empty one.
type Reader struct {
	lines *bufio.Scanner
	begun bool
	id    string
	// Retry is how long the server asks to wait before the next connection; 0 when it
	// has not said.
	Retry time.Duration
}

// NewReader reads the body of an answer.
func NewReader(body io.Reader) *Reader {
	r := &Reader{lines: bufio.NewScanner(body)}
	r.lines.Buffer(nil, maxLine)
	r.lines.Split(splitter())
	return r
}

// splitter ends lines with CR, LF or both. A CR ends its line at once, so that an
// event is not held back until more comes; an LF behind it is then passed. What has
// no end is no line.
func splitter() bufio.SplitFunc {
	var afterCR bool
	return func(data []byte, atEOF bool) (int, []byte, error) {
		skip := 0
		if afterCR && len(data) > 0 && data[0] == '\n' {
			skip = 1
		}
		i := bytes.IndexAny(data[skip:], "\r\n")
		if i < 0 {
			if atEOF {
				return len(data), nil, nil
			}
			return 0, nil, nil
		}
		end := skip + i
		afterCR = data[end] == '\r'
		return end + 1, data[skip:end], nil
	}
}

// line is the next one, in UTF-8 and without the byte order mark that a body may
// begin with.
func (r *Reader) line() string {
	s := strings.ToValidUTF8(r.lines.Text(), "\uFFFD")
	if !r.begun {
		r.begun, s = true, strings.TrimPrefix(s, "\uFEFF")
	}
	return s
}

// Next waits for an event. At the end of the stream it is io.EOF.
func (r *Reader) Next() (Event, error) {
	e := Event{ID: r.id}
	var data []string
	for r.lines.Scan() {
		line := r.line()
		if line == "" {
			if r.id = e.ID; data == nil {
				e.Name = ""
				continue
			}
			e.Data = strings.Join(data, "\n")
			return e, nil
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			if !strings.Contains(value, "\x00") {
				e.ID = value
			}
		case "event":
			e.Name = value
		case "data":
			data = append(data, value)
		case "retry":
			if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
				r.Retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
	if err := r.lines.Err(); err != nil {
		return Event{}, fmt.Errorf("reading the stream: %w", err)
	}
	return Event{}, io.EOF
}
