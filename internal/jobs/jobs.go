// Package jobs is what runs on a schedule. Every replica runs the same Runner and
// the database decides who works: a scheduled job runs once in the cluster in each
// of its turns, and requests that are due are shared out by row locks.
package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
)

// Options of a Runner. DB and Logger are required.
type Options struct {
	DB     *store.DB // in RoleJobs
	Logger *slog.Logger
	// FeedRetention is how long host.notifications remembers a record. Default 7 days.
	FeedRetention time.Duration
	// RequestsEvery is how often to look for requests that are due: so late may an
	// expiry or a reminder be. Default 2 seconds.
	RequestsEvery time.Duration
	// CleanUpEvery is how often what has expired is removed. Default 2 hours.
	CleanUpEvery time.Duration
	// DisableAfter is how long a subscription may fail without a success before it
	// is disabled, if it has failed often enough: as long as the attempts' sink says.
	// Default 5 days.
	DisableAfter time.Duration
	// AttemptsRetention is how long webhook attempts are kept, to the month. Default
	// 90 days.
	AttemptsRetention time.Duration
	// MaintenanceEvery is how often the tables are prepared for what comes. Default
	// 24 hours.
	MaintenanceEvery time.Duration
	// Wake is called after each commit that wrote to the outbox; nil for nothing.
	Wake     func()
	Registry prometheus.Registerer // nil for no metrics
}

// A Runner runs the jobs.
type Runner struct {
	o         Options
	metrics   *metrics
	scheduled []job
}

// New makes a Runner; Run works.
func New(o Options) *Runner {
	if o.Wake == nil {
		o.Wake = func() {}
	}
	for _, d := range []struct {
		set      *time.Duration
		fallback time.Duration
	}{
		{&o.FeedRetention, 7 * day},
		{&o.RequestsEvery, 2 * time.Second},
		{&o.CleanUpEvery, 2 * time.Hour},
		{&o.MaintenanceEvery, day},
		{&o.DisableAfter, 5 * day},
		{&o.AttemptsRetention, 90 * day},
	} {
		if *d.set == 0 {
			*d.set = d.fallback
		}
	}
	r := &Runner{o: o, metrics: newMetrics(o.Registry)}
	r.scheduled = r.jobs()
	return r
}

const (
	day = 24 * time.Hour
	// look is how often a replica asks whether a scheduled job is due.
	look = time.Minute
	// answersKept is how long an Idempotency-Key is honoured.
	answersKept = day
	// narrowEvery is how long a subscription may keep the sight of a key that has
	// expired; a key that is revoked takes it along at once.
	narrowEvery = 5 * time.Minute
	// stripeKept is how long an event of Stripe is known again.
	stripeKept = 30 * day
	// emailsKept is how long a mail's id is known, and so how long its row holds a
	// guest's address: longer than the sink mails what it reads again.
	emailsKept = 14 * day
	// replaysKept is how long it can be read what a replay has done.
	replaysKept = 30 * day
	// statisticsKept is longer than any span that statistics are asked for.
	statisticsKept = 35 * day
	// batch bounds a transaction: so many bookings are locked at a time, so long may
	// a host's own answer to one of them wait.
	batch = 100
	// sweep bounds a transaction that nobody waits for.
	sweep = 1000
)

// A job is one transaction, run again while it finds as much as it may take.
type job struct {
	name  string
	every time.Duration
	full  int64 // rows of a transaction that may have left some; 0 for never
	run   func(ctx context.Context, tx *store.Tx, now time.Time) (int64, error)
}

func (r *Runner) jobs() []job {
	return []job{
		{"expire_notifications", r.o.CleanUpEvery, sweep, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return tx.ExpireNotifications(ctx, sweep)
		}},
		{"disable_failed_subscriptions", r.o.CleanUpEvery, batch, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return producers.DisableFailed(ctx, tx, r.o.DisableAfter, batch)
		}},
		{"purge_notifications", r.o.CleanUpEvery, 0, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return tx.PurgeNotifications(ctx, r.o.FeedRetention+day)
		}},
		{"purge_idempotency_keys", r.o.CleanUpEvery, 0, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return tx.PurgeIdempotency(ctx, answersKept)
		}},
		{"purge_stream_tickets", r.o.CleanUpEvery, 0, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return tx.PurgeTickets(ctx)
		}},
		{"purge_stripe_events", r.o.MaintenanceEvery, 0, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return tx.PurgeStripeEvents(ctx, stripeKept)
		}},
		{"purge_emails", r.o.CleanUpEvery, 0, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return tx.PurgeEmails(ctx, max(emailsKept, r.o.FeedRetention+day))
		}},
		{"purge_replays", r.o.MaintenanceEvery, 0, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return tx.PurgeReplays(ctx, replaysKept)
		}},
		{"narrow_subscriptions", narrowEvery, 0, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return producers.NarrowSubscriptions(ctx, tx)
		}},
		{"compact_statistics", r.o.CleanUpEvery, 0, func(ctx context.Context, tx *store.Tx, now time.Time) (int64, error) {
			return tx.CompactStatistics(ctx, now)
		}},
		{"purge_statistics", r.o.MaintenanceEvery, 0, func(ctx context.Context, tx *store.Tx, now time.Time) (int64, error) {
			return tx.PurgeStatistics(ctx, now.Add(-statisticsKept))
		}},
		{"drop_delivery_partitions", r.o.MaintenanceEvery, 0, func(ctx context.Context, tx *store.Tx, _ time.Time) (int64, error) {
			return tx.DropDeliveryPartitions(ctx)
		}},
		{"make_attempt_partitions", r.o.MaintenanceEvery, 0, func(ctx context.Context, tx *store.Tx, now time.Time) (int64, error) {
			return 0, tx.EnsureAttemptPartitions(ctx, now)
		}},
		{"drop_attempt_partitions", r.o.MaintenanceEvery, 0, func(ctx context.Context, tx *store.Tx, now time.Time) (int64, error) {
			return tx.DropAttemptPartitions(ctx, now.Add(-r.o.AttemptsRetention))
		}},
	}
}

// Run runs the jobs until ctx ends. What fails is logged and tried again at the
// next look: a schedule is kept in the database and moves on success only.
func (r *Runner) Run(ctx context.Context) error {
	t := time.NewTicker(r.o.RequestsEvery)
	defer t.Stop()
	var looked time.Time
	for {
		now := time.Now()
		if now.Sub(looked) >= look {
			looked = now
			r.Scheduled(ctx, now)
		}
		r.Requests(ctx, now)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Scheduled runs each scheduled job that is due.
func (r *Runner) Scheduled(ctx context.Context, now time.Time) {
	for _, j := range r.scheduled {
		began := time.Now()
		n, mine, err := r.turn(ctx, &j, now)
		if mine || err != nil {
			r.report(ctx, j.name, n, began, err)
		}
	}
}

// turn runs a job if it is due and nobody else's. The claim is part of the first
// transaction; it stands when a later one fails, and the rest waits for the next
// turn.
func (r *Runner) turn(ctx context.Context, j *job, now time.Time) (rows int64, mine bool, err error) {
	var n int64
	err = r.o.DB.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
		if mine, err = tx.ClaimJob(ctx, j.name, now, j.every); err == nil && mine {
			n, err = j.run(ctx, tx, now)
		}
		return err
	})
	for rows = n; err == nil && j.full > 0 && n >= j.full; rows += n {
		err = r.o.DB.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
			n, err = j.run(ctx, tx, now)
			return err
		})
	}
	if rows > 0 {
		r.o.Wake() // some of them may be in the outbox
	}
	return rows, mine, err
}

// Requests takes every request that is due a step further, in bounded
// transactions, until there is none or this replica may not go on.
func (r *Runner) Requests(ctx context.Context, now time.Time) {
	began := time.Now()
	var all producers.Steps
	for ctx.Err() == nil {
		var done producers.Steps
		err := r.o.DB.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
			done, err = producers.StepRequests(ctx, tx, now, batch)
			return err
		})
		if err != nil {
			r.report(ctx, "requests", int64(all.Sum()), began, err)
			return
		}
		if done.Sum() == 0 {
			break
		}
		r.o.Wake()
		r.metrics.stepped(done)
		all = all.Add(done)
	}
	r.report(ctx, "requests", int64(all.Sum()), began, nil)
}

func (r *Runner) report(ctx context.Context, name string, rows int64, began time.Time, err error) {
	if err != nil && ctx.Err() != nil {
		return // stopped; its transaction has left nothing
	}
	r.metrics.ran(name, rows, began, err)
	switch {
	case err != nil:
		r.o.Logger.WarnContext(ctx, "a job failed; it is tried again soon", slog.String("job", name), slog.Any("error", err))
	case rows > 0:
		r.o.Logger.InfoContext(ctx, "a job has run", slog.String("job", name), slog.Int64("rows", rows))
	}
}
