package bench

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// A pace is what a load reached.
type pace struct {
	done int
	took time.Duration // from the first request to the last answer
	all  []time.Duration
}

func (p *pace) perSecond() float64 { return float64(p.done) / p.took.Seconds() }

// closedLoop lets each client make its next request when it has its answer, for a
// while: the most that the other side can take from so many. The first error ends
// it.
func closedLoop(ctx context.Context, clients int, d time.Duration, do func(context.Context) error) (*pace, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		took times
		wg   sync.WaitGroup
	)
	begun := time.Now()
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil && time.Since(begun) < d {
				at := time.Now()
				if err := do(ctx); err != nil {
					cancel(err)
					return
				}
				took.add(time.Since(at))
			}
		})
	}
	wg.Wait()
	return &pace{done: len(took.all), took: time.Since(begun), all: took.all}, context.Cause(ctx)
}

// openLoop makes requests at moments that do not depend on the answers, as many
// independent callers do: exponential gaps around the rate. do gets the moment at
// which its request was due; the wait of one that could not be sent in time is
// thus part of what it measures. The first error ends it.
func openLoop(ctx context.Context, rate float64, d time.Duration, do func(ctx context.Context, due time.Time) error) (*pace, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		took times
		wg   sync.WaitGroup
	)
	begun := time.Now()
	wait := time.NewTimer(0)
	defer wait.Stop()
	for due := begun; ctx.Err() == nil && due.Sub(begun) < d; due = due.Add(gap(rate)) {
		wait.Reset(time.Until(due))
		select {
		case <-wait.C:
		case <-ctx.Done():
			continue // and so out
		}
		wg.Go(func() {
			if err := do(ctx, due); err != nil {
				cancel(err)
				return
			}
			took.add(time.Since(due))
		})
	}
	wg.Wait()
	return &pace{done: len(took.all), took: time.Since(begun), all: took.all}, context.Cause(ctx)
}

func gap(rate float64) time.Duration {
	return time.Duration(rand.ExpFloat64() / rate * float64(time.Second)) //nolint:gosec // arrivals, not secrets
}
