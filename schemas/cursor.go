package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Feed is one life of a topic that cursors speak about: when the topic is created
// anew, or gets another number of partitions, positions mean something else, and
// so its epoch changes.
type Feed struct {
	TopicID    string // hex of Kafka's topic id
	Partitions int32
}

// Epoch is ten hex digits.
func (f Feed) Epoch() string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%d", f.TopicID, f.Partitions))
	return hex.EncodeToString(h[:5])
}

// Partition is the one that holds the host's records, by Kafka's own default
// partitioner (murmur2), which every client library shares.
func (f Feed) Partition(h HostID) int32 { return PartitionOf(string(h), f.Partitions) }

// At is the cursor of a position.
func (f Feed) At(partition int32, next int64) Cursor {
	return Cursor{Epoch: f.Epoch(), Partition: partition, Next: next}
}

// A Cursor is a position in a host's feed: Next is the offset of the first record
// that its holder has not seen. It is the id of SSE frames and data.stream_cursor.
type Cursor struct {
	Epoch     string
	Partition int32
	Next      int64
}

// String is "<epoch>-<partition>-<next>", in characters that need no escape in
// a header or a URL.
func (c Cursor) String() string {
	return fmt.Sprintf("%s-%d-%d", c.Epoch, c.Partition, c.Next)
}

// ParseCursor accepts only what String writes.
func ParseCursor(s string) (Cursor, error) {
	bad := errors.New("must be a cursor as the stream gave it")
	p := strings.Split(s, "-")
	if len(s) > 64 || len(p) != 3 || len(p[0]) != 10 {
		return Cursor{}, bad
	}
	part, err1 := strconv.ParseInt(p[1], 10, 32)
	next, err2 := strconv.ParseInt(p[2], 10, 64)
	c := Cursor{Epoch: p[0], Partition: int32(part), Next: next}
	if err1 != nil || err2 != nil || part < 0 || next < 0 || c.String() != s || strings.Trim(p[0], "0123456789abcdef") != "" {
		return Cursor{}, bad
	}
	return c, nil
}

// PartitionOf is murmur2 of the key, made positive, modulo n: Kafka's default
// partitioner (org.apache.kafka.common.utils.Utils.murmur2).
func PartitionOf(key string, n int32) int32 {
	return int32((murmur2([]byte(key)) & 0x7fffffff) % uint32(n))
}

func murmur2(b []byte) uint32 {
	const (
		seed uint32 = 0x9747b28c
		m    uint32 = 0x5bd1e995
		r           = 24
	)
	h := seed ^ uint32(len(b))
	for len(b) >= 4 {
		k := uint32(b[3])<<24 + uint32(b[2])<<16 + uint32(b[1])<<8 + uint32(b[0])
		b = b[4:]
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
