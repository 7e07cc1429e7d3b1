package export

import (
	"bufio"
	"fmt"
	"io"

	"github.com/krib-ai/krib/schemas"
)

// A Writer takes records one by one. What is not closed is not whole.
type Writer interface {
	Write(*Record) error
	Close() error
}

// Lines writes a line of JSON for each record.
type Lines struct {
	buffer *bufio.Writer
}

// NewLines makes one. It buffers; see [Lines.Flush].
func NewLines(w io.Writer) *Lines {
	return &Lines{bufio.NewWriterSize(w, 64<<10)}
}

// Write appends the record's line. Digits stay as they are on the topic: 950.00 is
// no 950. Records of older versions may hold what breaks lines; see schemas.EscapeBreaks.
func (l *Lines) Write(r *Record) error {
	b, err := schemas.Encode(r)
	if err == nil {
		_, err = l.buffer.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing the record %s/%d@%d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	return nil
}

// Flush hands on what is buffered.
func (l *Lines) Flush() error { return l.buffer.Flush() }

// Close flushes.
func (l *Lines) Close() error { return l.Flush() }
