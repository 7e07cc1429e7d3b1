package pull

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/krib-ai/krib/schemas"
)

// A topicID is Kafka's. A topic that is created anew has another one.
type topicID [16]byte

const (
	cursorVersion = 1
	// maxPartitions and maxCursor bound what is parsed.
	maxPartitions = 1_000
	maxCursor     = 14_000
)

// A cursor is the next offset of each partition, and the topic that they are of.
type cursor struct {
	topic topicID
	next  []int64
}

// String is the base64 of a version, the topic's id, the number of partitions and
// the offsets, in characters that need no escape in a header or a URL.
func (c cursor) String() string {
	b := make([]byte, 0, 2+len(c.topic)+5*len(c.next))
	b = append(b, cursorVersion)
	b = append(b, c.topic[:]...)
	b = binary.AppendUvarint(b, uint64(len(c.next)))
	for _, n := range c.next {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

var errCursor = errors.New("must be a cursor as an answer gave it")

// parseCursor accepts only what String writes.
func parseCursor(s string) (cursor, error) {
	if len(s) > maxCursor {
		return cursor{}, errCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	var c cursor
	if err != nil || len(b) < 1+len(c.topic) || b[0] != cursorVersion {
		return cursor{}, errCursor
	}
	b = b[1+copy(c.topic[:], b[1:]):]
	count, n := binary.Uvarint(b)
	if n <= 0 || count < 1 || count > maxPartitions {
		return cursor{}, errCursor
	}
	for range count {
		b = b[n:]
		var next uint64
		if next, n = binary.Uvarint(b); n <= 0 || int64(next) < 0 {
			return cursor{}, errCursor
		}
		c.next = append(c.next, int64(next))
	}
	// A number has one short form and several long ones, and the decoder of base64
	// skips line ends.
	if len(b) != n || c.String() != s {
		return cursor{}, errCursor
	}
	return c, nil
}

// at is the cursor of positions of this log.
func (l *Log) at(pos []int64) string { return cursor{l.id, pos}.String() }

// positions reads a cursor of this log.
func (l *Log) positions(text string) ([]int64, error) {
	c, err := parseCursor(text)
	switch {
	case err != nil:
		return nil, schemas.Refuse(schemas.Malformed, "invalid_cursor", "after", "format", "after %v", err)
	case c.topic != l.id, len(c.next) != len(l.parts):
		return nil, schemas.Errorf(schemas.Rule, "cursor_of_another_log",
			"this cursor belongs to a log that is no more; go on with since, the time of the last event that you have, and leave out the ids that you know")
	}
	return slices.Clone(c.next), nil
}
