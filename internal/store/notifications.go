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

// A NotificationFilter narrows a host's list; zero members do not filter.
type NotificationFilter struct {
	UnreadOnly    bool
	Priority      schemas.Priority
	Type          schemas.NotificationType
	Limit, Offset int
}

// A NotificationPage is one page with the counts of the same moment.
type NotificationPage struct {
	Items         []schemas.Notification
	Total, Unread int
}

// Notifications lists a host's, the newest first; expired and deleted ones are
// neither listed nor counted. Total counts what matches the filter.
func (t *Tx) Notifications(ctx context.Context, h schemas.HostID, f NotificationFilter) (NotificationPage, error) {
	const where = ` from host_notifications n where n.host_id = $1 and ` + live + `
		and (not $2 or n.read_at is null) and ($3 = '' or n.priority = $3) and ($4 = '' or n.type = $4) `
	args := []any{string(h), f.UnreadOnly, string(f.Priority), string(f.Type)}
	var p NotificationPage
	if err := t.tx.QueryRow(ctx, `select count(*) `+where, args...).Scan(&p.Total); err != nil {
		return p, fmt.Errorf("counting notifications of %s: %w", h, err)
	}
	rows, _ := t.tx.Query(ctx, `select `+notificationColumns+where+`
		order by n.created_at desc, n.id desc limit $5 offset $6`, append(args, f.Limit, f.Offset)...) // CollectRows reports the error
	var err error
	if p.Items, err = pgx.CollectRows(rows, scanNotification); err != nil {
		return p, fmt.Errorf("listing notifications of %s: %w", h, err)
	}
	p.Unread, err = t.UnreadNotifications(ctx, h)
	return p, err
}

// UnreadNotifications counts.
func (t *Tx) UnreadNotifications(ctx context.Context, h schemas.HostID) (int, error) {
	var n int
	err := t.tx.QueryRow(ctx, `select get_unread_notification_count($1)`, string(h)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("counting unread notifications of %s: %w", h, err)
	}
	return n, nil
}

// LockNotification reads one of the host's and keeps others from changing it
// until the transaction ends. Deleted and expired ones are not found.
func (t *Tx) LockNotification(ctx context.Context, h schemas.HostID, id schemas.NotificationID) (schemas.Notification, error) {
	rows, _ := t.tx.Query(ctx, `select `+notificationColumns+` from host_notifications n
		where n.host_id = $1 and n.id = $2 and `+live+` for no key update`, string(h), string(id)) // CollectExactlyOneRow reports the error
	n, err := pgx.CollectExactlyOneRow(rows, scanNotification)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return n, schemas.Errorf(schemas.NotFound, "notification_not_found", "there is no notification %q", id)
	case err != nil:
		return n, fmt.Errorf("reading notification %s: %w", id, err)
	}
	return n, nil
}

// MarkRead sets the mark on a locked notification.
func (t *Tx) MarkRead(ctx context.Context, id schemas.NotificationID, at time.Time) error {
	if _, err := t.tx.Exec(ctx, `update host_notifications set read_at = $2, updated_at = $2 where id = $1`, string(id), at); err != nil {
		return fmt.Errorf("marking notification %s read: %w", id, err)
	}
	return nil
}

// MarkDeleted hides a locked notification. The row stays for as long as the log
// may bring its creation once more.
func (t *Tx) MarkDeleted(ctx context.Context, id schemas.NotificationID, at time.Time) error {
	if _, err := t.tx.Exec(ctx, `update host_notifications set deleted_at = $2, updated_at = $2 where id = $1`, string(id), at); err != nil {
		return fmt.Errorf("deleting notification %s: %w", id, err)
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
