package schemas

import (
	"bytes"
	"fmt"

	"github.com/segmentio/encoding/json"
)

// MaxOpenBytes bounds the fields that a sender gives to a custom event or an
// announcement.
const MaxOpenBytes = 64 << 10

// A FeedFilter is what a stream is narrowed to; zero members do not narrow. What
// it leaves out moves the stream's position all the same.
type FeedFilter struct {
	Kinds []FeedKind
	// Types and MinPriority narrow records of notifications.
	Types       []NotificationType
	MinPriority Priority
	// Property narrows records of notifications and bookings: those of another
	// property, or of none, are left out.
	Property string
}

// The sources of what is sent with fields of the sender's own.
const (
	sourceHost     = "manual"
	sourcePlatform = "broadcast"
)

// OpenData is what a dashboard gets of an announcement or a custom event: the
// sender's fields on one line, with those that say what it is and whose laid over
// them. A sender that gives them too does not pass for somebody else.
func (f *FeedRecord) OpenData() ([]byte, error) {
	raw, ours := f.Announcement, map[string]any{"source": sourcePlatform}
	if f.Kind == FeedCustom {
		raw, ours = f.Custom, map[string]any{"source": sourceHost, "host_id": f.HostID}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("reading the fields of a %s: %w", f.Kind, err)
	}
	if fields == nil {
		return nil, fmt.Errorf("a %s holds no JSON object", f.Kind)
	}
	ours["type"], ours["timestamp"] = f.Kind, Stamp(f.At)
	if f.EventID != "" {
		ours["event_id"] = f.EventID
	}
	for name, v := range ours {
		b, err := Encode(v)
		if err != nil {
			return nil, err
		}
		fields[name] = b
	}
	b, err := json.Append(nil, fields, json.SortMapKeys)
	if err != nil {
		return nil, fmt.Errorf("encoding the fields of a %s: %w", f.Kind, err)
	}
	// The sender's own values are laid in as they came, line ends between members
	// and all.
	var line bytes.Buffer
	if err := json.Compact(&line, b); err != nil {
		return nil, fmt.Errorf("compacting the fields of a %s: %w", f.Kind, err)
	}
	return EscapeBreaks(line.Bytes()), nil
}
