// Package replay sends events of the log to one subscription once more: the ones
// that it missed, or all of a time for a subscription that was made today.
//
// It reads booking.events itself and writes webhook.deliveries, rendered as
// fan-out renders them, under a run of their own. What is to be done, and how far
// it is, are jobs behind [Jobs]: a runner holds a job by a lease and saves its
// progress after what it has produced is acknowledged. So a job survives its
// runner: another one goes on from what was saved, and repeats at most what may be
// on the way.
//
// It cannot hurt what is live: of one job never more than Window deliveries are on
// the way, so an event that happens meanwhile has that many before it at most; a
// process works on a few jobs at a time, and on each for a while only, so that
// none waits for the end of another.
package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// Jobs is where replays are kept. Its methods may be called by many runners.
type Jobs interface {
	// Take leases a job that nobody works on; nil if there is none.
	Take(ctx context.Context, owner string, lease time.Duration) (*schemas.Replay, error)
	// Save keeps the progress, less the deliveries that have ended, and renews the
	// lease. It returns the subscription as it is now, or nil when the job is the
	// owner's no longer.
	Save(ctx context.Context, r *schemas.Replay, owner string, lease time.Duration) (*schemas.Subscription, error)
	// Release gives a job back, for anybody to take after a pause.
	Release(ctx context.Context, r *schemas.Replay, owner string, pause time.Duration) error
	// Finish ends a job.
	Finish(ctx context.Context, r *schemas.Replay, owner string, s schemas.ReplayState, why schemas.ReplayReason) error
	// AttemptsBefore counts the POSTs that other runs than the given one have made of
	// those deliveries.
	AttemptsBefore(ctx context.Context, run int64, sub schemas.SubscriptionID, ids []schemas.DeliveryID) (map[schemas.DeliveryID]int, error)
	// LastAttempts are the newest attempts of those deliveries that have any.
	LastAttempts(ctx context.Context, sub schemas.SubscriptionID, ids []schemas.DeliveryID) (map[schemas.DeliveryID]schemas.Attempt, error)
}

// Options of a Runner. Kafka, Jobs and Logger are required.
type Options struct {
	Kafka  kafka.Config
	Jobs   Jobs
	Logger *slog.Logger
	// Window is how many deliveries of one job may be on the way. Default 100.
	Window int
	// Parallel is how many jobs one runner works on at a time. Default 4.
	Parallel int
	// Slice is how long a job is worked on before others have their turn. Default 10
	// seconds.
	Slice time.Duration
	// Lease is how long the job of a dead runner lies idle. Default 15 seconds.
	Lease time.Duration
	// Poll is how often to look for a job. Default half a second.
	Poll     time.Duration
	Registry prometheus.Registerer // nil for no metrics
}

// A Runner works on jobs.
type Runner struct {
	o Options
	m *metrics
}

// New makes a Runner; Run works.
func New(o Options) (*Runner, error) {
	if len(o.Kafka.Brokers) == 0 || o.Jobs == nil || o.Logger == nil {
		return nil, errors.New("making the replay runner: brokers, jobs and a logger are required")
	}
	o.Kafka.Registry = nil // each turn of a job has a client of its own, for a moment
	if o.Window <= 0 {
		o.Window = 100
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	for _, d := range []struct {
		set      *time.Duration
		fallback time.Duration
	}{{&o.Slice, 10 * time.Second}, {&o.Lease, 15 * time.Second}, {&o.Poll, 500 * time.Millisecond}} {
		if *d.set <= 0 {
			*d.set = d.fallback
		}
	}
	return &Runner{o: o, m: newMetrics(o.Registry)}, nil
}

// Run works on jobs until ctx ends, then gives back those that it has.
func (r *Runner) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	places := make(chan struct{}, r.o.Parallel)
	for {
		select {
		case <-ctx.Done():
			return nil
		case places <- struct{}{}:
		}
		job, owner := r.next(ctx)
		if job == nil {
			return nil
		}
		working.Go(func() {
			defer func() { <-places }()
			r.m.running.Inc()
			defer r.m.running.Dec()
			r.turn(ctx, job, owner)
		})
	}
}

// next waits for a job; nil when ctx has ended. Each turn is an owner of its own: a
// runner may be so slow that it takes a job which it still works on.
func (r *Runner) next(ctx context.Context) (job *schemas.Replay, owner string) {
	owner = string(schemas.NewEventID())
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ""
		case <-again.C:
		}
		job, err := r.o.Jobs.Take(ctx, owner, r.o.Lease)
		if err == nil && job != nil {
			return job, owner
		}
		again.Reset(r.o.Poll)
		if err != nil && ctx.Err() == nil {
			r.o.Logger.WarnContext(ctx, "looking for a replay failed; it is tried again", slog.Any("error", err))
			again.Reset(max(r.o.Poll, faultPause))
		}
	}
}

// saveTimeout bounds each save, also the last ones of a turn that was asked to stop.
const saveTimeout = 3 * time.Second

// turn works on a job for a while, then ends it or gives it back.
func (r *Runner) turn(ctx context.Context, job *schemas.Replay, owner string) {
	end, err := r.slice(ctx, job, owner)
	if err != nil && ctx.Err() == nil {
		r.m.faults.Inc()
		r.o.Logger.WarnContext(ctx, "a replay was interrupted; it goes on soon", slog.String("replay", string(job.ID)), slog.Any("error", err))
	}
	if end.lost {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if end.state == "" {
		err = r.o.Jobs.Release(last, job, owner, end.pause)
	} else if err = r.o.Jobs.Finish(last, job, owner, end.state, end.reason); err == nil {
		r.m.jobs.WithLabelValues(string(end.state)).Inc()
		r.o.Logger.InfoContext(ctx, "a replay has ended", slog.String("replay", string(job.ID)), slog.String("state", string(end.state)),
			slog.String("reason", string(end.reason)), slog.Int64("matched", job.Progress.Matched), slog.Int64("produced", job.Progress.Produced))
	}
	if err != nil {
		// Its lease ends by itself, and whoever takes it then finds the same.
		r.o.Logger.WarnContext(ctx, "a replay could not be given back", slog.String("replay", string(job.ID)), slog.Any("error", err))
	}
}

// An ending is how a turn ended: the job has ended (state), it goes on after a
// pause (no state), or it is another's or cancelled (lost).
type ending struct {
	state  schemas.ReplayState
	reason schemas.ReplayReason
	pause  time.Duration
	lost   bool
}

// Pauses of a job that was given back: after a fault, and where nothing was to be
// done but wait for the receiver.
const (
	faultPause = 2 * time.Second
	fullPause  = time.Second
)

// slice reads, sends and saves until the job ends or its time is up.
func (r *Runner) slice(ctx context.Context, job *schemas.Replay, owner string) (ending, error) {
	w, err := r.open(ctx, job)
	if err != nil {
		return ending{pause: faultPause}, err
	}
	defer w.close()
	over := time.Now().Add(r.o.Slice)
	for idle := minIdle; ; {
		sub, err := r.save(ctx, job, owner)
		switch {
		case err != nil:
			return ending{pause: faultPause}, err
		case sub == nil:
			return ending{lost: true}, nil
		}
		if end, ended := w.verdict(sub); ended {
			return end, nil
		}
		window := r.windowOf(sub)
		room := window - len(job.Progress.Waiting)
		full := room < max(1, window/4) // each batch is a save: not one for each delivery that ends
		switch {
		case ctx.Err() != nil:
			return ending{}, nil // asked to stop
		case time.Now().After(over) && full:
			return ending{pause: fullPause}, nil
		case time.Now().After(over):
			return ending{}, nil
		case full && idle >= maxIdle: // others shall have the place of one that stands still
			return ending{pause: fullPause}, nil
		case full: // until some have ended
			idle = wait(ctx, idle)
			continue
		}
		idle = minIdle
		if err := w.advance(ctx, sub, room); err != nil {
			return w.fault(err)
		}
	}
}

// windowOf is smaller for an endpoint that wants its requests slowly: a live event
// waits for ten seconds' worth of them at most.
func (r *Runner) windowOf(sub *schemas.Subscription) int {
	if sub.RateLimit == 0 {
		return r.o.Window
	}
	return min(r.o.Window, max(1, sub.RateLimit/6))
}

// save keeps what was produced also when ctx has ended, so that a stop repeats
// nothing.
func (r *Runner) save(ctx context.Context, job *schemas.Replay, owner string) (*schemas.Subscription, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	return r.o.Jobs.Save(ctx, job, owner, r.o.Lease)
}

// The wait for a receiver begins short, since most answer at once, and each look
// is a transaction.
const (
	minIdle = 50 * time.Millisecond
	maxIdle = 500 * time.Millisecond
)

func wait(ctx context.Context, d time.Duration) (next time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return min(2*d, maxIdle)
}

func (r *Runner) errorf(job *schemas.Replay, format string, args ...any) error {
	return fmt.Errorf("replaying %s: %w", job.ID, fmt.Errorf(format, args...))
}
