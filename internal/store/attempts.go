package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// insertAttempts is one statement for the batch: a round trip for each record
// would set the pace of the sink. The conflict arm makes a replay after a crash
// harmless, and what is returned is what was new.
const insertAttempts = `
insert into webhook_attempts (delivery_id, run, number, event_id, event_type, subscription_id, agent_id, booking_id,
  trigger, started_at, duration_ms, outcome, final, status, error_class, error, response_body, next_attempt_at,
  delivery_created_at)
select * from unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::text[], $10::timestamptz[], $11::bigint[], $12::text[], $13::bool[], $14::int[], $15::text[], $16::text[],
  $17::text[], $18::timestamptz[], $19::timestamptz[])
on conflict do nothing
returning delivery_id, run, number`

// AttemptKey names one attempt.
type AttemptKey struct {
	Delivery schemas.DeliveryID
	Run      int64
	Number   int
}

// InsertAttempts writes a batch and returns the keys of those that were not
// there yet.
func (t *Tx) InsertAttempts(ctx context.Context, as []schemas.Attempt) (map[AttemptKey]bool, error) {
	var c attemptColumns
	for i := range as {
		c.add(&as[i])
	}
	rows, _ := t.tx.Query(ctx, insertAttempts, c.delivery, c.run, c.number, c.event, c.eventType, c.subscription, c.agent, c.booking,
		c.trigger, c.started, c.duration, c.outcome, c.final, c.status, c.class, c.err, c.body, c.next, c.created) // CollectRows reports the error
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[AttemptKey])
	if err != nil {
		return nil, fmt.Errorf("inserting %d attempts: %w", len(as), err)
	}
	fresh := make(map[AttemptKey]bool, len(keys))
	for _, k := range keys {
		fresh[k] = true
	}
	return fresh, nil
}

type attemptColumns struct {
	delivery, event, eventType, subscription, agent, booking []string
	trigger, outcome, class, err, body                       []string
	run, duration                                            []int64
	number, status                                           []int32
	started, created                                         []time.Time
	next                                                     []*time.Time
	final                                                    []bool
}

func (c *attemptColumns) add(a *schemas.Attempt) {
	c.delivery = append(c.delivery, string(a.DeliveryID))
	c.run = append(c.run, a.Run)
	c.number = append(c.number, int32(a.Number))
	c.event = append(c.event, string(a.EventID))
	c.eventType = append(c.eventType, string(a.EventType))
	c.subscription = append(c.subscription, string(a.SubscriptionID))
	c.agent = append(c.agent, string(a.AgentID))
	c.booking = append(c.booking, string(a.BookingID))
	c.trigger = append(c.trigger, string(a.Trigger))
	c.started = append(c.started, a.StartedAt)
	c.duration = append(c.duration, a.DurationMS)
	c.outcome = append(c.outcome, string(a.Outcome))
	c.final = append(c.final, a.Final)
	c.status = append(c.status, int32(a.Status))
	c.class = append(c.class, string(a.ErrorClass))
	c.err = append(c.err, a.Error)
	c.body = append(c.body, a.ResponseBody)
	c.next = append(c.next, a.NextAttemptAt)
	c.created = append(c.created, a.DeliveryCreatedAt)
}

// Attempts are those of the deliveries, in order of their numbers.
func (t *Tx) Attempts(ctx context.Context, deliveries []schemas.DeliveryID) ([]schemas.Attempt, error) {
	rows, _ := t.tx.Query(ctx, `
		select delivery_id, event_id, event_type, subscription_id, agent_id, booking_id, run, number, trigger, started_at,
		  duration_ms, outcome, final, status, error_class, error, response_body, next_attempt_at, delivery_created_at
		from webhook_attempts where delivery_id = any($1) order by delivery_id, run, number`, texts(deliveries)) // CollectRows reports the error
	as, err := pgx.CollectRows(rows, pgx.RowToStructByPos[schemas.Attempt])
	if err != nil {
		return nil, fmt.Errorf("reading attempts: %w", err)
	}
	return as, nil
}

// EnsureAttemptPartitions makes the partitions of this month and the next.
func (t *Tx) EnsureAttemptPartitions(ctx context.Context, at time.Time) error {
	if _, err := t.tx.Exec(ctx, `select krib_attempt_partitions($1)`, at); err != nil {
		return fmt.Errorf("making attempt partitions: %w", err)
	}
	return nil
}

// A HealthFold is what a batch of attempts says about one subscription.
type HealthFold struct {
	ID schemas.SubscriptionID
	// LastSuccess is the newest success of the batch, if any; Exhausted counts the
	// deliveries that ran out after it, Failures the failed attempts after it.
	LastSuccess         *time.Time
	Exhausted, Failures int
	FirstFailure        *time.Time
}

// Health is a subscription's health after a fold.
type Health struct {
	FailedAttempts, FailuresSinceSuccess int
	FirstFailureAt                       *time.Time
	MaxFailedAttempts                    int
	EnabledAt                            time.Time
	Active                               bool
	// ToldFailing says that its owner was told that it fails, and nothing since.
	ToldFailing bool
}

// FoldHealth adds a batch to a subscription's health: a success resets it, then
// what came after counts. It is false if the subscription is gone.
func (t *Tx) FoldHealth(ctx context.Context, f HealthFold) (Health, bool, error) {
	rows, _ := t.tx.Query(ctx, `
		update webhook_health h set
		  failed_attempts = case when $2::timestamptz is null then h.failed_attempts else 0 end + $3,
		  failures_since_success = case when $2::timestamptz is null then h.failures_since_success else 0 end + $4,
		  first_failure_at = coalesce(case when $2::timestamptz is null then h.first_failure_at end, $5),
		  last_successful_call = greatest(h.last_successful_call, $2)
		from webhook_subscriptions s
		where h.subscription_id = $1 and s.id = h.subscription_id
		returning h.failed_attempts, h.failures_since_success, h.first_failure_at, s.max_failed_attempts, s.enabled_at, s.is_active, h.told_failing`,
		string(f.ID), f.LastSuccess, f.Exhausted, f.Failures, f.FirstFailure) // CollectRows reports the error
	hs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Health])
	if err != nil {
		return Health{}, false, fmt.Errorf("folding the health of %s: %w", f.ID, err)
	}
	if len(hs) == 0 {
		return Health{}, false, nil
	}
	return hs[0], true, nil
}

// EnabledSince tells, for those subscriptions that exist, since when. It locks
// them, in the order of ids: whoever touches a subscription's health holds the
// subscription first, as its deletion does.
func (t *Tx) EnabledSince(ctx context.Context, ids []schemas.SubscriptionID) (map[schemas.SubscriptionID]time.Time, error) {
	rows, err := t.tx.Query(ctx, `
		select id, enabled_at from webhook_subscriptions where id = any($1) order by id for no key update`, texts(ids))
	if err != nil {
		return nil, fmt.Errorf("reading when subscriptions were enabled: %w", err)
	}
	out := map[schemas.SubscriptionID]time.Time{}
	var (
		id schemas.SubscriptionID
		at time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		out[id] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading when subscriptions were enabled: %w", err)
	}
	return out, nil
}

// ResetHealth starts a subscription's counts anew, when it is switched on or off.
func (t *Tx) ResetHealth(ctx context.Context, id schemas.SubscriptionID) error {
	_, err := t.tx.Exec(ctx, `
		update webhook_health set failed_attempts = 0, failures_since_success = 0, first_failure_at = null, told_failing = false
		where subscription_id = $1`, string(id))
	if err != nil {
		return fmt.Errorf("resetting the health of %s: %w", id, err)
	}
	return nil
}

// NoteTold remembers whether the owner was told that a subscription fails.
func (t *Tx) NoteTold(ctx context.Context, id schemas.SubscriptionID, failing bool) error {
	if _, err := t.tx.Exec(ctx, `update webhook_health set told_failing = $2 where subscription_id = $1`, string(id), failing); err != nil {
		return fmt.Errorf("noting what the owner of %s was told: %w", id, err)
	}
	return nil
}
