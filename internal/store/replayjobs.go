package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// replayLock is held while a replay is taken, so that two runners do not take two
// of one subscription, each of which is the only one when it looks.
const replayLock = 7013

// ReplayJobs are the replays as their runners see them: jobs with a lease. The
// clock is the database's.
type ReplayJobs struct {
	DB *DB // in RoleJobs
}

// takeReplay prefers the first turn of what somebody waits for, a single delivery
// and a count, and else who has waited longest. To one subscription one range is sent at a time. And
// none begins before the relay has published all that was accepted before it, since
// its end in the log is fixed then.
const takeReplay = `
with next as (
  select r.id from webhook_replays r
  where r.state in ('waiting', 'running') and r.lease_until <= clock_timestamp()
    and (r.delivery_id <> '' or r.dry_run or not exists (
      select from webhook_replays o
      where o.subscription_id = r.subscription_id and o.id <> r.id and o.state = 'running' and o.delivery_id = '' and not o.dry_run))
    and (r.state = 'running' or not exists (
      select from (select created_at from outbox order by id limit 1) oldest where oldest.created_at <= r.lease_until))
  order by (r.state = 'waiting' and (r.delivery_id <> '' or r.dry_run)) desc, r.lease_until, r.run
  limit 1
  for no key update skip locked)
update webhook_replays r
set state = 'running', owner = $1, lease_until = clock_timestamp() + $2::interval, started_at = coalesce(r.started_at, clock_timestamp())
from next where r.id = next.id
returning ` + replayColumns

// Take leases a job that nobody works on; nil if there is none.
func (j ReplayJobs) Take(ctx context.Context, owner string, lease time.Duration) (*schemas.Replay, error) {
	var taken *schemas.Replay
	err := j.DB.Update(ctx, Scope{}, func(ctx context.Context, tx *Tx) error {
		tx.tx.queue("waiting for the turn to take a replay", `select pg_advisory_xact_lock($1)`, replayLock)
		rows, _ := tx.tx.Query(ctx, takeReplay, owner, lease) // CollectExactlyOneRow reports the error
		r, err := pgx.CollectExactlyOneRow(rows, scanReplay)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("taking a replay: %w", err)
		}
		taken = &r
		return nil
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// Save keeps the job's progress, less what has ended meanwhile, and renews its
// lease. It returns the subscription as it is now, or nil when the job is the
// owner's no longer: cancelled, gone with its subscription, or taken by another.
func (j ReplayJobs) Save(ctx context.Context, r *schemas.Replay, owner string, lease time.Duration) (*schemas.Subscription, error) {
	var sub *schemas.Subscription
	err := j.DB.Update(ctx, Scope{}, func(ctx context.Context, tx *Tx) error {
		ended, err := tx.ReplayOutcomes(ctx, r)
		if err != nil {
			return err
		}
		p := r.Progress
		p.Settle(ended)
		var saved time.Time
		err = tx.tx.QueryRow(ctx, `
			update webhook_replays set progress = $3, lease_until = clock_timestamp() + $4::interval, saved_at = clock_timestamp()
			where id = $1 and owner = $2 and state = 'running' returning saved_at`, string(r.ID), owner, &p, lease).Scan(&saved)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("saving the progress of %s: %w", r.ID, err)
		}
		s, err := tx.Subscription(ctx, r.SubscriptionID)
		if err != nil {
			return err
		}
		r.Progress, r.SavedAt, sub = p, schemas.Stamp(saved), &s.Subscription
		return nil
	})
	if schemas.KindOf(err) == schemas.NotFound {
		return nil, nil // deleted between two looks, and its replays with it
	}
	return sub, err
}

// Release gives a job back, for anybody to take after a pause.
func (j ReplayJobs) Release(ctx context.Context, r *schemas.Replay, owner string, pause time.Duration) error {
	return j.change(ctx, "releasing", r, `
		update webhook_replays set owner = '', lease_until = clock_timestamp() + $3::interval
		where id = $1 and owner = $2 and state = 'running'`, string(r.ID), owner, pause)
}

// Finish ends a job whose progress is saved.
func (j ReplayJobs) Finish(ctx context.Context, r *schemas.Replay, owner string, s schemas.ReplayState, why schemas.ReplayReason) error {
	return j.change(ctx, "finishing", r, `
		update webhook_replays set owner = '', state = $3, reason = $4, finished_at = clock_timestamp()
		where id = $1 and owner = $2 and state = 'running'`, string(r.ID), owner, string(s), string(why))
}

func (j ReplayJobs) change(ctx context.Context, what string, r *schemas.Replay, sql string, args ...any) error {
	return j.DB.Update(ctx, Scope{}, func(ctx context.Context, tx *Tx) error {
		if _, err := tx.tx.Exec(ctx, sql, args...); err != nil {
			return fmt.Errorf("%s the replay %s: %w", what, r.ID, err)
		}
		return nil
	})
}

// LastAttempts are those of [Tx.LastAttempts].
func (j ReplayJobs) LastAttempts(ctx context.Context, sub schemas.SubscriptionID, ids []schemas.DeliveryID) (out map[schemas.DeliveryID]schemas.Attempt, err error) {
	err = j.DB.Read(ctx, Scope{}, func(ctx context.Context, tx *Tx) error {
		out, err = tx.LastAttempts(ctx, sub, ids)
		return err
	})
	return out, err
}

// AttemptsBefore are those of [Tx.AttemptsBefore].
func (j ReplayJobs) AttemptsBefore(ctx context.Context, run int64, sub schemas.SubscriptionID, ids []schemas.DeliveryID) (out map[schemas.DeliveryID]int, err error) {
	err = j.DB.Read(ctx, Scope{}, func(ctx context.Context, tx *Tx) error {
		out, err = tx.AttemptsBefore(ctx, run, sub, ids)
		return err
	})
	return out, err
}
