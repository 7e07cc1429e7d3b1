package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// An AttemptPosition is a place in a log of attempts: just behind the one that it
// names.
type AttemptPosition struct {
	StartedAt time.Time
	ID        schemas.DeliveryID
	Run       int64
	Number    int
}

// An AttemptFilter narrows a subscription's attempts; zero members do not filter.
// Since and Until are about the beginnings of attempts.
type AttemptFilter struct {
	Subscription schemas.SubscriptionID
	Delivery     schemas.DeliveryID
	Outcome      schemas.Outcome
	Event        schemas.EventType
	Booking      schemas.BookingID
	Trigger      schemas.Trigger
	Run          *int64
	ErrorClass   schemas.ErrorClass
	Status       int // HTTP's
	Since, Until *time.Time
	After        *AttemptPosition
	Limit        int
}

// The partitions of attempts go by when their deliveries were created. An attempt
// begins after that, give or take clocks; and not much later than the ladder's
// end, as no topic that a delivery waits on keeps it for long.
const (
	clocksApart     = time.Hour
	longestOnItsWay = 31 * 24 * time.Hour
)

const attemptOrder = ` order by started_at desc, delivery_id desc, run desc, number desc`

// AttemptLog is a page of a subscription's attempts, the newest first, and the
// position that the next one begins at; nil at the end. See [Tx.Deliveries].
func (t *Tx) AttemptLog(ctx context.Context, f *AttemptFilter) ([]schemas.Attempt, *AttemptPosition, error) {
	span, rest := f.conditions()
	sql, args := spanPage("webhook_attempts", attemptColumnNames, attemptOrder, span, rest, f.Limit)
	rows, _ := t.tx.Query(ctx, sql, args...) // CollectRows reports the error
	as, err := pgx.CollectRows(rows, pgx.RowToStructByPos[schemas.Attempt])
	if err != nil {
		return nil, nil, fmt.Errorf("reading the attempts of %s: %w", f.Subscription, err)
	}
	if len(as) > f.Limit {
		last := &as[f.Limit-1]
		return as[:f.Limit], &AttemptPosition{last.StartedAt, last.DeliveryID, last.Run, last.Number}, nil
	}
	next, err := behind[AttemptPosition](ctx, t, "webhook_attempts", "started_at, delivery_id, run, number", attemptOrder, span, rest)
	return as, next, err
}

func (f *AttemptFilter) conditions() (span, rest conditions) {
	span.add("subscription_id = ?", string(f.Subscription))
	span.addIf(f.Delivery != "", "delivery_id = ?", string(f.Delivery))
	if f.Since != nil {
		span.add("started_at >= ?", *f.Since)
		span.add("delivery_created_at >= ?", f.Since.Add(-longestOnItsWay))
	}
	if f.Until != nil {
		span.add("started_at < ?", *f.Until)
		span.add("delivery_created_at < ?", f.Until.Add(clocksApart))
	}
	if a := f.After; a != nil {
		span.add("started_at <= ?", a.StartedAt)
		span.add("delivery_created_at < ?", a.StartedAt.Add(clocksApart))
		span.add("(started_at, delivery_id, run, number) < (?, ?, ?, ?)", a.StartedAt, string(a.ID), a.Run, a.Number)
	}
	rest.addIf(f.Outcome != "", "outcome = ?", string(f.Outcome))
	rest.addIf(f.Event != "", "event_type = ?", string(f.Event))
	rest.addIf(f.Booking != "", "booking_id = ?", string(f.Booking))
	rest.addIf(f.Trigger != "", "trigger = ?", string(f.Trigger))
	rest.addIf(f.ErrorClass != "", "error_class = ?", string(f.ErrorClass))
	rest.addIf(f.Status != 0, "status = ?", f.Status)
	if f.Run != nil {
		rest.add("run = ?", *f.Run)
	}
	return span, rest
}
