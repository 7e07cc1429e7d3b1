// Package sse is server-sent events as the HTML standard has them: frames, the
// writing of them to a client that may be slow or gone, and the reading. It knows
// nothing of what the events are about.
package sse

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"
)

// ErrLines is a bug or an attack: a line end inside a field would let data name
// events and positions of its own.
var ErrLines = errors.New("a field of a frame holds a line end")

const lineEnds = "\r\n\x00" // and NUL, which voids an id

// Append writes a frame: the fields, and the blank line that dispatches them. A
// retry of 0 is none.
func Append(b []byte, retry time.Duration, id, event string, data []byte) ([]byte, error) {
	if bytes.ContainsAny(data, lineEnds) || strings.ContainsAny(id, lineEnds) || strings.ContainsAny(event, lineEnds) {
		return nil, ErrLines
	}
	if retry > 0 {
		b = append(b, "retry: "...)
		b = strconv.AppendInt(b, retry.Milliseconds(), 10)
		b = append(b, '\n')
	}
	if id != "" { // an empty id would make the client forget its position
		b = append(b, "id: "...)
		b = append(b, id...)
		b = append(b, '\n')
	}
	b = append(b, "event: "...)
	b = append(b, event...)
	b = append(b, "\ndata: "...)
	b = append(b, data...)
	return append(b, "\n\n"...), nil
}
