package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/krib-ai/krib/internal/audit"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/fanout"
	"github.com/krib-ai/krib/processors/retry"
)

// runAudit accounts for every delivery that the events of a window had to make, and
// with DATABASE_URL for what waits in the outbox. It fails, with status 1, when a
// delivery is missing or a row stays in the outbox.
func runAudit(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
	t := newTopicReader("audit", env, out, stderr)
	now := time.Now()
	o := audit.Options{
		Since: now.Add(-day), Until: now, Grace: time.Minute, FanoutGroup: fanout.Group, DeliverGroup: deliver.Group, RetryGroup: retry.Group,
	}
	fs := t.s.fs
	fs.Func("since", "the beginning of the window, a time or how long ago (default 24h)", instant(&o.Since))
	fs.Func("until", "its end (default now)", instant(&o.Until))
	fs.StringVar((*string)(&o.Subscription), "subscription", "", "only this one")
	fs.Func("grace", "the age up to which an event without its delivery is in flight (default 1m)", duration(&o.Grace, 0, day))
	t.c.databaseSetting(t.s)
	if _, err := t.parse(args, ""); err != nil {
		return err
	}
	if !o.Since.Before(o.Until) {
		return fmt.Errorf("--until must be after --since (%w)", errUsage)
	}
	var err error
	if o.Kafka, err = t.kafka(ctx); err != nil {
		return err
	}
	if t.c.databaseURL != "" {
		o.Outbox = func(ctx context.Context) (audit.Outbox, error) { return countOutbox(ctx, t.c.databaseURL) }
	}
	r, err := audit.Run(ctx, o)
	if err != nil {
		return err
	}
	show := showAudit
	if t.asJSON {
		show = func(w io.Writer, r *audit.Report) error { return printJSON(w, r) }
	}
	if err := show(out, r); err != nil {
		return err
	}
	if problem := r.Problem(); problem != "" {
		return errors.New(problem)
	}
	return nil
}

// countOutbox connects for one query.
func countOutbox(ctx context.Context, database string) (audit.Outbox, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	db, err := store.Open(ctx, database, store.RoleJobs, 1)
	if err == nil {
		defer db.Close()
		var s store.OutboxState
		if s, err = db.OutboxState(ctx); err == nil {
			return audit.Outbox{Rows: s.Rows, Age: s.Age, SetAside: s.SetAside}, nil
		}
	}
	if store.Outdated(err) {
		err = errors.New("the database is not at this version; run krib migrate first")
	}
	return audit.Outbox{}, err
}

func showAudit(out io.Writer, r *audit.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%d events from %s to %s\n", r.Events, r.Since.Format(time.RFC3339), r.Until.Format(time.RFC3339))
	fmt.Fprintln(w, "SUBSCRIPTION\tAGENT\tMATCHED\tFILTERED\tDELIVERED\tWAITING\tDEAD\tWITHHELD\tSUPERSEDED\tIN FLIGHT\tMISSING\tUNKNOWN")
	for _, l := range r.Subscriptions {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", l.Subscription, l.Agent, l.Matched, l.Filtered, l.Delivered, l.Waiting,
			l.Dead, l.Withheld, l.Superseded, l.InFlight, l.Missing, l.Unknown)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	for _, m := range r.Missing {
		fmt.Fprintf(w, "missing: %s (%s, %s) to %s: %s\n", m.Event, m.Type, m.At.Format(time.RFC3339), m.Subscription, m.Why)
	}
	if r.Outbox == nil {
		fmt.Fprintln(w, "note: without DATABASE_URL what waits in the outbox is not counted")
	}
	fmt.Fprintln(w, r.Verdict)
	return w.Flush()
}
