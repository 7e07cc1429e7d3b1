package producers

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// A Sent is the event that dashboards get of what was sent to them.
type Sent struct {
	Event json.RawMessage `json:"event"`
}

// SendCustom sends an event with fields of the host's own, a JSON object, to the
// dashboards of the scope's host and nobody else's. Whatever the fields say, it is
// a custom event of this host.
func (p *Producer) SendCustom(ctx context.Context, s store.Scope, o *Once, fields []byte) (Sent, error) {
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (Sent, error) {
		f := schemas.FeedRecord{Kind: schemas.FeedCustom, HostID: s.Host, At: schemas.Stamp(time.Now()), EventID: schemas.NewEventID(), Custom: fields}
		data, err := openData(&f, fields)
		if err != nil {
			return Sent{}, err
		}
		return Sent{data}, feed(ctx, tx, f)
	})
}

// Announce sends a system announcement with the given fields, a JSON object, to
// every dashboard: one record for each partition of the feed, all or none of them.
func (p *Producer) Announce(ctx context.Context, s store.Scope, o *Once, fields []byte) (Sent, error) {
	if p.o.Feed.Partitions == 0 {
		return Sent{}, schemas.Errorf(schemas.Unavailable, "no_feed", "this process knows no feed to announce on")
	}
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (Sent, error) {
		f := schemas.FeedRecord{Kind: schemas.FeedAnnouncement, At: schemas.Stamp(time.Now()), EventID: schemas.NewEventID(), Announcement: fields}
		data, err := openData(&f, fields)
		if err != nil {
			return Sent{}, err
		}
		rows := make([]store.OutboxRow, p.o.Feed.Partitions)
		for i := range p.o.Feed.Partitions {
			// Each has an id of its own: after a crash the relay takes a record whose id is
			// on the topic for written.
			meta := f.Meta()
			meta.ID = fmt.Sprintf("%s-%d", meta.ID, i)
			if rows[i], err = row(ctx, string(schemas.HostNotifications), "", meta, f); err != nil {
				return Sent{}, err
			}
			rows[i].Key, rows[i].Partition = nil, &i
		}
		tx.Enqueue(rows...)
		return Sent{data}, nil
	})
}

func openData(f *schemas.FeedRecord, fields []byte) ([]byte, error) {
	if len(fields) > schemas.MaxOpenBytes {
		return nil, schemas.Errorf(schemas.TooLarge, "event_too_large", "the event may have at most %d bytes", schemas.MaxOpenBytes)
	}
	return f.OpenData()
}
