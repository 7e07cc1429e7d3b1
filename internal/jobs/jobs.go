// Package jobs is what runs on a schedule. Each job is one transaction that may
// run twice or in several replicas at once without harm.
package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/krib-ai/krib/internal/store"
)

// Options of a Runner. All are required.
type Options struct {
	DB     *store.DB // in RoleJobs
	Logger *slog.Logger
	// FeedRetention is how long host.notifications remembers a record.
	FeedRetention time.Duration
}

// A Runner runs the jobs.
type Runner struct {
	o Options
}

// New makes a Runner; Run works.
func New(o Options) *Runner { return &Runner{o} }

const (
	// every is how often each job runs, the first time at once.
	every = 2 * time.Hour
	// answersKept is how long an Idempotency-Key is honoured.
	answersKept = 24 * time.Hour
)

// Run runs each job until ctx ends. A job that fails is logged and tried at the
// next turn.
func (r *Runner) Run(ctx context.Context) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		r.Once(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Once runs each job one time.
func (r *Runner) Once(ctx context.Context, now time.Time) {
	r.do(ctx, "purge_idempotency_keys", func(ctx context.Context, tx *store.Tx) (int64, error) {
		return tx.PurgeIdempotency(ctx, answersKept)
	})
	r.do(ctx, "purge_notifications", func(ctx context.Context, tx *store.Tx) (int64, error) {
		return tx.PurgeNotifications(ctx, r.o.FeedRetention+24*time.Hour)
	})
	r.do(ctx, "make_attempt_partitions", func(ctx context.Context, tx *store.Tx) (int64, error) {
		return 0, tx.EnsureAttemptPartitions(ctx, now)
	})
}

func (r *Runner) do(ctx context.Context, name string, job func(context.Context, *store.Tx) (int64, error)) {
	var n int64
	err := r.o.DB.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		var err error
		n, err = job(ctx, tx)
		return err
	})
	switch {
	case err != nil && ctx.Err() == nil:
		r.o.Logger.WarnContext(ctx, "a job failed; it runs again at its next turn", slog.String("job", name), slog.Any("error", err))
	case n > 0:
		r.o.Logger.InfoContext(ctx, "a job has run", slog.String("job", name), slog.Int64("rows", n))
	}
}
