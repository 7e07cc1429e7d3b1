package store

import (
	"context"
	"fmt"
	"time"
)

// jobLocks is the space of the jobs' advisory locks; it means nothing else.
const jobLocks = 7012

// ClaimJob says whether a job is due and this transaction's to do: nobody has run
// it for the time of every, and nobody is running it now. If the transaction does
// not commit, the job is due as before. It never waits. It needs RoleJobs.
func (t *Tx) ClaimJob(ctx context.Context, job string, now time.Time, every time.Duration) (bool, error) {
	tag, err := t.tx.Exec(ctx, `
		insert into job_runs (job, ran_at) select $1, $2::timestamptz where pg_try_advisory_xact_lock($4, hashtext($1))
		on conflict (job) do update set ran_at = excluded.ran_at where job_runs.ran_at <= excluded.ran_at - $3::interval`,
		job, now, every, jobLocks)
	if err != nil {
		return false, fmt.Errorf("claiming the job %s: %w", job, err)
	}
	return tag.RowsAffected() == 1, nil
}

// PurgeStripeEvents forgets events older than the given age, which must be more
// than Stripe goes on sending one for (three days). A payment stays known by its
// reference. It needs RoleJobs.
func (t *Tx) PurgeStripeEvents(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := t.tx.Exec(ctx, `delete from stripe_events where received_at < now() - $1::interval`, olderThan)
	if err != nil {
		return 0, fmt.Errorf("purging Stripe's events: %w", err)
	}
	// So are refunds whose payment has never come: another system's at the same account.
	lost, err := t.tx.Exec(ctx, `delete from stripe_refunds r where received_at < now() - $1::interval and not exists (
		select from payments p where p.provider = 'stripe' and coalesce(p.provider_reference, p.reference) = r.payment)`, olderThan)
	if err != nil {
		return 0, fmt.Errorf("purging refunds at Stripe: %w", err)
	}
	return tag.RowsAffected() + lost.RowsAffected(), nil
}

// ExpireNotifications takes up to limit notifications that have run out from
// their hosts' inboxes and says how many. They were hidden before; this lets their
// rows leave the indexes of what is live. It needs RoleJobs.
func (t *Tx) ExpireNotifications(ctx context.Context, limit int) (n int64, err error) {
	if err := t.tx.QueryRow(ctx, `select cleanup_expired_notifications($1)`, limit).Scan(&n); err != nil {
		return 0, fmt.Errorf("expiring notifications: %w", err)
	}
	return n, nil
}

// DisableFailedSubscriptions switches up to limit subscriptions off that ran out
// of the ladder too often, or have failed for the time of after and often enough.
// They are among [Tx.UnpublishedSubscriptions] then. It needs RoleJobs.
func (t *Tx) DisableFailedSubscriptions(ctx context.Context, after time.Duration, limit int) error {
	if _, err := t.tx.Exec(ctx, `select disable_failed_webhook_subscriptions($1::interval, $2)`, after, limit); err != nil {
		return fmt.Errorf("disabling what has failed: %w", err)
	}
	return nil
}

// DropAttemptPartitions drops the months of attempts that ended before a moment
// and says how many. It needs RoleJobs.
func (t *Tx) DropAttemptPartitions(ctx context.Context, before time.Time) (n int64, err error) {
	if err := t.tx.QueryRow(ctx, `select krib_drop_attempt_partitions($1)`, before).Scan(&n); err != nil {
		return 0, fmt.Errorf("dropping attempt partitions: %w", err)
	}
	return n, nil
}
