package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

const notificationColumns = `
n.id, n.host_id, n.type, n.title, n.message, n.booking_id, n.property_id, n.priority, n.action_required, n.action_url,
n.expires_at, n.read_at is not null, n.read_at, n.created_at, n.updated_at`

// live are the notifications that a host still has.
const live = ` n.deleted_at is null and (n.expires_at is null or n.expires_at > now()) `

func scanNotification(row pgx.CollectableRow) (schemas.Notification, error) {
	n, err := pgx.RowToStructByPos[schemas.Notification](row)
	for _, t := range []*time.Time{n.ExpiresAt, n.ReadAt, &n.CreatedAt, &n.UpdatedAt} {
		if t != nil {
			*t = schemas.Stamp(*t)
		}
	}
	return n, err
}

// InsertNotification writes one that a command made. Its log offset is not known
// yet; the sink adds it when the record has passed through the log.
func (t *Tx) InsertNotification(ctx context.Context, n *schemas.Notification) error {
	_, err := t.tx.Exec(ctx, `
		insert into host_notifications (id, host_id, type, title, message, booking_id, property_id, priority,
		  action_required, action_url, expires_at, created_at, updated_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		string(n.ID), string(n.HostID), string(n.Type), n.Title, n.Message, n.BookingID, n.PropertyID, string(n.Priority),
		n.ActionRequired, n.ActionURL, n.ExpiresAt, n.CreatedAt, n.UpdatedAt)
	if err != nil {
		return fmt.Errorf("inserting notification %s: %w", n.ID, err)
	}
	return nil
}

// A LoggedNotification is a notification and where its record stands.
type LoggedNotification struct {
	schemas.Notification
	Offset int64
}

// AddFromLog writes a batch of notifications that the log holds, in id order so
// that two writers cannot deadlock. A row that is there already, written by its
// command or by an earlier delivery of the same record, keeps its marks: it gets
// the offset if it has none, and nothing else. So a notification that was read or
// deleted before the sink saw its creation stays read or deleted.
func (t *Tx) AddFromLog(ctx context.Context, ns []LoggedNotification) error {
	b := &pgx.Batch{}
	for i := range ns {
		n := &ns[i]
		b.Queue(`
			insert into host_notifications as n (id, host_id, type, title, message, booking_id, property_id, priority,
			  action_required, action_url, expires_at, created_at, updated_at, log_offset)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
			on conflict (id) do update set log_offset = excluded.log_offset where n.log_offset is null`,
			string(n.ID), string(n.HostID), string(n.Type), n.Title, n.Message, n.BookingID, n.PropertyID, string(n.Priority),
			n.ActionRequired, n.ActionURL, n.ExpiresAt, n.CreatedAt, n.UpdatedAt, n.Offset)
	}
	if err := t.tx.sendBatch(ctx, b); err != nil {
		return fmt.Errorf("writing %d notifications: %w", len(ns), err)
	}
	return nil
}

// SinkOffset is the next offset that the sink will commit of a partition; 0 where
// it has not begun.
func (t *Tx) SinkOffset(ctx context.Context, topicID string, partition int32) (int64, error) {
	var next int64
	err := t.tx.QueryRow(ctx, `select next_offset from sink_offsets where topic_id = $1 and partition = $2`, topicID, partition).Scan(&next)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("reading the sink's offset of partition %d: %w", partition, err)
	}
	return next, nil
}

// SinkOffsets are all of a topic's. Partitions that the sink has not begun are
// missing.
func (t *Tx) SinkOffsets(ctx context.Context, topicID string) (map[int32]int64, error) {
	rows, err := t.tx.Query(ctx, `select partition, next_offset from sink_offsets where topic_id = $1`, topicID)
	if err != nil {
		return nil, fmt.Errorf("reading the sink's offsets: %w", err)
	}
	out := map[int32]int64{}
	var (
		p    int32
		next int64
	)
	_, err = pgx.ForEachRow(rows, []any{&p, &next}, func() error {
		out[p] = next
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the sink's offsets: %w", err)
	}
	return out, nil
}

// AdvanceSink moves a partition's offset from what the writer believes it to be.
// False means that another writer has moved it: nothing of this transaction may
// be kept.
func (t *Tx) AdvanceSink(ctx context.Context, topicID string, partition int32, from, to int64) (bool, error) {
	tag, err := t.tx.Exec(ctx, `
		insert into sink_offsets as o (topic_id, partition, next_offset) values ($1, $2, $4)
		on conflict (topic_id, partition) do update set next_offset = $4, updated_at = now() where o.next_offset = $3`,
		topicID, partition, from, to)
	if err != nil {
		return false, fmt.Errorf("advancing the sink's offset of partition %d: %w", partition, err)
	}
	return tag.RowsAffected() == 1, nil
}

// PurgeNotifications removes rows that nobody has in an inbox any more and that
// are older than what the topic remembers; it needs RoleJobs. Removed earlier, a
// record that is read again would bring the notification back.
func (t *Tx) PurgeNotifications(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := t.tx.Exec(ctx, `
		delete from host_notifications where deleted_at is not null and created_at < now() - $1::interval`, olderThan)
	if err != nil {
		return 0, fmt.Errorf("purging notifications: %w", err)
	}
	return tag.RowsAffected(), nil
}
