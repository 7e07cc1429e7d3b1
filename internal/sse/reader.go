package sse

import (
	"bufio"
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
// a blank line is no event, and does not move the position.
type Reader struct {
	lines *bufio.Scanner
	id    string
	// Retry is how long the server asks to wait before the next connection; 0 when it
	// has not said.
	Retry time.Duration
}

// NewReader reads the body of an answer.
func NewReader(body io.Reader) *Reader {
	r := &Reader{lines: bufio.NewScanner(body)}
	r.lines.Buffer(nil, maxLine)
	return r
}

// Next waits for an event. At the end of the stream it is io.EOF.
func (r *Reader) Next() (Event, error) {
	e := Event{ID: r.id}
	var data []string
	for r.lines.Scan() {
		line := r.lines.Text()
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
