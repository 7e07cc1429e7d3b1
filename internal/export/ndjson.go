package export

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// A Writer takes records one by one. What is not closed is not whole.
type Writer interface {
	Write(*Record) error
	Close() error
}

// Lines writes a line of JSON for each record.
type Lines struct {
	buffer *bufio.Writer
	enc    *json.Encoder
}

// NewLines makes one. It buffers; see [Lines.Flush].
func NewLines(w io.Writer) *Lines {
	buffer := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(buffer)
	enc.SetEscapeHTML(false)
	return &Lines{buffer, enc}
}

// Write appends the record's line. Digits stay as they are on the topic: 950.00 is
// no 950.
func (l *Lines) Write(r *Record) error {
	if err := l.enc.Encode(r); err != nil {
		return fmt.Errorf("writing the record %s/%d@%d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	return nil
}

// Flush hands on what is buffered.
func (l *Lines) Flush() error { return l.buffer.Flush() }

// Close flushes.
func (l *Lines) Close() error { return l.Flush() }
