// Package deliver makes the HTTP requests: it reads webhook.deliveries, POSTs
// each to its subscription's URL, and writes what came of it to
// webhook.attempts, the next hop to a tier topic, or a dead letter.
//
// It guarantees that a delivery is attempted at least once and never lost: what
// follows from a request is acknowledged by Kafka before its record is marked,
// so a crash between the two repeats the request. The work of one booking for
// one subscription is begun in order, except for what has failed once; where the
// subscription asks for it, later events wait for that too, or make it needless,
// and what is outstanding stands on webhook.holds. And no endpoint can hurt
// another: each has a lane with a bound on its requests, a bounded queue and a
// breaker, and what would wait there for more than about a second waits on a tier
// topic instead, without using up an attempt.
//
// It does not decide about subscriptions: an attempt says that a receiver wants
// no more, and whoever reads the attempts switches the subscription off.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/schemas"
)

// Group is the consumer group of all workers.
const Group = "krib-deliver"

// Defaults of [Options].
const (
	DefaultTimeout     = 15 * time.Second
	DefaultMaxInFlight = 512
)

// Options configure a Worker. Kafka and Ring are required.
type Options struct {
	Kafka kafka.Config
	// Ring opens the subscriptions' secrets.
	Ring *seal.Ring
	// Ladder is the delays between attempts; nil is schemas.DefaultLadder, and an
	// empty one means a single attempt. Its tier topics must exist.
	Ladder schemas.Ladder
	// Timeout spans name, connection, headers and body of one request.
	Timeout time.Duration
	// Allow are ranges that may be called although they are not public.
	Allow []netip.Prefix
	// AllowHTTP permits plain http; otherwise only https is called.
	AllowHTTP bool
	// MaxInFlight bounds the requests of this process over all endpoints. Half of it
	// is for requests older than a second.
	MaxInFlight int
	// Logger is Kafka.Logger if nil.
	Logger *slog.Logger
	// Registry gets the metrics; nil for none.
	Registry prometheus.Registerer
}

// A Worker delivers the partitions that it is given. Make it with New.
type Worker struct {
	ladder  schemas.Ladder
	timeout time.Duration
	logger  *slog.Logger
	metrics *metrics

	sender  *sender
	subs    *subscriptions
	table   *kafka.Table
	in      *kafka.Parallel
	effects *kafka.Effects
	lanes   *lanes
	holds   *holds
	gate    *gate
	kafka   kafka.Config

	alarm       rate.Sometimes
	current     chan struct{} // closed once the table was current
	currentOnce sync.Once
}

// New builds the worker. Its clients connect by themselves, so a Worker that was
// made must be run, if only with a context that has ended.
func New(o Options) (*Worker, error) {
	if o.Ring == nil || len(o.Kafka.Brokers) == 0 || o.Kafka.Logger == nil && o.Logger == nil {
		return nil, errors.New("making the delivery worker: brokers, a key ring and a logger are required")
	}
	if o.Ladder == nil {
		o.Ladder = schemas.DefaultLadder()
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = DefaultMaxInFlight
	}
	if o.Logger == nil {
		o.Logger = o.Kafka.Logger
	}
	if o.Kafka.Logger == nil {
		o.Kafka.Logger = o.Logger
	}
	w := &Worker{
		ladder: o.Ladder, timeout: o.Timeout, logger: o.Logger,
		sender:  newSender(o.Timeout, o.Allow, o.AllowHTTP),
		lanes:   newLanes(o.Ladder, o.MaxInFlight),
		alarm:   rate.Sometimes{Interval: time.Second},
		current: make(chan struct{}),
	}
	w.holds, w.kafka = w.lanes.holds, o.Kafka
	w.metrics = newMetrics(o.Registry, w.lanes)
	w.subs = newSubscriptions(o.Ring, o.Logger, w.poisonedRecord)
	w.subs.changed = w.lanes.changed
	w.holds.bound, w.holds.full = w.longest(), w.metrics.unheld.Inc
	w.lanes.attempt, w.lanes.park, w.lanes.bury, w.lanes.supersede, w.lanes.repeated = w.attempt, w.park, w.bury, w.supersede, w.repeated
	w.lanes.repeat, w.lanes.choicesOf = w.metrics.repeats.Inc, w.subs.choices
	w.lanes.turned = w.breakerTurned
	w.lanes.testAge = o.Timeout + testGrace
	w.gate = &gate{load: w.load, pass: w.lanes.arrive, warn: w.stateUnread, parts: map[*kafka.Partition]*doorway{}}
	return w, w.connect(o)
}

func (w *Worker) connect(o Options) (err error) {
	w.table, err = kafka.NewTable(o.Kafka, "krib-deliver-subscriptions", string(schemas.Subscriptions), w.subs.apply)
	if err != nil {
		return err
	}
	w.in, err = kafka.NewParallel(o.Kafka, kafka.ParallelOptions{
		Group: Group, Topics: []string{string(schemas.Deliveries)}, Handle: w.handle, Revoked: w.revoked,
		// With what comes after the drain, a stop in front of an endpoint that hangs
		// takes about five seconds.
		Drain: 4 * time.Second,
	})
	if err != nil {
		return err
	}
	pausedSeconds(o.Registry, w.in)
	w.effects = kafka.NewEffects(Group, w.in.Client(), o.Logger, w.metrics.refused.Inc)
	return nil
}

// Ready returns nil once the table of subscriptions has been current, and waits
// for that until ctx ends.
func (w *Worker) Ready(ctx context.Context) error {
	select {
	case <-w.current:
		return nil
	default:
	}
	select {
	case <-w.current:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the subscriptions: %w", ctx.Err())
	}
}

// Run delivers until ctx ends, then finishes or hands back what is under way. It
// returns nil when asked to stop.
//
// The table and the effects outlive the consumer: while it drains, requests end
// that still look subscriptions up and still have records to write.
func (w *Worker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	after, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var (
		wg       sync.WaitGroup
		tableErr error
	)
	wg.Go(func() {
		tableErr = w.table.Run(after)
		cancel() // without the table nothing can be delivered
	})
	wg.Go(func() { w.effects.Run(after) })
	wg.Go(func() { w.sweep(after) })
	w.waitForTable(ctx)
	err := w.in.Run(ctx)
	w.lanes.wg.Wait()
	stop()
	wg.Wait()
	w.sender.transport.CloseIdleConnections()
	return errors.Join(tableErr, err)
}

// waitForTable blocks until the table has been current once, or ctx ends.
func (w *Worker) waitForTable(ctx context.Context) {
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := w.table.WaitUntilCurrent(once)
		cancel()
		if err == nil {
			w.currentOnce.Do(func() { close(w.current) })
			return
		}
		if ctx.Err() != nil {
			return
		}
		w.logger.Warn("the subscriptions are not current yet", slog.Any("error", err))
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (w *Worker) sweep(ctx context.Context) {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			w.lanes.sweep(now)
		}
	}
}

func (w *Worker) handle(it *kafka.Item) {
	d, err := schemas.Decode[schemas.Delivery](it.Record.Value)
	if err == nil && (d.ID == "" || d.SubscriptionID == "" || d.EventID == "") {
		err = errors.New("the delivery has no id, event or subscription")
	}
	if err != nil {
		w.metrics.poison.Inc()
		w.effects.Poison(it, err)
		return
	}
	w.gate.come(&job{item: it, d: d, trace: traceOf(it.Record)})
}

// revoked forgets a partition, from the gate inwards.
func (w *Worker) revoked(topic string, partition int32) {
	w.gate.leave(topic, partition)
	w.lanes.dropped(topic, partition)
	w.holds.drop(topic, partition)
}

func (w *Worker) stateUnread(err error) {
	w.logger.Error("what is known of a partition cannot be read; its deliveries wait", slog.Any("error", err))
}

// traceOf is the record's trace context, if it has the form of one: it goes into
// a request header, where nothing else may.
func traceOf(r *kgo.Record) string {
	t := kafka.HeaderOf(r, "traceparent")
	if len(t) != 55 {
		return ""
	}
	for _, c := range []byte(t) {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	return t
}

// poisonedRecord writes a record of a compacted topic that cannot be decoded to
// krib.poison. Its reader skips it and keeps the former state of its key.
func (w *Worker) poisonedRecord(r *kgo.Record, cause error) {
	w.metrics.poison.Inc()
	w.logger.Error("a record of a table cannot be decoded", slog.String("topic", r.Topic), slog.Int64("offset", r.Offset), slog.Any("error", cause))
	p, err := kafka.PoisonOf(Group, r, cause)
	if err != nil {
		return
	}
	w.in.Client().TryProduce(context.Background(), p, func(_ *kgo.Record, err error) {
		if err != nil {
			w.logger.Error("a poison record was not written", slog.Any("error", err))
		}
	})
}
