package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/krib-ai/krib/internal/store"
)

const (
	restWindow = 200 * time.Millisecond
	// restWindows is how many quiet windows make a rest: a pipeline that works
	// through a backlog is not quiet twice in a row.
	restWindows = 2
	// restShare is how much of one core a program at rest may use: its heartbeats
	// and its polls.
	restShare = 0.15
	// restWithin is well above what the longest backlog takes.
	restWithin = 5 * time.Minute
)

// rest waits until nothing is left to do: the outbox is empty, and neither Krib
// nor its Postgres uses the processor. That covers every stage, also those that
// have no end that could be asked for, and it is what the next measurement
// needs.
func (b *bench) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restWithin)
	defer cancel()
	tick := time.NewTicker(restWindow)
	defer tick.Stop()
	before, begun, err := b.busy()
	for quiet := 0; quiet < restWindows; {
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-b.child.ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("waiting for the pipeline to rest: %w", ctx.Err())
		}
		used, at, e := b.busy()
		waiting, err2 := b.outbox(ctx)
		if waiting > 0 || float64(used-before) > restShare*float64(at.Sub(begun)) {
			quiet = 0
		} else {
			quiet++
		}
		before, begun, err = used, at, firstError(e, err2)
	}
	return err
}

func (b *bench) busy() (time.Duration, time.Time, error) {
	u, err := b.meter.cpu()
	return u.krib + u.postgres, time.Now(), err
}

// outbox is how many rows wait for the relay.
func (b *bench) outbox(ctx context.Context) (n int, err error) {
	err = b.jobs.Read(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		n, err = tx.OutboxDepth(ctx)
		return err
	})
	return n, err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
