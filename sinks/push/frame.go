package push

import (
	"bytes"
	"fmt"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// A place is what all cursors of a partition have in common.
type place struct {
	epoch     string
	partition int32
}

func (p place) at(next int64) schemas.Cursor {
	return schemas.Cursor{Epoch: p.epoch, Partition: p.partition, Next: next}
}

// A frame is one event as it goes over the wire, and the position that a client
// has reached when it has read all of it. Its bytes are shared by every connection
// that it is written to, so nothing changes them.
type frame struct {
	bytes []byte
	next  int64
}

// An entry is the frame of a record, and who it is for.
type entry struct {
	frame
	host schemas.HostID // empty: every host of the partition
	at   time.Time      // the record's, to tell how far the sink is behind
}

func (e *entry) offset() int64 { return e.next - 1 }

// size counts what the entry itself takes, so that a million tiny frames are not
// taken for nothing.
func (e *entry) size() int64 { return int64(len(e.bytes)) + 96 }

func (e *entry) isFor(h schemas.HostID) bool { return e.host == "" || e.host == h }

// encode turns a record's value into its entry.
func encode(p place, offset int64, value []byte) (*entry, error) {
	rec, err := schemas.Decode[schemas.FeedRecord](value)
	if err != nil {
		return nil, err
	}
	data, err := payload(&rec)
	if err != nil {
		return nil, err
	}
	b, err := sse.Append(nil, 0, p.at(offset+1).String(), string(rec.Kind), data)
	if err != nil {
		return nil, err
	}
	return &entry{frame: frame{b, offset + 1}, host: rec.HostID, at: rec.At}, nil
}

// pushed is the contract's shape; type is repeated in it for clients that ignore
// the names of events.
type pushed struct {
	Type      schemas.FeedKind `json:"type"`
	Data      any              `json:"data"`
	Timestamp time.Time        `json:"timestamp"`
}

func payload(rec *schemas.FeedRecord) ([]byte, error) {
	out := pushed{Type: rec.Kind, Timestamp: schemas.Stamp(rec.At)}
	switch {
	case rec.Kind == schemas.FeedAnnouncement && rec.HostID == "":
		return announcement(rec.Announcement, out.Timestamp)
	case rec.HostID == "":
		return nil, fmt.Errorf("a record of kind %q names no host", rec.Kind)
	case rec.Kind == schemas.FeedNotification && rec.Notification != nil:
		out.Data = whole(rec.Notification)
	case rec.Kind == schemas.FeedUpdate && rec.Update != nil:
		out.Data = rec.Update
	case rec.Kind == schemas.FeedBooking && rec.Booking != nil:
		out.Data = rec.Booking
	default:
		return nil, fmt.Errorf("a record of kind %q is not of a kind that is known, or lacks what it is about", rec.Kind)
	}
	return schemas.Encode(out)
}

// row is a notification with every member of its row: what is empty is null, as
// in the list, and not left out as on the topic.
type row struct {
	schemas.Notification

	BookingID  *string    `json:"booking_id"`
	PropertyID *string    `json:"property_id"`
	ActionURL  *string    `json:"action_url"`
	ExpiresAt  *time.Time `json:"expires_at"`
	ReadAt     *time.Time `json:"read_at"`
}

func whole(n *schemas.Notification) row {
	orNull := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return row{*n, orNull(n.BookingID), orNull(n.PropertyID), orNull(n.ActionURL), n.ExpiresAt, n.ReadAt}
}

// announcement lays type and timestamp over the caller's fields. They win: an
// announcement must not pass for a notification.
func announcement(raw []byte, at time.Time) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return nil, fmt.Errorf("an announcement is no JSON object: %w", err)
	}
	stamp, err := schemas.Encode(at)
	if err != nil {
		return nil, err
	}
	fields["type"], fields["timestamp"] = json.RawMessage(`"`+schemas.FeedAnnouncement+`"`), stamp
	b, err := json.Append(nil, fields, json.SortMapKeys)
	if err != nil {
		return nil, fmt.Errorf("encoding an announcement: %w", err)
	}
	// The caller's own values are laid in as they came, line ends between members
	// and all.
	var line bytes.Buffer
	if err := json.Compact(&line, b); err != nil {
		return nil, fmt.Errorf("compacting an announcement: %w", err)
	}
	return line.Bytes(), nil
}
