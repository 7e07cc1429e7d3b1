package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func TestAClosedLoopGoesAsFastAsItsAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, err := closedLoop(t.Context(), 4, time.Second, func(ctx context.Context) error {
			pause(ctx, 100*time.Millisecond)
			return nil
		})
		if err != nil || p.done != 40 || p.perSecond() != 40 || quantile(p.all, 0.99) != 100*time.Millisecond {
			t.Errorf("%v, %d done, %v a second, p99 %s", err, p.done, p.perSecond(), quantile(p.all, 0.99))
		}
	})
}

// Two seconds of answers to one second of requests: a closed loop would have
// made half of them, and nobody would have seen that they waited.
func TestAnOpenLoopCountsTheWaitOfWhatCouldNotBeSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate, each = 100, 20 * time.Millisecond
		one := make(chan struct{}, 1) // the other side does one at a time
		p, err := openLoop(t.Context(), rate, time.Second, func(ctx context.Context, _ time.Time) error {
			one <- struct{}{}
			pause(ctx, each)
			<-one
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if p.done < rate/2 || p.done > 2*rate {
			t.Errorf("%d requests in a second at a rate of %d", p.done, rate)
		}
		if worst, least := quantile(p.all, 1), time.Duration(p.done)*each-time.Second; worst < least {
			t.Errorf("the worst waited %s, but the work took %s longer than the schedule", worst, least)
		}
	})
}

func TestAnErrorEndsALoop(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var n atomic.Int64
	do := func(ctx context.Context) error {
		if n.Add(1)%3 == 0 {
			return broken
		}
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := closedLoop(t.Context(), 4, time.Hour, do); !errors.Is(err, broken) {
		t.Errorf("closed: %v", err)
	}
	if _, err := openLoop(t.Context(), 1000, time.Hour, func(ctx context.Context, _ time.Time) error { return do(ctx) }); !errors.Is(err, broken) {
		t.Errorf("open: %v", err)
	}
}

func TestACancelledLoopSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := closedLoop(ctx, 1, time.Hour, func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("closed: %v", err)
	}
	if _, err := openLoop(ctx, 1, time.Hour, func(context.Context, time.Time) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
}

func TestNoTwoStaysOverlap(t *testing.T) {
	t.Parallel()
	h := &homes{ids: []schemas.PropertyID{"prop_1", "prop_2", "prop_3"}, first: "2026-01-01"}
	free := map[schemas.PropertyID]schemas.Date{}
	var before producers.NewBooking
	for range len(h.ids) * maxStays {
		n, err := h.take()
		if err != nil {
			t.Fatal(err)
		}
		if n.CheckIn < free[n.PropertyID] || n.CheckIn.NightsUntil(n.CheckOut) != 2 {
			t.Fatalf("%s from %s to %s, and it is free from %s", n.PropertyID, n.CheckIn, n.CheckOut, free[n.PropertyID])
		}
		if n.PropertyID == before.PropertyID {
			t.Fatal("neighbours in time are of one home")
		}
		free[n.PropertyID], before = n.CheckOut, n
	}
	if n, err := h.take(); err == nil {
		t.Errorf("got %+v after the last night", n)
	}
}
