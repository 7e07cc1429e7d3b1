package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// insertAttempts is one statement for the batch: a round trip for each record
// would set the pace of the sink. What is returned is what was new; what was there
// is left for replaceAttempts to look at.
//
// What was new is folded into the rows of its deliveries, so that the two always
// agree. Attempts may come in any order, as they do after a rebalance: the highest
// number says how the delivery stands, and one success says it for good, since a
// repeat after a crash may fail where the first request was taken. The rows are
// written in one order by all, so that two sinks cannot deadlock.
const insertAttempts = `
with fresh as (
  insert into webhook_attempts (delivery_id, run, number, event_id, event_type, subscription_id, agent_id, booking_id,
    trigger, started_at, duration_ms, outcome, final, status, error_class, error, response_body, next_attempt_at,
    delivery_created_at, filter_not_asked)
  select * from unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::timestamptz[], $11::bigint[], $12::text[], $13::bool[], $14::int[], $15::text[], $16::text[],
    $17::text[], $18::timestamptz[], $19::timestamptz[], $20::bool[]) order by 1, 2, 3
  on conflict do nothing
  returning *), folded as (
  insert into webhook_deliveries as d (delivery_id, run, created_at, subscription_id, agent_id, event_id, event_type, booking_id,
    trigger, state, attempts, last_number, status, error_class, next_attempt_at, first_attempt_at, last_attempt_at)
  select distinct on (delivery_id, run, delivery_created_at) delivery_id, run, delivery_created_at, subscription_id, agent_id, event_id,
    event_type, booking_id, first_value(trigger) over w,
    case when bool_or(outcome = 'delivered') over w then 'delivered' when outcome = 'retry' then 'waiting' else outcome end,
    count(*) over w, number, status, error_class, next_attempt_at, min(started_at) over w, max(started_at) over w
  from fresh
  window w as (partition by delivery_id, run, delivery_created_at order by number rows between unbounded preceding and unbounded following)
  order by delivery_id, run, delivery_created_at, number desc
  on conflict (delivery_id, run, created_at) do update set
    trigger = case when d.trigger = 'retry' then excluded.trigger else d.trigger end,
    state = case when 'delivered' in (d.state, excluded.state) then 'delivered'
      when excluded.last_number > d.last_number then excluded.state else d.state end,
    attempts = d.attempts + excluded.attempts,
    status = case when excluded.last_number > d.last_number then excluded.status else d.status end,
    error_class = case when excluded.last_number > d.last_number then excluded.error_class else d.error_class end,
    next_attempt_at = case when excluded.last_number > d.last_number then excluded.next_attempt_at else d.next_attempt_at end,
    last_number = greatest(d.last_number, excluded.last_number),
    first_attempt_at = least(d.first_attempt_at, excluded.first_attempt_at),
    last_attempt_at = greatest(d.last_attempt_at, excluded.last_attempt_at))
select delivery_id, run, number from fresh`

// heldAttempts are the rows of attempts that are there, locked in the order in which
// all sinks write them.
const heldAttempts = `
select ` + attemptColumnNames + ` from webhook_attempts
join unnest($1::text[], $2::bigint[], $3::int[], $4::timestamptz[]) as v (delivery_id, run, number, delivery_created_at)
  using (delivery_id, run, number, delivery_created_at)
order by 1, 7, 8 for update of webhook_attempts`

// replaceAttempts puts others in the place of rows that are there, and lets those
// say how the delivery stands, as far as the rows did that.
const replaceAttempts = `
with replaced as (
  update webhook_attempts a set trigger = v.trigger, started_at = v.started_at, duration_ms = v.duration_ms, outcome = v.outcome,
    final = v.final, status = v.status, error_class = v.error_class, error = v.error, response_body = v.response_body,
    next_attempt_at = v.next_attempt_at
  from unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::timestamptz[], $11::bigint[], $12::text[], $13::bool[], $14::int[], $15::text[], $16::text[],
    $17::text[], $18::timestamptz[], $19::timestamptz[], $20::bool[])
    as v (delivery_id, run, number, event_id, event_type, subscription_id, agent_id, booking_id, trigger, started_at, duration_ms,
    outcome, final, status, error_class, error, response_body, next_attempt_at, delivery_created_at, filter_not_asked)
  where a.delivery_id = v.delivery_id and a.run = v.run and a.number = v.number and a.delivery_created_at = v.delivery_created_at
  returning a.*), last as (
  select distinct on (delivery_id, run, delivery_created_at) *, bool_or(outcome = 'delivered') over w as taken, max(started_at) over w as newest
  from replaced
  window w as (partition by delivery_id, run, delivery_created_at)
  order by delivery_id, run, delivery_created_at, number desc)
update webhook_deliveries d set
  state = case when d.state = 'delivered' or l.taken then 'delivered' when l.number = d.last_number then l.outcome else d.state end,
  status = case when l.number = d.last_number then l.status else d.status end,
  error_class = case when l.number = d.last_number then l.error_class else d.error_class end,
  next_attempt_at = case when l.number = d.last_number then l.next_attempt_at else d.next_attempt_at end,
  last_attempt_at = greatest(d.last_attempt_at, l.newest)
from last l
where d.delivery_id = l.delivery_id and d.run = l.run and d.created_at = l.delivery_created_at`

// A Written attempt is a row now, and was none before, or was one that said less.
type Written struct {
	schemas.Attempt
	Instead *schemas.Attempt // nil if there was none
}

type attemptKey struct {
	Delivery schemas.DeliveryID
	Run      int64
	Number   int
}

func keyOf(a *schemas.Attempt) attemptKey { return attemptKey{a.DeliveryID, a.Run, a.Number} }

// InsertAttempts writes a batch, folds what is new of it into its deliveries' rows,
// and returns that, in no particular order. Of an attempt that is there already, or
// twice in the batch, what outweighs the other stays. So a batch that is written
// again changes nothing.
func (t *Tx) InsertAttempts(ctx context.Context, as []schemas.Attempt) ([]Written, error) {
	as = weightiest(as)
	rows, _ := t.tx.Query(ctx, insertAttempts, columnsOf(as).arguments()...) // CollectRows reports the error
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[attemptKey])
	if err != nil {
		return nil, fmt.Errorf("inserting %d attempts: %w", len(as), err)
	}
	fresh := make(map[attemptKey]bool, len(keys))
	for _, k := range keys {
		fresh[k] = true
	}
	out := make([]Written, 0, len(as))
	var known []schemas.Attempt
	for i := range as {
		if fresh[keyOf(&as[i])] {
			out = append(out, Written{Attempt: as[i]})
		} else {
			known = append(known, as[i])
		}
	}
	if len(known) == 0 {
		return out, nil
	}
	replaced, err := t.replaceAttempts(ctx, known)
	return append(out, replaced...), err
}

// replaceAttempts writes those of the attempts that outweigh the rows that are there.
func (t *Tx) replaceAttempts(ctx context.Context, as []schemas.Attempt) ([]Written, error) {
	c := columnsOf(as)
	rows, _ := t.tx.Query(ctx, heldAttempts, c.delivery, c.run, c.number, c.created) // CollectRows reports the error
	held, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[schemas.Attempt])
	if err != nil {
		return nil, fmt.Errorf("reading %d attempts that are there: %w", len(as), err)
	}
	there := make(map[attemptKey]*schemas.Attempt, len(held))
	for _, a := range held {
		there[keyOf(a)] = a
	}
	var (
		out  []Written
		more []schemas.Attempt
	)
	for i := range as {
		a := &as[i]
		if old := there[keyOf(a)]; old != nil && a.Outweighs(old) {
			out, more = append(out, Written{*a, old}), append(more, *a)
		}
	}
	if len(more) == 0 {
		return nil, nil
	}
	if _, err := t.tx.Exec(ctx, replaceAttempts, columnsOf(more).arguments()...); err != nil {
		return nil, fmt.Errorf("replacing %d attempts: %w", len(more), err)
	}
	return out, nil
}

// weightiest are the attempts, each once.
func weightiest(as []schemas.Attempt) []schemas.Attempt {
	at := make(map[attemptKey]int, len(as))
	out := make([]schemas.Attempt, 0, len(as))
	for i := range as {
		k := keyOf(&as[i])
		switch n, again := at[k]; {
		case !again:
			at[k] = len(out)
			out = append(out, as[i])
		case as[i].Outweighs(&out[n]):
			out[n] = as[i]
		}
	}
	return out
}

type attemptColumns struct {
	delivery, event, eventType, subscription, agent, booking []string
	trigger, outcome, class, err, body                       []string
	run, duration                                            []int64
	number, status                                           []int32
	started, created                                         []time.Time
	next                                                     []*time.Time
	final, notAsked                                          []bool
}

func columnsOf(as []schemas.Attempt) *attemptColumns {
	var c attemptColumns
	for i := range as {
		c.add(&as[i])
	}
	return &c
}

// arguments are the columns in the order of insertAttempts and replaceAttempts.
func (c *attemptColumns) arguments() []any {
	return []any{
		c.delivery, c.run, c.number, c.event, c.eventType, c.subscription, c.agent, c.booking, c.trigger, c.started, c.duration,
		c.outcome, c.final, c.status, c.class, c.err, c.body, c.next, c.created, c.notAsked,
	}
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
	c.notAsked = append(c.notAsked, a.FilterNotAsked)
	c.status = append(c.status, int32(a.Status))
	c.class = append(c.class, string(a.ErrorClass))
	c.err = append(c.err, a.Error)
	c.body = append(c.body, a.ResponseBody)
	c.next = append(c.next, a.NextAttemptAt)
	c.created = append(c.created, a.DeliveryCreatedAt)
}

const attemptColumnNames = `delivery_id, event_id, event_type, subscription_id, agent_id, booking_id, run, number, trigger, started_at,
  duration_ms, outcome, final, status, error_class, error, response_body, next_attempt_at, delivery_created_at, filter_not_asked`

// Attempts are those of the deliveries, in order of their numbers.
func (t *Tx) Attempts(ctx context.Context, deliveries []schemas.DeliveryID) ([]schemas.Attempt, error) {
	rows, _ := t.tx.Query(ctx, `select `+attemptColumnNames+` from webhook_attempts where delivery_id = any($1) order by delivery_id, run, number`, texts(deliveries)) // CollectRows reports the error
	as, err := pgx.CollectRows(rows, pgx.RowToStructByPos[schemas.Attempt])
	if err != nil {
		return nil, fmt.Errorf("reading attempts: %w", err)
	}
	return as, nil
}

// EnsureAttemptPartitions makes the partitions of this month and the next, for
// attempts and for deliveries.
func (t *Tx) EnsureAttemptPartitions(ctx context.Context, at time.Time) error {
	if _, err := t.tx.Exec(ctx, `select krib_attempt_partitions($1), krib_delivery_partitions($1)`, at); err != nil {
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
