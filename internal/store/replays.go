package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

const replayColumns = `
r.id, r.agent_id, r.subscription_id, r.run, r.trigger, r.dry_run, r.since, r.until, r.booking_id, r.event_types, r.only_failed,
r.delivery_id, r.state, r.reason, r.progress, r.created_at, r.started_at, r.finished_at, r.saved_at`

func scanReplay(row pgx.CollectableRow) (schemas.Replay, error) {
	var r schemas.Replay
	err := row.Scan(&r.ID, &r.AgentID, &r.SubscriptionID, &r.Run, &r.Trigger, &r.DryRun, &r.Range.Since, &r.Range.Until, &r.Range.BookingID,
		&r.Range.EventTypes, &r.Range.OnlyFailed, &r.Range.DeliveryID, &r.State, &r.Reason, &r.Progress, &r.CreatedAt, &r.StartedAt, &r.FinishedAt, &r.SavedAt)
	for _, t := range []*time.Time{r.Range.Since, r.Range.Until, &r.CreatedAt, r.StartedAt, r.FinishedAt, &r.SavedAt} {
		if t != nil {
			*t = schemas.Stamp(*t)
		}
	}
	return r, err
}

// InsertReplay writes a new one that waits for a runner. Its subscription must be
// locked by this transaction.
func (t *Tx) InsertReplay(ctx context.Context, r *schemas.Replay) error {
	_, err := t.tx.Exec(ctx, `
		insert into webhook_replays (id, agent_id, subscription_id, run, trigger, dry_run, since, until, booking_id, event_types, only_failed,
		  delivery_id, lease_until, created_at, saved_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, clock_timestamp(), $13, $13)`,
		string(r.ID), string(r.AgentID), string(r.SubscriptionID), r.Run, string(r.Trigger), r.DryRun, r.Range.Since, r.Range.Until,
		string(r.Range.BookingID), texts(r.Range.EventTypes), r.Range.OnlyFailed, string(r.Range.DeliveryID), r.CreatedAt)
	if err != nil {
		return fmt.Errorf("inserting the replay %s: %w", r.ID, err)
	}
	return nil
}

// UnfinishedReplays counts those of a subscription, of a range and of one delivery.
func (t *Tx) UnfinishedReplays(ctx context.Context, id schemas.SubscriptionID) (ranges, singles int, err error) {
	err = t.tx.QueryRow(ctx, `
		select count(*) filter (where delivery_id = ''), count(*) filter (where delivery_id <> '')
		from webhook_replays where subscription_id = $1 and state in ('waiting', 'running')`, string(id)).Scan(&ranges, &singles)
	if err != nil {
		return 0, 0, fmt.Errorf("counting the replays to %s: %w", id, err)
	}
	return ranges, singles, nil
}

// Replay is one of a subscription that the scope may see.
func (t *Tx) Replay(ctx context.Context, sub schemas.SubscriptionID, id schemas.ReplayID) (schemas.Replay, error) {
	return t.oneReplay(ctx, sub, id, `select `+replayColumns+` from webhook_replays r where r.id = $1 and r.subscription_id = $2`)
}

// CancelReplay ends one that has not ended, and returns it as it is then.
func (t *Tx) CancelReplay(ctx context.Context, sub schemas.SubscriptionID, id schemas.ReplayID) (schemas.Replay, error) {
	_, err := t.tx.Exec(ctx, `
		update webhook_replays set state = 'cancelled', finished_at = now()
		where id = $1 and subscription_id = $2 and state in ('waiting', 'running')`, string(id), string(sub))
	if err != nil {
		return schemas.Replay{}, fmt.Errorf("cancelling the replay %s: %w", id, err)
	}
	return t.Replay(ctx, sub, id)
}

func (t *Tx) oneReplay(ctx context.Context, sub schemas.SubscriptionID, id schemas.ReplayID, sql string) (schemas.Replay, error) {
	rows, _ := t.tx.Query(ctx, sql, string(id), string(sub)) // CollectExactlyOneRow reports the error
	r, err := pgx.CollectExactlyOneRow(rows, scanReplay)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return r, schemas.Errorf(schemas.NotFound, "replay_not_found", "there is no replay %q to this webhook subscription", id)
	case err != nil:
		return r, fmt.Errorf("reading the replay %s: %w", id, err)
	}
	return r, nil
}

// Replays lists those of a subscription, the newest first, and counts them.
func (t *Tx) Replays(ctx context.Context, sub schemas.SubscriptionID, limit, offset int) ([]schemas.Replay, int, error) {
	var total int
	err := t.tx.QueryRow(ctx, `select count(*) from webhook_replays where subscription_id = $1`, string(sub)).Scan(&total)
	if err != nil {
		return nil, 0, fmt.Errorf("counting the replays to %s: %w", sub, err)
	}
	rows, _ := t.tx.Query(ctx, `select `+replayColumns+` from webhook_replays r where r.subscription_id = $1
		order by r.created_at desc, r.id desc limit $2 offset $3`, string(sub), limit, offset) // CollectRows reports the error
	rs, err := pgx.CollectRows(rows, scanReplay)
	if err != nil {
		return nil, 0, fmt.Errorf("listing the replays to %s: %w", sub, err)
	}
	return rs, total, nil
}

// ReplayOutcomes tells which of a replay's deliveries have ended, and how. It asks
// for no more than those that wait, by their key, however large the log is.
func (t *Tx) ReplayOutcomes(ctx context.Context, r *schemas.Replay) (map[schemas.DeliveryID]schemas.Outcome, error) {
	if len(r.Progress.Waiting) == 0 {
		return nil, nil
	}
	rows, err := t.tx.Query(ctx, `
		select delivery_id, outcome from webhook_attempts where delivery_id = any($1) and run = $2 and final and subscription_id = $3`,
		texts(r.Progress.Waiting), r.Run, string(r.SubscriptionID))
	if err != nil {
		return nil, fmt.Errorf("reading what became of the replay %s: %w", r.ID, err)
	}
	out := map[schemas.DeliveryID]schemas.Outcome{}
	var (
		id      schemas.DeliveryID
		outcome schemas.Outcome
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &outcome}, func() error {
		out[id] = outcome
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading what became of the replay %s: %w", r.ID, err)
	}
	return out, nil
}

// LastAttempts are the newest attempt of each delivery of a subscription, of its
// newest run. Those without an attempt are not among them.
func (t *Tx) LastAttempts(ctx context.Context, sub schemas.SubscriptionID, ids []schemas.DeliveryID) (map[schemas.DeliveryID]schemas.Attempt, error) {
	rows, _ := t.tx.Query(ctx, `
		select distinct on (delivery_id) `+attemptColumnNames+`
		from webhook_attempts where delivery_id = any($1) and subscription_id = $2
		order by delivery_id, run desc, number desc`, texts(ids), string(sub)) // CollectRows reports the error
	as, err := pgx.CollectRows(rows, pgx.RowToStructByPos[schemas.Attempt])
	if err != nil {
		return nil, fmt.Errorf("reading the last attempts of %d deliveries: %w", len(ids), err)
	}
	out := make(map[schemas.DeliveryID]schemas.Attempt, len(as))
	for i := range as {
		out[as[i].DeliveryID] = as[i]
	}
	return out, nil
}

// AttemptsBefore counts the POSTs that other runs than the given one have made of a
// subscription's deliveries. Those without one are not among them, nor are those
// whose attempts are older than the log.
func (t *Tx) AttemptsBefore(ctx context.Context, run int64, sub schemas.SubscriptionID, ids []schemas.DeliveryID) (map[schemas.DeliveryID]int, error) {
	out := map[schemas.DeliveryID]int{}
	var (
		id schemas.DeliveryID
		n  int
	)
	rows, err := t.tx.Query(ctx, `
		select delivery_id, count(*) from webhook_attempts
		where delivery_id = any($1) and run <> $2 and subscription_id = $3 and duration_ms > 0 group by delivery_id`, texts(ids), run, string(sub))
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
			out[id] = n
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("counting the attempts of %d deliveries: %w", len(ids), err)
	}
	return out, nil
}

// PurgeReplays forgets what finished before the given age; it needs RoleJobs.
func (t *Tx) PurgeReplays(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := t.tx.Exec(ctx, `delete from webhook_replays where finished_at < now() - $1::interval`, olderThan)
	if err != nil {
		return 0, fmt.Errorf("purging replays: %w", err)
	}
	return tag.RowsAffected(), nil
}
