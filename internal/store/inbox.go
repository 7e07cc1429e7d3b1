package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// CountCap is the highest count that is made of an inbox. To count what a host has
// takes as long as it is much; nobody reads a number beyond this one.
const CountCap = 1_000

// A NotificationPosition is a place in the order of a host's list.
type NotificationPosition struct {
	CreatedAt time.Time
	ID        schemas.NotificationID
}

// A NotificationFilter narrows a host's list; zero members do not filter.
type NotificationFilter struct {
	UnreadOnly, ActionRequired bool
	Priority                   schemas.Priority
	Type                       schemas.NotificationType
	PropertyID, BookingID      string
	CreatedFrom, CreatedTo     *time.Time // the second is not included
	After                      *NotificationPosition
	Limit, Offset              int
}

// A NotificationPage is one page with the counts of the same moment. Total counts
// what matches the filter, wherever the page begins. Each count stops at CountCap,
// and says so. More says that the list goes on behind the page.
type NotificationPage struct {
	Items                     []schemas.Notification
	Total, Unread             int
	TotalCapped, UnreadCapped bool
	More                      bool
	NextOffset                int64 // of the sink, in the partition that was asked for
}

// conditions are a filter's words and arguments, without the page. Only what is
// asked for is said: a plan for "this or nothing" could use no index.
func (f *NotificationFilter) conditions(h schemas.HostID) (where string, args []any) {
	var b strings.Builder
	b.WriteString(`n.host_id = $1 and ` + live)
	args = []any{string(h)}
	add := func(sql string, v any) {
		args = append(args, v)
		fmt.Fprintf(&b, " and "+sql, len(args))
	}
	if f.UnreadOnly {
		b.WriteString(` and n.read_at is null`)
	}
	if f.ActionRequired {
		b.WriteString(` and n.action_required`)
	}
	if f.Priority != "" {
		add(`n.priority = $%d`, string(f.Priority))
	}
	if f.Type != "" {
		add(`n.type = $%d`, string(f.Type))
	}
	if f.PropertyID != "" {
		add(`n.property_id = $%d and n.property_id <> ''`, f.PropertyID)
	}
	if f.BookingID != "" {
		add(`n.booking_id = $%d and n.booking_id <> ''`, f.BookingID)
	}
	if f.CreatedFrom != nil {
		add(`n.created_at >= $%d`, *f.CreatedFrom)
	}
	if f.CreatedTo != nil {
		add(`n.created_at < $%d`, *f.CreatedTo)
	}
	return b.String(), args
}

// pageRow is one row of a page beside what is the same on all of them. An empty
// page has one row, whose notification has no id.
type pageRow struct {
	Total, Unread int
	Next          int64
	schemas.Notification
}

// Notifications lists a host's, the newest first; expired and deleted ones are
// neither listed nor counted. What it answers is of one moment, the sink's offset
// in the partition included. Its work is bounded by the page and by CountCap.
func (t *Tx) Notifications(ctx context.Context, h schemas.HostID, f NotificationFilter, topicID string, partition int32) (NotificationPage, error) {
	where, args := f.conditions(h)
	page := where
	if f.After != nil {
		args = append(args, f.After.CreatedAt, string(f.After.ID))
		page += fmt.Sprintf(` and (n.created_at, n.id) < ($%d, $%d)`, len(args)-1, len(args))
	}
	args = append(args, topicID, partition, f.Limit+1, f.Offset, CountCap+1)
	n := len(args)
	rows, _ := t.tx.Query(ctx, fmt.Sprintf(`
		select c.total, c.unread, c.next, coalesce(p.id, ''), coalesce(p.host_id, ''), coalesce(p.type, ''), coalesce(p.title, ''),
		  coalesce(p.message, ''), coalesce(p.booking_id, ''), coalesce(p.property_id, ''), coalesce(p.priority, ''),
		  coalesce(p.action_required, false), coalesce(p.action_url, ''), p.expires_at, p.read_at is not null, p.read_at,
		  coalesce(p.created_at, 'epoch'), coalesce(p.updated_at, 'epoch')
		from (select
		  (select count(*) from (select from host_notifications n where %[1]s limit $%[6]d) x) as total,
		  (select get_unread_notification_count($1, $%[6]d::integer)) as unread, -- a subquery is asked once, a call for each row
		  coalesce((select next_offset from sink_offsets where topic_id = $%[3]d and partition = $%[4]d), 0) as next) c
		left join lateral (select n.* from host_notifications n where %[2]s
		  order by n.created_at desc, n.id desc limit $%[5]d offset $%[7]d) p on true
		order by p.created_at desc, p.id desc`, where, page, n-4, n-3, n-2, n, n-1), args...) // CollectRows reports the error
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[pageRow])
	if err != nil {
		return NotificationPage{}, fmt.Errorf("listing notifications of %s: %w", h, err)
	}
	return pageOf(all, f.Limit), nil
}

func pageOf(rows []pageRow, limit int) NotificationPage {
	p := NotificationPage{Items: []schemas.Notification{}}
	for i := range rows {
		r := &rows[i]
		p.Total, p.Unread, p.NextOffset = min(r.Total, CountCap), min(r.Unread, CountCap), r.Next
		p.TotalCapped, p.UnreadCapped = r.Total > CountCap, r.Unread > CountCap
		if r.ID == "" {
			continue
		}
		if len(p.Items) == limit {
			p.More = true
			break
		}
		p.Items = append(p.Items, stamped(r.Notification))
	}
	return p
}

func stamped(n schemas.Notification) schemas.Notification {
	for _, t := range []*time.Time{n.ExpiresAt, n.ReadAt, &n.CreatedAt, &n.UpdatedAt} {
		if t != nil {
			*t = schemas.Stamp(*t)
		}
	}
	return n
}

// UnreadNotifications counts, up to CountCap.
func (t *Tx) UnreadNotifications(ctx context.Context, h schemas.HostID) (n int, capped bool, err error) {
	err = t.tx.QueryRow(ctx, `select get_unread_notification_count($1, $2)`, string(h), CountCap+1).Scan(&n)
	if err != nil {
		return 0, false, fmt.Errorf("counting unread notifications of %s: %w", h, err)
	}
	return min(n, CountCap), n > CountCap, nil
}

// A NotificationGroup counts a host's notifications that are alike.
type NotificationGroup struct {
	Type     schemas.NotificationType
	Priority schemas.Priority
	Read     bool
	Count    int
	Recent   int // of the last seven days
}

// NotificationGroups counts the host's newest CountCap notifications by what they
// are; capped says that there are more.
func (t *Tx) NotificationGroups(ctx context.Context, h schemas.HostID) (gs []NotificationGroup, capped bool, err error) {
	rows, _ := t.tx.Query(ctx, `
		select type, priority, read, count(*) filter (where place <= $2), count(*) filter (where place <= $2 and created_at > now() - interval '7 days'),
		  bool_or(place > $2)
		from (select n.type, n.priority, n.read_at is not null as read, n.created_at, row_number() over (order by n.created_at desc, n.id desc) as place
		  from host_notifications n where n.host_id = $1 and `+live+`
		  order by n.created_at desc, n.id desc limit $2 + 1) x
		group by type, priority, read order by type, priority, read`, string(h), CountCap) // ForEachRow reports the error
	var (
		g    NotificationGroup
		over bool
	)
	_, err = pgx.ForEachRow(rows, []any{&g.Type, &g.Priority, &g.Read, &g.Count, &g.Recent, &over}, func() error {
		capped = capped || over
		if g.Count > 0 {
			gs = append(gs, g)
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("counting notifications of %s: %w", h, err)
	}
	return gs, capped, nil
}

// Notification is one of the host's. Deleted and expired ones are not found.
func (t *Tx) Notification(ctx context.Context, h schemas.HostID, id schemas.NotificationID) (schemas.Notification, error) {
	rows, _ := t.tx.Query(ctx, `select `+notificationColumns+` from host_notifications n
		where n.host_id = $1 and n.id = $2 and `+live, string(h), string(id)) // CollectExactlyOneRow reports the error
	n, err := pgx.CollectExactlyOneRow(rows, scanNotification)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return n, schemas.Errorf(schemas.NotFound, "notification_not_found", "there is no notification %q", id)
	case err != nil:
		return n, fmt.Errorf("reading notification %s: %w", id, err)
	}
	return n, nil
}

// LockNotifications reads those of the host's that there are, in the order of ids,
// and keeps others from changing them until the transaction ends.
func (t *Tx) LockNotifications(ctx context.Context, h schemas.HostID, ids []schemas.NotificationID) ([]schemas.Notification, error) {
	rows, _ := t.tx.Query(ctx, `select `+notificationColumns+` from host_notifications n
		where n.host_id = $1 and n.id = any($2) and `+live+` order by n.id for no key update`, string(h), texts(ids)) // CollectRows reports the error
	ns, err := pgx.CollectRows(rows, scanNotification)
	if err != nil {
		return nil, fmt.Errorf("reading %d notifications: %w", len(ids), err)
	}
	return ns, nil
}

// marks are what an action does to a row.
var marks = map[schemas.FeedAction]string{
	schemas.MarkedRead:   `read_at = $2`,
	schemas.MarkedUnread: `read_at = null`,
	schemas.Deleted:      `deleted_at = $2`,
}

// Mark does to locked notifications what the action says. A deleted row stays for
// as long as the log may bring its creation once more.
func (t *Tx) Mark(ctx context.Context, ids []schemas.NotificationID, a schemas.FeedAction, at time.Time) error {
	set, ok := marks[a]
	if !ok {
		return fmt.Errorf("marking notifications: there is no mark %q", a)
	}
	if _, err := t.tx.Exec(ctx, `update host_notifications set `+set+`, updated_at = $2 where id = any($1)`, texts(ids), at); err != nil {
		return fmt.Errorf("marking %d notifications %s: %w", len(ids), a, err)
	}
	return nil
}

// MarkOldestRead marks up to limit unread notifications of the host read, the
// oldest first, none behind upTo. It says how many, and where the last of them is.
func (t *Tx) MarkOldestRead(ctx context.Context, h schemas.HostID, upTo NotificationPosition, limit int, at time.Time) (n int, last NotificationPosition, err error) {
	err = t.tx.QueryRow(ctx, `
		with marked as (
		  update host_notifications set read_at = $5, updated_at = $5 where id in (
		    select n.id from host_notifications n where n.host_id = $1 and n.read_at is null and `+live+` and (n.created_at, n.id) <= ($2, $3)
		    order by n.created_at, n.id limit $4 for no key update)
		  returning created_at, id)
		select count(*), coalesce(max(created_at), 'epoch'), coalesce((array_agg(id order by created_at desc, id desc))[1], '') from marked`,
		string(h), upTo.CreatedAt, string(upTo.ID), limit, at).Scan(&n, &last.CreatedAt, &last.ID)
	if err != nil {
		return 0, last, fmt.Errorf("marking notifications of %s read: %w", h, err)
	}
	last.CreatedAt = schemas.Stamp(last.CreatedAt)
	return n, last, nil
}

// CleanUpNotifications does what [Tx.ExpireNotifications] does, for a scope of the
// platform.
func (t *Tx) CleanUpNotifications(ctx context.Context, limit int) (n int, err error) {
	if err := t.tx.QueryRow(ctx, `select krib_cleanup_notifications($1)`, limit).Scan(&n); err != nil {
		return 0, fmt.Errorf("cleaning up notifications: %w", err)
	}
	return n, nil
}
