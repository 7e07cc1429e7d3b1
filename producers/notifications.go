package producers

import (
	"context"
	"errors"
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
		if err := mayNotify(ctx, tx, s, host); err != nil {
			return schemas.Notification{}, err
		}
		return send(ctx, tx, host, in)
	})
}

// mayNotify says whether the scope may write into a host's inbox.
func mayNotify(ctx context.Context, tx *store.Tx, s store.Scope, host schemas.HostID) error {
	if s.Platform {
		return nil
	}
	ok, err := tx.HasBookingWith(ctx, s.Agent, host)
	if err == nil && !ok {
		err = schemas.Errorf(schemas.NotFound, "host_not_found", "there is no host %q that you have a booking with", host)
	}
	return err
}

// send writes a notification's row and its record.
func send(ctx context.Context, tx *store.Tx, host schemas.HostID, in NewNotification) (schemas.Notification, error) {
	now := schemas.Stamp(time.Now())
	if in.ExpiresAt != nil {
		// Asked here and not before the command, so that a repetition after that moment
		// still gets the answer of the first.
		if !in.ExpiresAt.After(now) {
			return schemas.Notification{}, schemas.Refuse(schemas.Rule, "expires_in_past", "expires_at", "min", "expires_at must be in the future")
		}
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
}

// An Addressed notification is one of many, and whom it is for.
type Addressed struct {
	Host schemas.HostID
	NewNotification
}

// A BulkResult is what came of one of many: the notification, or why there is none.
type BulkResult struct {
	Notification schemas.Notification
	Refusal      *schemas.Error `json:",omitempty"`
}

// SendNotifications sends many in one transaction, each for itself: those whose
// host is not the sender's are refused, and the others are sent.
func (p *Producer) SendNotifications(ctx context.Context, s store.Scope, o *Once, in []Addressed) ([]BulkResult, error) {
	a, err := once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (bulk, error) {
		a := bulk{Results: make([]BulkResult, len(in))}
		may := map[schemas.HostID]error{}
		for i := range in {
			host := in[i].Host
			err, known := may[host]
			if !known {
				err = mayNotify(ctx, tx, s, host)
				may[host] = err
			}
			if err == nil {
				a.Results[i].Notification, err = send(ctx, tx, host, in[i].NewNotification)
			}
			if refusal, ok := errors.AsType[*schemas.Error](err); ok {
				a.Results[i].Refusal = refusal
			} else if err != nil {
				return a, err
			}
		}
		return a, nil
	})
	return a.Results, err
}

// bulk is an answer that can be kept for an idempotency key, which holds objects.
type bulk struct{ Results []BulkResult }

func feed(ctx context.Context, tx *store.Tx, f schemas.FeedRecord) error {
	r, err := row(ctx, string(schemas.HostNotifications), string(f.HostID), f.Meta(), f)
	if err != nil {
		return err
	}
	tx.Enqueue(r)
	return nil
}
