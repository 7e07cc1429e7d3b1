package api

import (
	"context"
	"net/http"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// notificationBody leaves its two enums to the handler: the contract answers 400
// for an unknown one.
type notificationBody struct {
	Type           string     `json:"type" check:"required,max=100"`
	Title          string     `json:"title" check:"required,min=1,max=255,line"`
	Message        string     `json:"message" check:"required,min=1,max=4000"`
	BookingID      string     `json:"booking_id" check:"max=255,line"`
	PropertyID     string     `json:"property_id" check:"max=255,line"`
	Priority       string     `json:"priority" check:"max=100" default:"medium"`
	ActionRequired bool       `json:"action_required"`
	ActionURL      string     `json:"action_url" check:"max=2048,as=link"`
	ExpiresAt      *time.Time `json:"expires_at"`
}

func (b *notificationBody) command() (producers.NewNotification, error) {
	n := producers.NewNotification{
		Type: schemas.NotificationType(b.Type), Title: b.Title, Message: b.Message, BookingID: b.BookingID, PropertyID: b.PropertyID,
		Priority: schemas.Priority(b.Priority), ActionRequired: b.ActionRequired, ActionURL: b.ActionURL, ExpiresAt: b.ExpiresAt,
	}
	switch {
	case !n.Type.Known():
		return n, notOneOf("invalid_type", "type", schemas.NotificationTypes())
	case !n.Priority.Known():
		return n, notOneOf("invalid_priority", "priority", schemas.Priorities())
	case n.ExpiresAt != nil && !n.ExpiresAt.After(time.Now()):
		return n, schemas.Refuse(schemas.Rule, "expires_in_past", "expires_at", "min", "expires_at must be in the future")
	}
	return n, nil
}

func notOneOf[T ~string](code, field string, allowed []T) error {
	e := schemas.Refuse(schemas.Rule, code, field, "enum", "%s must be one of %v", field, allowed)
	e.Extra = map[string]any{"allowed_values": allowed}
	return e
}

type sentView struct {
	Status    string                   `json:"status"`
	ID        schemas.NotificationID   `json:"notification_id"`
	HostID    schemas.HostID           `json:"host_id"`
	Type      schemas.NotificationType `json:"type"`
	CreatedAt time.Time                `json:"created_at"`
}

func (s *server) sendNotification(r *http.Request, p auth.Principal) (answer, error) {
	host, err := pathID(r, "host_id")
	if err != nil {
		return answer{}, err
	}
	in, body, err := decode[notificationBody](r, strict)
	if err != nil {
		return answer{}, err
	}
	command, err := in.command()
	if err != nil {
		return answer{}, err
	}
	once, err := idempotency(r, body)
	if err != nil {
		return answer{}, err
	}
	n, err := s.o.Producer.SendNotification(r.Context(), p.Scope(), once, schemas.HostID(host), command)
	if err != nil {
		return answer{}, err
	}
	return answer{data: sentView{"sent", n.ID, n.HostID, n.Type, n.CreatedAt}, message: "Notification sent"}, nil
}

type notificationQuery struct {
	UnreadOnly bool                     `json:"unread_only"`
	Priority   schemas.Priority         `json:"priority" check:"enum=high|medium|low"`
	Type       schemas.NotificationType `json:"type" check:"enum=new_booking|payment_received|guest_message|urgent|booking_update"`
	Limit      int                      `json:"limit" check:"min=1,max=100" default:"50"`
	Offset     int                      `json:"offset" check:"min=0,max=1000000" default:"0"`
}

type notificationView struct {
	ID             schemas.NotificationID   `json:"id"`
	HostID         schemas.HostID           `json:"host_id"`
	Type           schemas.NotificationType `json:"type"`
	Title          string                   `json:"title"`
	Message        string                   `json:"message"`
	BookingID      *string                  `json:"booking_id"`
	PropertyID     *string                  `json:"property_id"`
	Priority       schemas.Priority         `json:"priority"`
	ActionRequired bool                     `json:"action_required"`
	ActionURL      *string                  `json:"action_url"`
	ExpiresAt      *time.Time               `json:"expires_at"`
	IsRead         bool                     `json:"is_read"`
	ReadAt         *time.Time               `json:"read_at"`
	CreatedAt      time.Time                `json:"created_at"`
	UpdatedAt      time.Time                `json:"updated_at"`
}

func viewNotification(n *schemas.Notification) notificationView {
	return notificationView{
		ID: n.ID, HostID: n.HostID, Type: n.Type, Title: n.Title, Message: n.Message, BookingID: orNull(n.BookingID),
		PropertyID: orNull(n.PropertyID), Priority: n.Priority, ActionRequired: n.ActionRequired, ActionURL: orNull(n.ActionURL),
		ExpiresAt: n.ExpiresAt, IsRead: n.IsRead, ReadAt: n.ReadAt, CreatedAt: n.CreatedAt, UpdatedAt: n.UpdatedAt,
	}
}

type notificationPage struct {
	Notifications []notificationView  `json:"notifications"`
	TotalCount    int                 `json:"total_count"`
	UnreadCount   int                 `json:"unread_count"`
	ReturnedCount int                 `json:"returned_count"`
	HasMore       bool                `json:"has_more"`
	Filters       notificationFilters `json:"filters_applied"`
	// StreamCursor is where the event stream goes on from this list.
	StreamCursor *string `json:"stream_cursor"`
}

type notificationFilters struct {
	UnreadOnly bool                      `json:"unread_only"`
	Priority   *schemas.Priority         `json:"priority"`
	Type       *schemas.NotificationType `json:"type"`
}

func (s *server) notifications(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[notificationQuery](r)
	if err != nil {
		return answer{}, err
	}
	v := notificationPage{Filters: notificationFilters{q.UnreadOnly, orNull(q.Priority), orNull(q.Type)}}
	f := store.NotificationFilter{UnreadOnly: q.UnreadOnly, Priority: q.Priority, Type: q.Type, Limit: q.Limit, Offset: q.Offset}
	// One transaction for all: the list, the counts and the cursor are true at the
	// same moment, so nothing falls between the list and the stream.
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		page, err := tx.Notifications(ctx, p.Host, f)
		if err != nil {
			return err
		}
		v.Notifications, v.ReturnedCount = make([]notificationView, len(page.Items)), len(page.Items)
		for i := range page.Items {
			v.Notifications[i] = viewNotification(&page.Items[i])
		}
		v.TotalCount, v.UnreadCount = page.Total, page.Unread
		v.StreamCursor, err = s.cursor(ctx, tx, p.Host)
		return err
	})
	v.HasMore = nextOffset(q.Offset, v.ReturnedCount, v.TotalCount) != nil
	return answer{data: v}, err
}

// cursor is the position in the host's feed that the transaction's rows are true
// at; null without a feed.
func (s *server) cursor(ctx context.Context, tx *store.Tx, host schemas.HostID) (*string, error) {
	if s.o.Feed.Partitions == 0 {
		return nil, nil // none is an answer
	}
	partition := s.o.Feed.Partition(host)
	next, err := tx.SinkOffset(ctx, s.o.Feed.TopicID, partition)
	c := s.o.Feed.At(partition, next).String()
	return &c, err
}

type countView struct {
	HostID      schemas.HostID `json:"host_id"`
	UnreadCount int            `json:"unread_count"`
}

func (s *server) countNotifications(r *http.Request, p auth.Principal) (answer, error) {
	v := countView{HostID: p.Host}
	err := s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) (err error) {
		v.UnreadCount, err = tx.UnreadNotifications(ctx, p.Host)
		return err
	})
	return answer{data: v}, err
}

type readView struct {
	ID   schemas.NotificationID `json:"notification_id"`
	Read bool                   `json:"marked_read"`
}

func (s *server) markRead(r *http.Request, p auth.Principal) (answer, error) {
	id, err := notificationID(r)
	if err != nil {
		return answer{}, err
	}
	return answer{data: readView{id, true}}, s.o.Producer.MarkRead(r.Context(), p.Scope(), id)
}

type deletedView struct {
	ID      schemas.NotificationID `json:"notification_id"`
	Deleted bool                   `json:"deleted"`
}

func (s *server) deleteNotification(r *http.Request, p auth.Principal) (answer, error) {
	id, err := notificationID(r)
	if err != nil {
		return answer{}, err
	}
	return answer{data: deletedView{id, true}}, s.o.Producer.DeleteNotification(r.Context(), p.Scope(), id)
}

func notificationID(r *http.Request) (schemas.NotificationID, error) {
	id, err := pathID(r, "notification_id")
	return schemas.NotificationID(id), err
}
