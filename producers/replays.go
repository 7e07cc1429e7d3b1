package producers

import (
	"context"
	"slices"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// How many replays to one subscription may be unfinished: of ranges, which are
// sent one after the other, and of single deliveries.
const (
	maxReplays = 5
	maxRetries = 100
)

// NewReplay is the input of StartReplay.
type NewReplay struct {
	Range  schemas.ReplayRange
	DryRun bool
}

// StartReplay makes a job that sends events of the log to a subscription once
// more, or counts them.
func (p *Producer) StartReplay(ctx context.Context, s store.Scope, o *Once, id schemas.SubscriptionID, in NewReplay) (schemas.Replay, error) {
	if err := checkRange(&in.Range); err != nil {
		return schemas.Replay{}, err
	}
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (schemas.Replay, error) {
		sub, err := tx.LockSubscription(ctx, id)
		if err != nil {
			return schemas.Replay{}, err
		}
		if err := asksFor(&sub.Subscription, in.Range.EventTypes); err != nil {
			return schemas.Replay{}, err
		}
		return newReplay(ctx, tx, &sub.Subscription, schemas.Replay{Range: in.Range, DryRun: in.DryRun, Trigger: schemas.TriggerReplay})
	})
}

// RetryFailed makes a job that sends what has ended without being delivered once
// more, of the events since a moment.
func (p *Producer) RetryFailed(ctx context.Context, s store.Scope, o *Once, id schemas.SubscriptionID, since time.Time, until *time.Time) (schemas.Replay, error) {
	r := schemas.ReplayRange{Since: &since, Until: until, OnlyFailed: true}
	if err := checkRange(&r); err != nil {
		return schemas.Replay{}, err
	}
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (schemas.Replay, error) {
		sub, err := tx.LockSubscription(ctx, id)
		if err != nil {
			return schemas.Replay{}, err
		}
		return newReplay(ctx, tx, &sub.Subscription, schemas.Replay{Range: r, Trigger: schemas.TriggerManual})
	})
}

// RetryDelivery makes a job that sends one delivery once more, whatever has become
// of it. There must be an attempt: what has none is on its way.
func (p *Producer) RetryDelivery(ctx context.Context, s store.Scope, o *Once, id schemas.SubscriptionID, delivery schemas.DeliveryID) (schemas.Replay, error) {
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (schemas.Replay, error) {
		sub, err := tx.LockSubscription(ctx, id)
		if err != nil {
			return schemas.Replay{}, err
		}
		as, err := tx.Attempts(ctx, []schemas.DeliveryID{delivery})
		if err != nil {
			return schemas.Replay{}, err
		}
		as = slices.DeleteFunc(as, func(a schemas.Attempt) bool { return a.SubscriptionID != id })
		switch {
		case len(as) == 0:
			return schemas.Replay{}, schemas.Errorf(schemas.NotFound, "delivery_not_found", "there is no delivery %q to this webhook subscription, or no attempt of it yet", delivery)
		case as[0].BookingID == "":
			return schemas.Replay{}, schemas.Errorf(schemas.Conflict, "not_in_the_log", "this delivery was not of a booking's event; only those can be sent again")
		}
		r := schemas.ReplayRange{DeliveryID: delivery, BookingID: as[0].BookingID}
		if as[0].Run == 0 { // the event's own run was made when the event occurred
			r.Since = &as[0].DeliveryCreatedAt
		}
		return newReplay(ctx, tx, &sub.Subscription, schemas.Replay{Range: r, Trigger: schemas.TriggerManual})
	})
}

// CancelReplay ends a replay; one that has ended already stays as it is. What is
// on its way may still arrive.
func (p *Producer) CancelReplay(ctx context.Context, s store.Scope, id schemas.SubscriptionID, replay schemas.ReplayID) (schemas.Replay, error) {
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (schemas.Replay, error) {
		if _, err := tx.Subscription(ctx, id); err != nil {
			return schemas.Replay{}, err
		}
		return tx.CancelReplay(ctx, id, replay)
	})
}

// newReplay writes the job. The lock on its subscription makes the count true and
// the run, microseconds of the clock, its own.
func newReplay(ctx context.Context, tx *store.Tx, sub *schemas.Subscription, r schemas.Replay) (schemas.Replay, error) {
	if !sub.Active && !r.DryRun {
		return r, schemas.Errorf(schemas.Conflict, "subscription_disabled", "this webhook subscription is disabled; enable it first")
	}
	ranges, singles, err := tx.UnfinishedReplays(ctx, sub.ID)
	if err != nil {
		return r, err
	}
	unfinished, most := ranges, maxReplays
	if r.Range.Single() {
		unfinished, most = singles, maxRetries
	}
	if unfinished >= most {
		return r, schemas.Errorf(schemas.Conflict, "too_many_replays",
			"%d replays to this webhook subscription have not ended; wait for one, or cancel one", unfinished)
	}
	r.CreatedAt = schemas.Stamp(time.Now())
	r.ID, r.AgentID, r.SubscriptionID, r.Run = schemas.NewReplayID(), sub.AgentID, sub.ID, r.CreatedAt.UnixMicro()
	r.State, r.SavedAt = schemas.ReplayWaiting, r.CreatedAt
	return r, tx.InsertReplay(ctx, &r)
}

// checkRange refuses what would be the whole log by mistake, and what can match
// nothing.
func checkRange(r *schemas.ReplayRange) error {
	for _, t := range []**time.Time{&r.Since, &r.Until} {
		if *t != nil {
			stamped := schemas.Stamp(**t)
			*t = &stamped
		}
	}
	switch {
	case r.Since == nil && r.BookingID == "":
		return schemas.Refuse(schemas.Rule, "no_range", "since", "required", "say since when, or which booking")
	case r.Since != nil && r.Until != nil && !r.Since.Before(*r.Until):
		return schemas.Refuse(schemas.Rule, "empty_range", "until", "order", "until must be after since")
	case r.Since != nil && r.Since.After(time.Now()):
		return schemas.Refuse(schemas.Rule, "empty_range", "since", "order", "since must not be in the future")
	}
	return nil
}

// asksFor refuses types that the subscription would never be sent.
func asksFor(sub *schemas.Subscription, types []schemas.EventType) error {
	bad, valid := []schemas.EventType{}, []schemas.EventType{}
	for _, e := range sub.Events {
		if slices.Contains(schemas.BookingEventTypes(), e) {
			valid = append(valid, e)
		}
	}
	for _, e := range types {
		if !slices.Contains(valid, e) {
			bad = append(bad, e)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	e := schemas.Refuse(schemas.Rule, "invalid_events", "event_types", "enum", "this webhook subscription does not ask for %v", bad)
	e.Extra = map[string]any{"invalid_events": bad, "valid_events": valid}
	return e
}
