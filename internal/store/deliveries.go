package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// DeliveryState is how a run of a delivery stands: waiting for its next attempt,
// or the outcome that ended it.
type DeliveryState string

// The states.
const (
	StateWaiting    DeliveryState = "waiting"
	StateDelivered                = DeliveryState(schemas.Delivered)
	StateDead                     = DeliveryState(schemas.Dead)
	StateGone                     = DeliveryState(schemas.Gone)
	StateWithheld                 = DeliveryState(schemas.Withheld)
	StateSuperseded               = DeliveryState(schemas.Superseded)
)

// A Delivery is what the log knows of one run of a delivery that has been
// attempted. Status, ErrorClass and NextAttemptAt are of the last attempt.
type Delivery struct {
	ID             schemas.DeliveryID
	Run            int64
	CreatedAt      time.Time // of the run
	SubscriptionID schemas.SubscriptionID
	AgentID        schemas.AgentID
	EventID        schemas.EventID
	EventType      schemas.EventType
	BookingID      schemas.BookingID
	Trigger        schemas.Trigger
	State          DeliveryState
	Attempts       int
	Status         int
	ErrorClass     schemas.ErrorClass
	NextAttemptAt  *time.Time
	FirstAttemptAt time.Time
	LastAttemptAt  time.Time
}

const deliveryColumns = `delivery_id, run, created_at, subscription_id, agent_id, event_id, event_type, booking_id, trigger, state, attempts,
  status, error_class, next_attempt_at, first_attempt_at, last_attempt_at`

const deliveryOrder = ` order by created_at desc, delivery_id desc, run desc`

// A DeliveryPosition is a place in a log of deliveries: just behind the one that
// it names.
type DeliveryPosition struct {
	CreatedAt time.Time
	ID        schemas.DeliveryID
	Run       int64
}

// A DeliveryFilter narrows a subscription's log; zero members do not filter.
// Since belongs to the span and Until does not.
type DeliveryFilter struct {
	Subscription schemas.SubscriptionID
	State        DeliveryState
	Event        schemas.EventType
	Booking      schemas.BookingID
	Trigger      schemas.Trigger
	Run          *int64
	ErrorClass   schemas.ErrorClass
	Status       int // HTTP's
	Since, Until *time.Time
	After        *DeliveryPosition
	Limit        int
}

// maxScan is how many rows of a log one page looks at: no filter, however rare
// what it asks for, costs more than that. A page may then hold fewer than were
// asked for, or none, and still have a next one.
const maxScan = 10_000

// Deliveries is a page of a subscription's log, the newest first, and the
// position that the next one begins at; nil at the end.
func (t *Tx) Deliveries(ctx context.Context, f *DeliveryFilter) ([]Delivery, *DeliveryPosition, error) {
	span, rest := f.conditions()
	sql, args := spanPage("webhook_deliveries", deliveryColumns, deliveryOrder, span, rest, f.Limit)
	rows, _ := t.tx.Query(ctx, sql, args...) // CollectRows reports the error
	ds, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Delivery])
	if err != nil {
		return nil, nil, fmt.Errorf("reading the deliveries of %s: %w", f.Subscription, err)
	}
	if len(ds) > f.Limit {
		last := &ds[f.Limit-1]
		return ds[:f.Limit], &DeliveryPosition{last.CreatedAt, last.ID, last.Run}, nil
	}
	next, err := behind[DeliveryPosition](ctx, t, "webhook_deliveries", "created_at, delivery_id, run", deliveryOrder, span, rest)
	return ds, next, err
}

// conditions are those that choose a span of an index, and the rest, by which the
// rows of the span are looked through. The literals let the planner see that a
// partial index will do.
func (f *DeliveryFilter) conditions() (span, rest conditions) {
	span.add("subscription_id = ?", string(f.Subscription))
	switch f.State {
	case StateWaiting, StateDead, StateGone, StateWithheld, StateSuperseded:
		span.add("state = '" + string(f.State) + "'")
	case StateDelivered:
		rest.add("state = 'delivered'")
	case "":
	}
	if f.Booking != "" {
		span.add("booking_id = ? and booking_id <> ''", string(f.Booking))
	}
	if f.Since != nil {
		span.add("created_at >= ?", *f.Since)
	}
	if f.Until != nil {
		span.add("created_at < ?", *f.Until)
	}
	if a := f.After; a != nil {
		span.add("created_at <= ?", a.CreatedAt) // prunes, which a comparison of rows does not
		span.add("(created_at, delivery_id, run) < (?, ?, ?)", a.CreatedAt, string(a.ID), a.Run)
	}
	rest.addIf(f.Event != "", "event_type = ?", string(f.Event))
	rest.addIf(f.Trigger != "", "trigger = ?", string(f.Trigger))
	rest.addIf(f.ErrorClass != "", "error_class = ?", string(f.ErrorClass))
	rest.addIf(f.Status != 0, "status = ?", f.Status)
	if f.Run != nil {
		rest.add("run = ?", *f.Run)
	}
	return span, rest
}

// Delivery is a subscription's delivery: its newest runs, the newest first.
func (t *Tx) Delivery(ctx context.Context, s schemas.SubscriptionID, id schemas.DeliveryID) ([]Delivery, error) {
	rows, _ := t.tx.Query(ctx, `select `+deliveryColumns+` from webhook_deliveries where delivery_id = $1 and subscription_id = $2
		order by created_at desc, run desc limit 100`, string(id), string(s)) // CollectRows reports the error
	ds, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Delivery])
	if err == nil && len(ds) == 0 {
		return nil, schemas.Errorf(schemas.NotFound, "delivery_not_found", "there is no delivery %q that was attempted", id)
	}
	if err != nil {
		return nil, fmt.Errorf("reading delivery %s: %w", id, err)
	}
	return ds, nil
}

// AttemptsOf are the attempts of one run, in order of their numbers.
func (t *Tx) AttemptsOf(ctx context.Context, d *Delivery) ([]schemas.Attempt, error) {
	rows, _ := t.tx.Query(ctx, `select `+attemptColumnNames+` from webhook_attempts
		where delivery_id = $1 and run = $2 and delivery_created_at = $3 order by number limit 1000`,
		string(d.ID), d.Run, d.CreatedAt) // CollectRows reports the error
	as, err := pgx.CollectRows(rows, pgx.RowToStructByPos[schemas.Attempt])
	if err != nil {
		return nil, fmt.Errorf("reading the attempts of delivery %s: %w", d.ID, err)
	}
	return as, nil
}

// DropDeliveryPartitions drops the months of deliveries whose attempts are gone
// and says how many. It needs RoleJobs.
func (t *Tx) DropDeliveryPartitions(ctx context.Context) (n int64, err error) {
	if err := t.tx.QueryRow(ctx, `select krib_drop_delivery_partitions()`).Scan(&n); err != nil {
		return 0, fmt.Errorf("dropping delivery partitions: %w", err)
	}
	return n, nil
}

// conditions are SQL and its arguments; a value never becomes part of the text.
type conditions struct {
	text []string // with ? in the places of the arguments
	args []any
}

func (c *conditions) add(text string, args ...any) {
	c.text, c.args = append(c.text, text), append(c.args, args...)
}

func (c *conditions) addIf(asked bool, text string, arg any) {
	if asked {
		c.add(text, arg)
	}
}

// sql numbers the arguments from the given one on.
func (c *conditions) sql(from int) string {
	s := strings.Join(c.text, " and ")
	for i := range c.args {
		s = strings.Replace(s, "?", fmt.Sprintf("$%d", from+i), 1)
	}
	return s
}

// spanPage reads a page and one row more from a span of a log, in the order of the
// index that the span belongs to.
func spanPage(table, columns, order string, span, rest conditions, limit int) (string, []any) {
	sql := fmt.Sprintf(`select %s from %s where %s%s limit %d`, columns, table, span.sql(1), order, limit+1)
	if len(rest.text) > 0 {
		sql = fmt.Sprintf(`select %s from (select * from %s where %s%s limit %d) looked_at where %s%s limit %d`,
			columns, table, span.sql(1), order, maxScan, rest.sql(len(span.args)+1), order, limit+1)
	}
	return sql, slices.Concat(span.args, rest.args)
}

// behind is the last position that a page that is not full has looked at, or nil
// if that was the last one of all.
func behind[P any](ctx context.Context, t *Tx, table, position, order string, span, rest conditions) (*P, error) {
	if len(rest.text) == 0 {
		return nil, nil // everything was looked at
	}
	rows, _ := t.tx.Query(ctx, fmt.Sprintf(`select %s from %s where %s%s offset %d limit 1`, position, table, span.sql(1), order, maxScan-1), span.args...) // CollectExactlyOneRow reports the error
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[P])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("looking for the next page: %w", err)
	}
	return &p, nil
}
