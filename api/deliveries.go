package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// deliveryQuery narrows the log of deliveries. Since belongs to the span and until
// does not.
type deliveryQuery struct {
	Status     store.DeliveryState `json:"status" check:"enum=waiting|delivered|dead|gone|withheld|superseded"`
	EventType  schemas.EventType   `json:"event_type" check:"max=100"`
	BookingID  schemas.BookingID   `json:"booking_id" check:"max=255"`
	Trigger    schemas.Trigger     `json:"trigger" check:"enum=event|manual|replay|test|operational"`
	Run        *int64              `json:"run" check:"min=0"`
	ErrorClass schemas.ErrorClass  `json:"error_class" check:"max=100"`
	HTTPStatus int                 `json:"http_status" check:"min=100,max=599"`
	Since      *time.Time          `json:"since"`
	Until      *time.Time          `json:"until"`
	Limit      int                 `json:"limit" check:"min=1,max=100" default:"50"`
	Cursor     logCursor           `json:"cursor" check:"max=512,as=deliverycursor"`
}

func (q *deliveryQuery) check(add func(field, rule, message string)) {
	checkSpan(q.Since, q.Until, add)
}

func checkSpan(since, until *time.Time, add func(field, rule, message string)) {
	if since != nil && until != nil && until.Before(*since) {
		add("until", "range", "must not be before since")
	}
}

func (q *deliveryQuery) filter(id schemas.SubscriptionID) *store.DeliveryFilter {
	f := &store.DeliveryFilter{
		Subscription: id, State: q.Status, Event: q.EventType, Booking: q.BookingID, Trigger: q.Trigger, Run: q.Run, ErrorClass: q.ErrorClass,
		Status: q.HTTPStatus, Since: q.Since, Until: q.Until, Limit: q.Limit,
	}
	if at, err := q.Cursor.delivery(); err == nil {
		f.After = &at
	}
	return f
}

// attemptQuery narrows the log of attempts.
type attemptQuery struct {
	DeliveryID schemas.DeliveryID `json:"delivery_id" check:"max=255"`
	Outcome    schemas.Outcome    `json:"outcome" check:"enum=delivered|retry|dead|gone|withheld|superseded"`
	EventType  schemas.EventType  `json:"event_type" check:"max=100"`
	BookingID  schemas.BookingID  `json:"booking_id" check:"max=255"`
	Trigger    schemas.Trigger    `json:"trigger" check:"enum=event|retry|manual|replay|test|operational"`
	Run        *int64             `json:"run" check:"min=0"`
	ErrorClass schemas.ErrorClass `json:"error_class" check:"max=100"`
	HTTPStatus int                `json:"http_status" check:"min=100,max=599"`
	Since      *time.Time         `json:"since"`
	Until      *time.Time         `json:"until"`
	Limit      int                `json:"limit" check:"min=1,max=100" default:"50"`
	Cursor     logCursor          `json:"cursor" check:"max=512,as=attemptcursor"`
}

func (q *attemptQuery) check(add func(field, rule, message string)) {
	checkSpan(q.Since, q.Until, add)
}

func (q *attemptQuery) filter(id schemas.SubscriptionID) *store.AttemptFilter {
	f := &store.AttemptFilter{
		Subscription: id, Delivery: q.DeliveryID, Outcome: q.Outcome, Event: q.EventType, Booking: q.BookingID, Trigger: q.Trigger, Run: q.Run,
		ErrorClass: q.ErrorClass, Status: q.HTTPStatus, Since: q.Since, Until: q.Until, Limit: q.Limit,
	}
	if at, err := q.Cursor.attempt(); err == nil {
		f.After = &at
	}
	return f
}

// A logCursor is opaque to callers: the microsecond by which a log is sorted, and
// the numbers and the id that tell its rows apart.
type logCursor string

func cursorOf(at time.Time, id schemas.DeliveryID, numbers ...int64) *logCursor {
	parts := []string{strconv.FormatInt(at.UnixMicro(), 10)}
	for _, n := range numbers {
		parts = append(parts, strconv.FormatInt(n, 10))
	}
	c := logCursor(base64.RawURLEncoding.EncodeToString([]byte(strings.Join(append(parts, string(id)), "."))))
	return &c
}

var errLogCursor = errors.New("must be a next_cursor of this list")

// parts accepts only what cursorOf writes with so many numbers.
func (c logCursor) parts(numbers int) (at time.Time, id schemas.DeliveryID, ns []int64, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(string(c))
	parts := strings.SplitN(string(raw), ".", numbers+2)
	if err != nil || len(parts) != numbers+2 || !plainText(parts[numbers+1]) {
		return at, "", nil, errLogCursor
	}
	for _, p := range parts[:numbers+1] {
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil {
			return at, "", nil, errLogCursor
		}
		ns = append(ns, n)
	}
	if at = time.UnixMicro(ns[0]).UTC(); at.Year() < 1 || at.Year() > 9999 {
		return at, "", nil, errLogCursor
	}
	return at, schemas.DeliveryID(parts[numbers+1]), ns[1:], nil
}

func (c logCursor) delivery() (store.DeliveryPosition, error) {
	at, id, ns, err := c.parts(1)
	if err != nil {
		return store.DeliveryPosition{}, err
	}
	return store.DeliveryPosition{CreatedAt: at, ID: id, Run: ns[0]}, nil
}

func (c logCursor) attempt() (store.AttemptPosition, error) {
	at, id, ns, err := c.parts(2)
	if err != nil {
		return store.AttemptPosition{}, err
	}
	return store.AttemptPosition{StartedAt: at, ID: id, Run: ns[0], Number: int(int32(ns[1]))}, nil
}

func checkDeliveryCursor(s string) string { return checkLogCursor(s, 1) }

func checkAttemptCursor(s string) string { return checkLogCursor(s, 2) }

func checkLogCursor(s string, numbers int) string {
	if _, _, _, err := logCursor(s).parts(numbers); err != nil {
		return err.Error()
	}
	return ""
}

// A deliveryView is one run of a delivery. What it says of the answer is the last
// attempt's.
type deliveryView struct {
	ID             schemas.DeliveryID  `json:"id"`
	Run            int64               `json:"run"`
	EventID        schemas.EventID     `json:"event_id"`
	EventType      schemas.EventType   `json:"event_type"`
	BookingID      *schemas.BookingID  `json:"booking_id"`
	Trigger        schemas.Trigger     `json:"trigger"`
	Status         store.DeliveryState `json:"status"`
	Attempts       int                 `json:"attempt_count"`
	HTTPStatus     *int                `json:"http_status"`
	ErrorClass     *schemas.ErrorClass `json:"error_class"`
	CreatedAt      time.Time           `json:"created_at"`
	FirstAttemptAt time.Time           `json:"first_attempt_at"`
	LastAttemptAt  time.Time           `json:"last_attempt_at"`
	NextAttemptAt  *time.Time          `json:"next_attempt_at"`
}

func viewDelivery(d *store.Delivery) deliveryView {
	return deliveryView{
		ID: d.ID, Run: d.Run, EventID: d.EventID, EventType: d.EventType, BookingID: orNull(d.BookingID), Trigger: d.Trigger, Status: d.State,
		Attempts: d.Attempts, HTTPStatus: statusOrNull(d.Status), ErrorClass: orNull(d.ErrorClass), CreatedAt: d.CreatedAt.UTC(),
		FirstAttemptAt: d.FirstAttemptAt.UTC(), LastAttemptAt: d.LastAttemptAt.UTC(), NextAttemptAt: inUTC(d.NextAttemptAt),
	}
}

// An attemptView shows the answer's body to the endpoint's owner only: it is the
// owner's, and may hold what the platform has no business with.
type attemptView struct {
	DeliveryID    schemas.DeliveryID  `json:"delivery_id"`
	Run           int64               `json:"run"`
	Number        int                 `json:"number"`
	EventID       schemas.EventID     `json:"event_id"`
	EventType     schemas.EventType   `json:"event_type"`
	BookingID     *schemas.BookingID  `json:"booking_id"`
	Trigger       schemas.Trigger     `json:"trigger"`
	Outcome       schemas.Outcome     `json:"outcome"`
	Final         bool                `json:"final"`
	HTTPStatus    *int                `json:"http_status"`
	ErrorClass    *schemas.ErrorClass `json:"error_class"`
	Error         *string             `json:"error"`
	ResponseBody  *string             `json:"response_body"`
	StartedAt     time.Time           `json:"started_at"`
	DurationMS    int64               `json:"duration_ms"`
	NextAttemptAt *time.Time          `json:"next_attempt_at"`
	// FilterNotAsked says that the event was sent without asking the filter.
	FilterNotAsked bool `json:"filter_not_asked"`
}

func viewAttempt(a *schemas.Attempt, viewer schemas.AgentID) attemptView {
	v := attemptView{
		DeliveryID: a.DeliveryID, Run: a.Run, Number: a.Number, EventID: a.EventID, EventType: a.EventType, BookingID: orNull(a.BookingID),
		Trigger: a.Trigger, Outcome: a.Outcome, Final: a.Final, HTTPStatus: statusOrNull(a.Status), ErrorClass: orNull(a.ErrorClass), Error: orNull(a.Error),
		StartedAt: a.StartedAt.UTC(), DurationMS: a.DurationMS, NextAttemptAt: inUTC(a.NextAttemptAt), FilterNotAsked: a.FilterNotAsked,
	}
	if a.AgentID == viewer {
		v.ResponseBody = &a.ResponseBody
	}
	return v
}

func viewAttempts(as []schemas.Attempt, viewer schemas.AgentID) []attemptView {
	vs := make([]attemptView, len(as))
	for i := range as {
		vs[i] = viewAttempt(&as[i], viewer)
	}
	return vs
}

func statusOrNull(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// A page of a log may hold fewer than were asked for, or none, and go on all the
// same: a filter is looked through a bounded number of rows at a time.
type deliveryPage struct {
	Deliveries    []deliveryView `json:"deliveries"`
	ReturnedCount int            `json:"returned_count"`
	HasMore       bool           `json:"has_more"`
	NextCursor    *logCursor     `json:"next_cursor"`
}

func (s *server) deliveries(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	q, err := query[deliveryQuery](r)
	if err != nil {
		return answer{}, err
	}
	var v deliveryPage
	err = s.ofSubscription(r, p, id, func(ctx context.Context, tx *store.Tx) error {
		ds, next, err := tx.Deliveries(ctx, q.filter(schemas.SubscriptionID(id)))
		v = deliveryPage{Deliveries: make([]deliveryView, len(ds)), ReturnedCount: len(ds), HasMore: next != nil}
		for i := range ds {
			v.Deliveries[i] = viewDelivery(&ds[i])
		}
		if next != nil {
			v.NextCursor = cursorOf(next.CreatedAt, next.ID, next.Run)
		}
		return err
	})
	return answer{data: v}, err
}

// ofSubscription reads something of a subscription that the caller may see.
func (s *server) ofSubscription(r *http.Request, p auth.Principal, id string, read func(context.Context, *store.Tx) error) error {
	return s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.Subscription(ctx, schemas.SubscriptionID(id)); err != nil {
			return err
		}
		return read(ctx, tx)
	})
}

type attemptPage struct {
	Attempts      []attemptView `json:"attempts"`
	ReturnedCount int           `json:"returned_count"`
	HasMore       bool          `json:"has_more"`
	NextCursor    *logCursor    `json:"next_cursor"`
}

func (s *server) attempts(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	q, err := query[attemptQuery](r)
	if err != nil {
		return answer{}, err
	}
	var v attemptPage
	err = s.ofSubscription(r, p, id, func(ctx context.Context, tx *store.Tx) error {
		as, next, err := tx.AttemptLog(ctx, q.filter(schemas.SubscriptionID(id)))
		v = attemptPage{Attempts: viewAttempts(as, p.Agent), ReturnedCount: len(as), HasMore: next != nil}
		if next != nil {
			v.NextCursor = cursorOf(next.StartedAt, next.ID, next.Run, int64(next.Number))
		}
		return err
	})
	return answer{data: v}, err
}

type oneDeliveryQuery struct {
	Run *int64 `json:"run" check:"min=0"`
}

type oneDelivery struct {
	deliveryView

	Runs []int64       `json:"runs"` // the newest first
	Made []attemptView `json:"attempts"`
}

// delivery shows the newest run of a delivery, or the one that is asked for.
func (s *server) delivery(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	which, err := pathID(r, "delivery_id")
	if err != nil {
		return answer{}, err
	}
	q, err := query[oneDeliveryQuery](r)
	if err != nil {
		return answer{}, err
	}
	var v oneDelivery
	err = s.ofSubscription(r, p, id, func(ctx context.Context, tx *store.Tx) error {
		runs, err := tx.Delivery(ctx, schemas.SubscriptionID(id), schemas.DeliveryID(which))
		if err != nil {
			return err
		}
		shown := -1
		for i := range runs {
			v.Runs = append(v.Runs, runs[i].Run)
			if shown < 0 && (q.Run == nil || *q.Run == runs[i].Run) {
				shown = i
			}
		}
		if shown < 0 {
			return schemas.Errorf(schemas.NotFound, "delivery_not_found", "the delivery %q has no run %d that was attempted", which, *q.Run)
		}
		as, err := tx.AttemptsOf(ctx, &runs[shown])
		v.deliveryView, v.Made = viewDelivery(&runs[shown]), viewAttempts(as, p.Agent)
		return err
	})
	return answer{data: v}, err
}
