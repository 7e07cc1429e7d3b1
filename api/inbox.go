package api

import (
	"context"
	"encoding/base64"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// notificationQuery takes pages both ways: by offset, as in the contract, and by
// the cursor of the page before, which misses nothing while notifications come in.
type notificationQuery struct {
	UnreadOnly     bool                     `json:"unread_only"`
	Priority       schemas.Priority         `json:"priority" check:"enum=high|medium|low"`
	Type           schemas.NotificationType `json:"type" check:"enum=new_booking|payment_received|guest_message|urgent|booking_update"`
	PropertyID     string                   `json:"property_id" check:"max=255"`
	BookingID      string                   `json:"booking_id" check:"max=255"`
	ActionRequired bool                     `json:"action_required"`
	CreatedFrom    *time.Time               `json:"created_from"`
	CreatedTo      *time.Time               `json:"created_to"`
	Limit          int                      `json:"limit" check:"min=1,max=100" default:"50"`
	Offset         int                      `json:"offset" check:"min=0,max=10000" default:"0"`
	Cursor         notificationCursor       `json:"cursor" check:"max=512,as=notificationcursor"`
}

func (q *notificationQuery) check(add func(field, rule, message string)) {
	if q.CreatedFrom != nil && q.CreatedTo != nil && q.CreatedTo.Before(*q.CreatedFrom) {
		add("created_to", "range", "must not be before created_from")
	}
	if q.Cursor != "" && q.Offset != 0 {
		add("cursor", "together", "and offset exclude each other")
	}
}

func (q *notificationQuery) filter() store.NotificationFilter {
	f := store.NotificationFilter{
		UnreadOnly: q.UnreadOnly, ActionRequired: q.ActionRequired, Priority: q.Priority, Type: q.Type, PropertyID: q.PropertyID,
		BookingID: q.BookingID, CreatedFrom: q.CreatedFrom, CreatedTo: q.CreatedTo, Limit: q.Limit, Offset: q.Offset,
	}
	if at, err := q.Cursor.position(); err == nil {
		f.After = &at
	}
	return f
}

// A notificationCursor is opaque to callers: the microsecond of a notification's
// creation and its id. It is a place in the list; the place in the stream is
// stream_cursor.
type notificationCursor string

func cursorAt(n *schemas.Notification) notificationCursor {
	return notificationCursor(base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(n.CreatedAt.UnixMicro(), 10) + "." + string(n.ID))))
}

// position accepts only what cursorAt writes.
func (c notificationCursor) position() (store.NotificationPosition, error) {
	at, err := bookingCursor(c).position()
	return store.NotificationPosition{CreatedAt: at.CreatedAt, ID: schemas.NotificationID(at.ID)}, err
}

func checkNotificationCursor(s string) string {
	if _, err := notificationCursor(s).position(); err != nil {
		return err.Error()
	}
	return ""
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
	TotalCapped   bool                `json:"total_count_capped"`
	UnreadCapped  bool                `json:"unread_count_capped"`
	ReturnedCount int                 `json:"returned_count"`
	HasMore       bool                `json:"has_more"`
	Filters       notificationFilters `json:"filters_applied"`
	// TopCursor is the place of the first notification, for read-all; NextCursor of
	// the last one, for the next page. Null where there is none.
	TopCursor  *notificationCursor `json:"top_cursor"`
	NextCursor *notificationCursor `json:"next_cursor"`
	// StreamCursor is where the event stream goes on from this list.
	StreamCursor *string `json:"stream_cursor"`
}

type notificationFilters struct {
	UnreadOnly     bool                      `json:"unread_only"`
	Priority       *schemas.Priority         `json:"priority"`
	Type           *schemas.NotificationType `json:"type"`
	PropertyID     *string                   `json:"property_id"`
	BookingID      *string                   `json:"booking_id"`
	ActionRequired bool                      `json:"action_required"`
	CreatedFrom    *time.Time                `json:"created_from"`
	CreatedTo      *time.Time                `json:"created_to"`
}

func (s *server) notifications(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[notificationQuery](r)
	if err != nil {
		return answer{}, err
	}
	var page store.NotificationPage
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		page, err = tx.Notifications(ctx, p.Host, q.filter(), s.o.Feed.TopicID, s.partition(p.Host))
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: s.viewInbox(p.Host, &q, &page)}, nil
}

func (s *server) viewInbox(h schemas.HostID, q *notificationQuery, page *store.NotificationPage) notificationPage {
	v := notificationPage{
		Notifications: make([]notificationView, len(page.Items)), TotalCount: page.Total, UnreadCount: page.Unread,
		TotalCapped: page.TotalCapped, UnreadCapped: page.UnreadCapped, ReturnedCount: len(page.Items), HasMore: page.More,
		Filters: notificationFilters{
			q.UnreadOnly, orNull(q.Priority), orNull(q.Type), orNull(q.PropertyID), orNull(q.BookingID), q.ActionRequired, q.CreatedFrom, q.CreatedTo,
		},
	}
	for i := range page.Items {
		v.Notifications[i] = viewNotification(&page.Items[i])
	}
	if n := len(page.Items); n > 0 {
		top := cursorAt(&page.Items[0])
		v.TopCursor = &top
		if page.More {
			next := cursorAt(&page.Items[n-1])
			v.NextCursor = &next
		}
	}
	if s.o.Feed.Partitions > 0 {
		c := s.o.Feed.At(s.partition(h), page.NextOffset).String()
		v.StreamCursor = &c
	}
	return v
}

// partition is where the host's feed is; 0 without one.
func (s *server) partition(h schemas.HostID) int32 {
	if s.o.Feed.Partitions == 0 {
		return 0
	}
	return s.o.Feed.Partition(h)
}

func (s *server) notification(r *http.Request, p auth.Principal) (answer, error) {
	id, err := notificationID(r)
	if err != nil {
		return answer{}, err
	}
	var v notificationView
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		n, err := tx.Notification(ctx, p.Host, id)
		v = viewNotification(&n)
		return err
	})
	return answer{data: v}, err
}

type countView struct {
	HostID      schemas.HostID `json:"host_id"`
	UnreadCount int            `json:"unread_count"`
	Capped      bool           `json:"unread_count_capped"`
}

func (s *server) countNotifications(r *http.Request, p auth.Principal) (answer, error) {
	v := countView{HostID: p.Host}
	err := s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) (err error) {
		v.UnreadCount, v.Capped, err = tx.UnreadNotifications(ctx, p.Host)
		return err
	})
	return answer{data: v}, err
}

// inboxStatistics are of the newest store.CountCap notifications; Capped says that
// there are older ones.
type inboxStatistics struct {
	HostID         schemas.HostID                   `json:"host_id"`
	Total          int                              `json:"total_notifications"`
	Unread         int                              `json:"unread_notifications"`
	Read           int                              `json:"read_notifications"`
	Recent         int                              `json:"recent_notifications_7d"`
	ByType         map[schemas.NotificationType]int `json:"notifications_by_type"`
	ByPriority     map[schemas.Priority]int         `json:"notifications_by_priority"`
	ReadPercentage float64                          `json:"read_percentage"`
	Capped         bool                             `json:"capped"`
	LastUpdated    time.Time                        `json:"last_updated"`
}

func (s *server) notificationStatistics(r *http.Request, p auth.Principal) (answer, error) {
	var (
		groups []store.NotificationGroup
		capped bool
	)
	err := s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) (err error) {
		groups, capped, err = tx.NotificationGroups(ctx, p.Host)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	v := inboxStatistics{
		HostID: p.Host, ByType: map[schemas.NotificationType]int{}, ByPriority: map[schemas.Priority]int{}, Capped: capped,
		LastUpdated: schemas.Stamp(time.Now()),
	}
	for _, g := range groups {
		v.Total += g.Count
		v.Recent += g.Recent
		v.ByType[g.Type] += g.Count
		v.ByPriority[g.Priority] += g.Count
		if g.Read {
			v.Read += g.Count
		}
	}
	v.Unread = v.Total - v.Read
	if v.Total > 0 {
		v.ReadPercentage = math.Round(1000*float64(v.Read)/float64(v.Total)) / 10
	}
	return answer{data: v}, nil
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
	return answer{data: readView{id, true}}, s.o.Producer.MarkNotification(r.Context(), p.Scope(), id, schemas.MarkedRead)
}

type unreadView struct {
	ID     schemas.NotificationID `json:"notification_id"`
	Unread bool                   `json:"marked_unread"`
}

func (s *server) markUnread(r *http.Request, p auth.Principal) (answer, error) {
	id, err := notificationID(r)
	if err != nil {
		return answer{}, err
	}
	return answer{data: unreadView{id, true}}, s.o.Producer.MarkNotification(r.Context(), p.Scope(), id, schemas.MarkedUnread)
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
	return answer{data: deletedView{id, true}}, s.o.Producer.MarkNotification(r.Context(), p.Scope(), id, schemas.Deleted)
}

func notificationID(r *http.Request) (schemas.NotificationID, error) {
	id, err := pathID(r, "notification_id")
	return schemas.NotificationID(id), err
}

// manyBody names notifications of the host.
type manyBody struct {
	IDs []schemas.NotificationID `json:"notification_ids" check:"required,min=1,max=100,each=255"`
}

type manyView struct {
	Changed  []schemas.NotificationID `json:"changed"`
	NotFound []schemas.NotificationID `json:"not_found"`
}

// markMany does one thing to many; what is done already is left out of changed.
func (s *server) markMany(a schemas.FeedAction) endpoint {
	return func(r *http.Request, p auth.Principal) (answer, error) {
		in, _, err := decode[manyBody](r, strict)
		if err != nil {
			return answer{}, err
		}
		done, err := s.o.Producer.MarkNotifications(r.Context(), p.Scope(), in.IDs, a)
		if err != nil {
			return answer{}, err
		}
		v := manyView{append([]schemas.NotificationID{}, done.Changed...), append([]schemas.NotificationID{}, done.NotFound...)}
		return answer{data: v, message: strconv.Itoa(len(v.Changed)) + " notifications marked " + strings.ReplaceAll(string(a), "_", " ")}, nil
	}
}

type readAllBody struct {
	UpTo notificationCursor `json:"up_to" check:"max=512,as=notificationcursor"`
}

type readAllView struct {
	Status string         `json:"status"`
	Marked int            `json:"marked_count"`
	HostID schemas.HostID `json:"host_id"`
}

// readAll may come without a body: then everything is read.
func (s *server) readAll(r *http.Request, p auth.Principal) (answer, error) {
	in, _, err := decodeOptional[readAllBody](r)
	if err != nil {
		return answer{}, err
	}
	var upTo *store.NotificationPosition
	if at, err := in.UpTo.position(); err == nil {
		upTo = &at
	}
	n, err := s.o.Producer.ReadAll(r.Context(), p.Scope(), upTo)
	if err != nil {
		return answer{}, err
	}
	return answer{data: readAllView{"success", n, p.Host}, message: "Marked " + strconv.Itoa(n) + " notifications as read"}, nil
}
