// Package attempts is the sink that keeps the log of webhook attempts in Postgres
// and folds it into the rows of their deliveries, each subscription's statistics and
// its health.
//
// Rows are unique on delivery, run and number, and only a row that was not there
// yet counts for anything, or one that outweighs what was there. So reading a record
// twice changes nothing.
package attempts

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// Group is the consumer group.
const Group = "krib-attempts"

const maxPoll = 1_000

// Options of a Sink. All but Wake and Registry are required.
type Options struct {
	Kafka kafka.Config
	DB    *store.DB // in RoleSink
	// DisableAfter is how long a subscription may fail without a success before it
	// is disabled, if it has failed often enough. Default 5 days.
	DisableAfter time.Duration
	// Wake is called when something was written to the outbox: a subscription that
	// was disabled, or what its owner is told.
	Wake     func()
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// A Sink is one member of the group.
type Sink struct {
	o  Options
	cl *kgo.Client
	m  metrics
}

type metrics struct {
	rows, poison, disabled prometheus.Counter
}

// New makes a Sink and its client; Run joins the group.
func New(o Options) (*Sink, error) {
	if o.DisableAfter == 0 {
		o.DisableAfter = 5 * 24 * time.Hour
	}
	if o.Wake == nil {
		o.Wake = func() {}
	}
	s := &Sink{o: o, m: metrics{
		rows:     prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_attempts_written_total", Help: "Attempt records committed to Postgres."}),
		poison:   prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_attempts_poison_total", Help: "Attempt records that could not be decoded. Alert on any."}),
		disabled: prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_webhook_disabled_total", Help: "Subscriptions disabled for their health."}),
	}}
	if o.Registry != nil {
		o.Registry.MustRegister(s.m.rows, s.m.poison, s.m.disabled)
	}
	opts := append(o.Kafka.Options(Group), o.Kafka.GroupOptions(Group)...)
	cl, err := kgo.NewClient(append(opts, kgo.ConsumeTopics(string(schemas.Attempts)))...)
	if err != nil {
		return nil, fmt.Errorf("making the attempt sink: %w", err)
	}
	s.cl = cl
	return s, nil
}

// Ready is nil once the sink has joined its group.
func (s *Sink) Ready(context.Context) error { return kafka.Joined(s.cl) }

// Run writes until ctx ends. While Postgres is away it waits and tries the same
// batch again; nothing is skipped.
func (s *Sink) Run(ctx context.Context) error {
	var month string
	return kafka.Poll(ctx, s.cl, s.o.Logger, Group, maxPoll, func(fetches kgo.Fetches) {
		if rs := fetches.Records(); len(rs) > 0 {
			s.write(ctx, rs, &month)
		}
	})
}

func (s *Sink) write(ctx context.Context, rs []*kgo.Record, month *string) {
	as, bad := s.decode(ctx, rs)
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 2*time.Second) {
		err := s.report(ctx, bad)
		if err == nil {
			bad = nil // told once, however often the batch is tried
			err = s.commit(ctx, as, month)
		}
		if err == nil {
			s.cl.MarkCommitRecords(rs...)
			return
		}
		s.o.Logger.WarnContext(ctx, "writing attempts failed; it is tried again", slog.Any("error", err))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (s *Sink) report(ctx context.Context, bad []*kgo.Record) error {
	if len(bad) == 0 {
		return nil
	}
	if err := s.cl.ProduceSync(ctx, bad...).FirstErr(); err != nil {
		return fmt.Errorf("writing to krib.poison: %w", err)
	}
	s.m.poison.Add(float64(len(bad)))
	return nil
}

func (s *Sink) commit(ctx context.Context, as []schemas.Attempt, month *string) error {
	if len(as) == 0 {
		return nil
	}
	var done folded
	this := time.Now().UTC().Format("2006-01")
	err := s.o.DB.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		done = folded{}
		if *month != this {
			if err := tx.EnsureAttemptPartitions(ctx, time.Now()); err != nil {
				return err
			}
		}
		written, err := tx.InsertAttempts(ctx, as)
		if err != nil {
			return err
		}
		tx.CountAttempts(written)
		done, err = s.fold(ctx, tx, written)
		return err
	})
	if err != nil {
		return err
	}
	*month = this
	s.m.rows.Add(float64(len(as)))
	s.m.disabled.Add(float64(done.disabled))
	if len(done.changes) > 0 {
		s.o.Wake()
	}
	s.log(ctx, done.changes)
	return nil
}

func (s *Sink) decode(ctx context.Context, rs []*kgo.Record) (as []schemas.Attempt, bad []*kgo.Record) {
	for _, r := range rs {
		a, err := schemas.Decode[schemas.Attempt](r.Value)
		if err == nil && (a.DeliveryID == "" || a.SubscriptionID == "") {
			err = fmt.Errorf("an attempt without delivery or subscription")
		}
		if err != nil {
			s.o.Logger.ErrorContext(ctx, "an attempt record could not be decoded; it is on krib.poison",
				slog.Int("partition", int(r.Partition)), slog.Int64("offset", r.Offset), slog.Any("error", err))
			if p, err := kafka.PoisonOf(Group, r, err); err == nil {
				bad = append(bad, p)
			}
			continue
		}
		a.Error, a.ResponseBody = clean(a.Error), clean(a.ResponseBody)
		as = append(as, a)
	}
	return as, bad
}
