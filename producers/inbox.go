package producers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// MarkNotification does what the action says to one of the scope's host's
// notifications: read, unread or deleted. What is marked so already stays as it is,
// and nothing is emitted.
func (p *Producer) MarkNotification(ctx context.Context, s store.Scope, id schemas.NotificationID, a schemas.FeedAction) error {
	done, err := p.MarkNotifications(ctx, s, []schemas.NotificationID{id}, a)
	if err == nil && len(done.NotFound) > 0 {
		err = schemas.Errorf(schemas.NotFound, "notification_not_found", "there is no notification %q", id)
	}
	return err
}

// Marked is what MarkNotifications has done. Changed are those that were not
// marked so before.
type Marked struct {
	Changed, NotFound []schemas.NotificationID
}

// MarkNotifications is MarkNotification for many at once: those that are there are
// marked, the others are named.
func (p *Producer) MarkNotifications(ctx context.Context, s store.Scope, ids []schemas.NotificationID, a schemas.FeedAction) (Marked, error) {
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (Marked, error) {
		have, err := tx.LockNotifications(ctx, s.Host, ids)
		if err != nil {
			return Marked{}, err
		}
		done := sortOut(ids, have, a)
		if len(done.Changed) == 0 {
			return done, nil
		}
		now := schemas.Stamp(time.Now())
		if err := tx.Mark(ctx, done.Changed, a, now); err != nil {
			return done, err
		}
		for _, id := range done.Changed {
			u := &schemas.NotificationUpdate{NotificationID: id, Action: a, At: now}
			if err := feed(ctx, tx, schemas.FeedRecord{Kind: schemas.FeedUpdate, HostID: s.Host, At: now, Update: u}); err != nil {
				return done, err
			}
		}
		return done, nil
	})
}

// sortOut says which of the ids an action changes, and which are not there.
func sortOut(ids []schemas.NotificationID, have []schemas.Notification, a schemas.FeedAction) (m Marked) {
	for i := range have {
		n := &have[i]
		if a == schemas.MarkedRead && n.IsRead || a == schemas.MarkedUnread && !n.IsRead {
			continue
		}
		m.Changed = append(m.Changed, n.ID)
	}
	for _, id := range ids {
		there := func(n schemas.Notification) bool { return n.ID == id }
		if !slices.ContainsFunc(have, there) && !slices.Contains(m.NotFound, id) {
			m.NotFound = append(m.NotFound, id)
		}
	}
	return m
}

// readAtOnce bounds a transaction of ReadAll, for as long as which the host's other
// requests for the same notifications wait.
const readAtOnce = 5_000

// ReadAll marks the unread notifications of the scope's host read, from the oldest
// to upTo, or all without one. With it, what arrives meanwhile stays unread. A huge
// inbox takes several transactions: what an error leaves is for the next call, and
// the count is of what was done.
func (p *Producer) ReadAll(ctx context.Context, s store.Scope, upTo *store.NotificationPosition) (int, error) {
	end := store.NotificationPosition{CreatedAt: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	if upTo != nil {
		end = *upTo
	}
	total := 0
	for {
		n, err := update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (int, error) {
			now := schemas.Stamp(time.Now())
			n, last, err := tx.MarkOldestRead(ctx, s.Host, end, readAtOnce, now)
			if err != nil || n == 0 {
				return 0, err
			}
			u := &schemas.NotificationUpdate{NotificationID: last.ID, Action: schemas.MarkedAllRead, At: now, UpTo: &last.CreatedAt}
			return n, feed(ctx, tx, schemas.FeedRecord{Kind: schemas.FeedUpdate, HostID: s.Host, At: now, Update: u})
		})
		total += n
		if err != nil || n < readAtOnce {
			return total, err
		}
	}
}

// A Message is a guest's, as its agent passes it on. Title is the agent's, empty
// for one that names the guest.
type Message struct {
	Text, Title string
}

// PassMessage puts a guest's message into the inbox of the host of the booking.
// The booking must be the agent's.
func (p *Producer) PassMessage(ctx context.Context, s store.Scope, o *Once, id schemas.BookingID, in Message) (schemas.Notification, error) {
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (schemas.Notification, error) {
		b, err := tx.Booking(ctx, id)
		if err != nil {
			return schemas.Notification{}, err
		}
		title := in.Title
		if title == "" {
			title = "Message from " + b.Guest.Name()
		}
		return send(ctx, tx, b.HostID, NewNotification{
			Type: schemas.GuestMessage, Title: cut(title, maxTitle), Message: in.Text, BookingID: string(b.ID), PropertyID: string(b.Property.ID),
			Priority: schemas.Medium, ActionURL: bookingLink(b.ID),
		})
	})
}

// maxTitle is the contract's, in characters.
const maxTitle = 255

func cut(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

func bookingLink(id schemas.BookingID) string { return "/dashboard/bookings/" + string(id) }

// A BookingNotice is the input of NotifyOfBooking; Kind is one of NoticeKinds.
type BookingNotice struct {
	Kind          string
	Booking       schemas.BookingID
	Property      schemas.PropertyID
	GuestName     string
	PropertyTitle string
}

// noticeExpiry is the contract's for requests (NOTIFICATION_EXPIRY_NEW_BOOKING).
const noticeExpiry = 72 * time.Hour

// A notice is a template of the contract.
type notice struct {
	kind, title, words string // words stand between guest and property
	of                 schemas.NotificationType
	priority           schemas.Priority
	request            bool // to be answered, within noticeExpiry
}

var notices = []notice{
	{"new_booking", "New Booking Request", "New booking request from %s for %s", schemas.NewBooking, schemas.High, true},
	{"booking_confirmed", "Booking Confirmed", "The booking of %s for %s has been confirmed", schemas.NotifyBookingMove, schemas.High, false},
	{"booking_cancelled", "Booking Cancelled", "The booking of %s for %s has been cancelled", schemas.NotifyBookingMove, schemas.High, false},
	{"payment_received", "Payment Received", "Payment for the booking of %s at %s", schemas.NotifyPayment, schemas.Medium, false},
}

// NoticeKinds is the closed list of templates, in the order in which errors show it.
func NoticeKinds() []string {
	out := make([]string, len(notices))
	for i, n := range notices {
		out[i] = n.kind
	}
	return out
}

// NotifyOfBooking writes a notification from a template about a booking of the
// host that the agent may see; any other is NotFound.
func (p *Producer) NotifyOfBooking(ctx context.Context, s store.Scope, o *Once, host schemas.HostID, in BookingNotice) (schemas.Notification, error) {
	i := slices.IndexFunc(notices, func(n notice) bool { return n.kind == in.Kind })
	if i < 0 {
		return schemas.Notification{}, schemas.Refuse(schemas.Rule, "invalid_type", "notification_type", "enum", "notification_type must be one of %v", NoticeKinds())
	}
	t := notices[i]
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (schemas.Notification, error) {
		b, err := tx.Booking(ctx, in.Booking)
		if err == nil && b.HostID != host {
			err = schemas.Errorf(schemas.NotFound, "booking_not_found", "there is no booking %q of host %q", in.Booking, host)
		}
		if err != nil {
			return schemas.Notification{}, err
		}
		return send(ctx, tx, host, t.fill(&in, time.Now()))
	})
}

func (t *notice) fill(in *BookingNotice, now time.Time) NewNotification {
	n := NewNotification{
		Type: t.of, Title: t.title, Message: fmt.Sprintf(t.words, in.GuestName, in.PropertyTitle), BookingID: string(in.Booking), PropertyID: string(in.Property),
		Priority: t.priority, ActionRequired: t.request, ActionURL: bookingLink(in.Booking),
	}
	if t.request {
		at := now.Add(noticeExpiry)
		n.ExpiresAt = &at
	}
	return n
}

// cleanAtOnce bounds a transaction of CleanUp.
const cleanAtOnce = 1_000

// CleanUp takes what has run out from every inbox and says how much it was. The job
// does the same every two hours; nothing is listed or counted meanwhile. It is for
// the platform.
func (p *Producer) CleanUp(ctx context.Context, s store.Scope) (int, error) {
	if !s.Platform {
		return 0, schemas.Errorf(schemas.Forbidden, "platform_only", "only a platform key cleans up every inbox")
	}
	for total := 0; ; {
		n, err := update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (int, error) { return tx.CleanUpNotifications(ctx, cleanAtOnce) })
		total += n
		if err != nil || n < cleanAtOnce {
			return total, err
		}
	}
}
