package producers

import (
	"context"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

func equalFold(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

// NewNotification is the input of SendNotification, its enums checked already.
// BookingID and PropertyID are the sender's own words and name nothing here.
type NewNotification struct {
	Type                  schemas.NotificationType
	Title, Message        string
	BookingID, PropertyID string
	Priority              schemas.Priority
	ActionRequired        bool
	ActionURL             string
	ExpiresAt             *time.Time
}

// SendNotification writes a notification into a host's inbox and sends it on its
// way to the host's dashboards. The platform may send to any id; other agents
// only to hosts that they have a booking with, and to others it is NotFound.
func (p *Producer) SendNotification(ctx context.Context, s store.Scope, o *Once, host schemas.HostID, in NewNotification) (schemas.Notification, error) {
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (schemas.Notification, error) {
		if !s.Platform {
			ok, err := tx.HasBookingWith(ctx, s.Agent, host)
			if err != nil {
				return schemas.Notification{}, err
			}
			if !ok {
				return schemas.Notification{}, schemas.Errorf(schemas.NotFound, "host_not_found", "there is no host %q that you have a booking with", host)
			}
		}
		now := schemas.Stamp(time.Now())
		if in.ExpiresAt != nil {
			t := schemas.Stamp(*in.ExpiresAt)
			in.ExpiresAt = &t
		}
		n := schemas.Notification{
			ID: schemas.NewNotificationID(), HostID: host, Type: in.Type, Title: in.Title, Message: in.Message, BookingID: in.BookingID,
			PropertyID: in.PropertyID, Priority: in.Priority, ActionRequired: in.ActionRequired, ActionURL: in.ActionURL,
			ExpiresAt: in.ExpiresAt, CreatedAt: now, UpdatedAt: now,
		}
		if err := tx.InsertNotification(ctx, &n); err != nil {
			return n, err
		}
		return n, feed(ctx, tx, schemas.FeedRecord{Kind: schemas.FeedNotification, HostID: host, At: now, Notification: &n})
	})
}

// MarkRead marks one of the host's notifications. Marking it again changes and
// emits nothing.
func (p *Producer) MarkRead(ctx context.Context, s store.Scope, id schemas.NotificationID) error {
	return p.touch(ctx, s, id, schemas.MarkedRead, func(ctx context.Context, tx *store.Tx, at time.Time) error {
		return tx.MarkRead(ctx, id, at)
	})
}

// DeleteNotification hides one of the host's notifications for good.
func (p *Producer) DeleteNotification(ctx context.Context, s store.Scope, id schemas.NotificationID) error {
	return p.touch(ctx, s, id, schemas.Deleted, func(ctx context.Context, tx *store.Tx, at time.Time) error {
		return tx.MarkDeleted(ctx, id, at)
	})
}

func (p *Producer) touch(ctx context.Context, s store.Scope, id schemas.NotificationID, a schemas.FeedAction, set func(context.Context, *store.Tx, time.Time) error) error {
	_, err := update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (struct{}, error) {
		n, err := tx.LockNotification(ctx, s.Host, id)
		if err != nil || (a == schemas.MarkedRead && n.IsRead) {
			return struct{}{}, err
		}
		now := schemas.Stamp(time.Now())
		if err := set(ctx, tx, now); err != nil {
			return struct{}{}, err
		}
		u := &schemas.NotificationUpdate{NotificationID: id, Action: a, At: now}
		return struct{}{}, feed(ctx, tx, schemas.FeedRecord{Kind: schemas.FeedUpdate, HostID: s.Host, At: now, Update: u})
	})
	return err
}

func feed(ctx context.Context, tx *store.Tx, f schemas.FeedRecord) error {
	r, err := row(ctx, string(schemas.HostNotifications), string(f.HostID), f.Meta(), f)
	if err != nil {
		return err
	}
	tx.Enqueue(r)
	return nil
}
