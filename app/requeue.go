package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// A requeued is what became of the dead letters that were asked for.
type requeued struct {
	Run      int64 `json:"run"`
	DryRun   bool  `json:"dry_run"`
	Requeued int   `json:"requeued"`
	// Already were sent on their way under this run before.
	Already int `json:"already"`
	// Withheld of the requeued are of subscriptions that are disabled or deleted.
	Withheld int `json:"withheld"`
}

// requeueDead writes dead letters to webhook.deliveries, under a run of their own.
// The same run again writes nothing twice, so a requeue that broke off is repeated
// by its run.
func requeueDead(ctx context.Context, d *deadCommand, args []string) error {
	d.filterFlags()
	var (
		done requeued
		all  bool
	)
	fs := d.s.fs
	fs.BoolVar(&all, "all", false, "all that there are")
	fs.BoolVar(&done.DryRun, "dry-run", false, "only count")
	fs.Int64Var(&done.Run, "run", 0, "repeat this run: what it wrote already is left out (default a new one)")
	_, err := d.parse(args, "")
	switch {
	case err != nil:
		return err
	case d.filter == deadFilter{} && !all:
		return fmt.Errorf("say which by a filter, or --all (%w)", errUsage)
	case done.Run < 0:
		return fmt.Errorf("--run must be the number of a run (%w)", errUsage)
	}
	before := map[string]bool{}
	if done.Run > 0 {
		before, err = d.writtenBy(ctx, done.Run)
	} else {
		done.Run = time.Now().UnixMicro()
	}
	if err != nil {
		return err
	}
	spoiled, err := d.requeue(ctx, &done, before)
	if err != nil {
		return fmt.Errorf("requeueing; %d were written, --run %d leaves them out: %w", done.Requeued, done.Run, err)
	}
	if err := d.tell(&done); err != nil {
		return err
	}
	return d.confess(spoiled)
}

func (d *deadCommand) tell(done *requeued) error {
	if d.asJSON {
		return printJSON(d.out, done)
	}
	verb := "requeued"
	if done.DryRun {
		verb = "would requeue"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d deliveries as run %d\n", verb, done.Requeued, done.Run)
	if done.Already > 0 {
		fmt.Fprintf(&b, "%d were requeued by this run before\n", done.Already)
	}
	if done.Withheld > 0 {
		fmt.Fprintf(&b, "%d of them are of subscriptions that are disabled or deleted, and will be withheld\n", done.Withheld)
	}
	_, err := d.out.Write([]byte(b.String()))
	return err
}

func (d *deadCommand) requeue(ctx context.Context, done *requeued, before map[string]bool) (spoiled int, err error) {
	c, err := d.kafka(ctx)
	if err != nil {
		return 0, err
	}
	live, err := activeSubscriptions(ctx, c)
	if err != nil {
		return 0, err
	}
	cl, err := kafka.NewProducer(c, "requeue")
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	var (
		w    = writer{cl: cl}
		seen = map[schemas.DeliveryID]bool{}
		now  = schemas.Stamp(time.Now())
	)
	spoiled, err = d.each(ctx, func(l *deadLetter) {
		if seen[l.ID] { // another run of it
			return
		}
		seen[l.ID] = true
		next := again(&l.Delivery, done.Run, now)
		meta := next.Meta(now)
		meta.TraceParent = l.trace
		if before[meta.ID] {
			done.Already++
			return
		}
		if !live[l.SubscriptionID] {
			done.Withheld++
		}
		if done.DryRun {
			done.Requeued++
			return
		}
		w.put(ctx, meta, &next)
	})
	err = errors.Join(err, w.flush(ctx))
	if !done.DryRun {
		done.Requeued = w.written
	}
	return spoiled, err
}

// again is a delivery from its beginning, with the same id and the same bytes.
// What tells an operator of an endpoint goes on as that, with its one attempt.
func again(d *schemas.Delivery, run int64, now time.Time) schemas.Delivery {
	next := *d
	next.AttemptsBefore += d.Attempt
	next.Run, next.Attempt, next.Hop, next.Trigger, next.CreatedAt = run, 0, 0, schemas.TriggerManual, now
	next.NotBefore, next.DeadReason, next.LastStatus, next.LastError = nil, "", 0, ""
	if d.EventType.Operational() {
		next.Trigger = schemas.TriggerOperational
	}
	return next
}

// A writer counts what was acknowledged. The client bounds what is under way.
type writer struct {
	cl *kgo.Client

	mu      sync.Mutex
	written int
	err     error
}

func (w *writer) put(ctx context.Context, meta schemas.Meta, d *schemas.Delivery) {
	r, err := kafka.Encode(string(schemas.Deliveries), string(d.SubscriptionID), meta, d)
	if err != nil {
		w.settled(err)
		return
	}
	w.cl.Produce(ctx, r, func(_ *kgo.Record, err error) { w.settled(err) })
}

func (w *writer) settled(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.written++
	case w.err == nil: // the others say the same
		w.err = err
	}
}

func (w *writer) flush(ctx context.Context) error {
	err := w.cl.Flush(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, err)
}

// writtenBy are the ids of the first records of a run on webhook.deliveries.
func (d *deadCommand) writtenBy(ctx context.Context, run int64) (map[string]bool, error) {
	c, err := d.kafka(ctx)
	if err != nil {
		return nil, err
	}
	ids, mark := map[string]bool{}, fmt.Sprintf("-%d-0-0", run)
	err = readAll(ctx, c, string(schemas.Deliveries), func(r *kgo.Record) {
		if id := kafka.HeaderOf(r, "ce_id"); strings.HasSuffix(id, mark) {
			ids[id] = true
		}
	})
	return ids, err
}

// activeSubscriptions are those that deliver now.
func activeSubscriptions(ctx context.Context, c kafka.Config) (map[schemas.SubscriptionID]bool, error) {
	live := map[schemas.SubscriptionID]bool{}
	err := readAll(ctx, c, string(schemas.Subscriptions), func(r *kgo.Record) {
		s, err := schemas.Decode[schemas.Subscription](r.Value)
		switch {
		case len(r.Value) == 0:
			delete(live, schemas.SubscriptionID(r.Key))
		case err == nil: // else the state before stands, as it does for the readers of the table
			live[schemas.SubscriptionID(r.Key)] = s.Active
		}
	})
	return live, err
}

func readAll(ctx context.Context, c kafka.Config, topic string, each func(*kgo.Record)) error {
	scan, err := kafka.NewScanner(c)
	if err != nil {
		return err
	}
	defer scan.Close()
	ends, err := scan.Ends(ctx, topic)
	if err != nil {
		return err
	}
	return scan.Read(ctx, time.Time{}, ends, each)
}
