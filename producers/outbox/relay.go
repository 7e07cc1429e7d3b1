// Package outbox is the relay: it carries what commands have committed from
// Postgres to Kafka, each row once and in the order of ids.
//
// There is one leader in the cluster. Two fences hold it to that: an advisory
// lock on a Postgres session of its own, and the producer epoch of one
// transactional id, which is never initialised without the lock.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

const (
	// transactionalID is the relay's; whoever initialises it fences the one before.
	transactionalID = "krib-relay"
	// A transaction carries at most this much: its cost is per transaction, and a
	// larger one would only make everybody wait longer for its end.
	maxRows  = 1_000
	maxBytes = 4 << 20
	// pollEvery finds rows whose wake-up was lost.
	pollEvery = time.Second
	// publishTimeout is below the idle timeout of the lock's session, so a leader
	// whose broker hangs gives up before it can lose the lock unaware.
	publishTimeout = 15 * time.Second
	// stopTimeout is what a batch that is under way gets after a stop was asked for.
	stopTimeout = 3 * time.Second
	// retryEvery is how often a follower asks for the lock, and how long a leader
	// rests after a fault.
	retryEvery = 500 * time.Millisecond
)

// Options of a Relay. All but Registry are required.
type Options struct {
	Kafka       kafka.Config
	DatabaseURL string
	Signal      *store.Signal
	Logger      *slog.Logger
	Registry    prometheus.Registerer
}

// A Relay publishes the outbox while it leads, and waits for the lead otherwise.
type Relay struct {
	o       Options
	m       metrics
	leading atomic.Bool
	// following says that another relay was seen to lead.
	following atomic.Bool
}

type metrics struct {
	published, stuck, faults prometheus.Counter
}

// New makes a Relay; Run works.
func New(o Options) *Relay {
	r := &Relay{o: o, m: metrics{
		published: prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_outbox_published_total", Help: "Outbox rows published to Kafka."}),
		stuck:     prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_outbox_stuck_total", Help: "Outbox rows that Kafka refuses for good, set aside. Alert on any."}),
		faults:    prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_outbox_faults_total", Help: "Times the relay had to start over."}),
	}}
	if o.Registry != nil {
		o.Registry.MustRegister(r.m.published, r.m.stuck, r.m.faults)
	}
	return r
}

// Leading says whether this relay holds the lead at the moment.
func (r *Relay) Leading() bool { return r.leading.Load() }

// Ready is nil while the outbox is in hands: this relay's, or another's that had
// the lock when this one last asked for it.
func (r *Relay) Ready(context.Context) error {
	if r.leading.Load() || r.following.Load() {
		return nil
	}
	return errors.New("the relay neither leads nor follows")
}

// Run leads or waits until ctx ends. Faults of Postgres and Kafka end the lead,
// never Run: it starts over from the lock.
func (r *Relay) Run(ctx context.Context) error {
	go store.Listen(ctx, r.o.DatabaseURL, store.ChannelOutbox, r.o.Logger, r.o.Signal.WakeHere)
	for ctx.Err() == nil {
		err := r.lead(ctx)
		if err != nil && ctx.Err() == nil {
			r.m.faults.Inc()
			r.o.Logger.WarnContext(ctx, "the relay starts over", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
	return nil
}

// lead takes the lead if it is free and publishes until something fails. The
// order matters. The lock first: without it two relays would fence each other for
// ever. Then the producer id: from here on the former leader, who may only have
// been paused, can publish nothing. Only then the last committed progress: read
// earlier, the former leader could still commit one more batch, and we would
// publish it again.
func (r *Relay) lead(ctx context.Context) error {
	lock, err := store.LeadOutbox(ctx, r.o.DatabaseURL)
	r.following.Store(err == nil && lock == nil)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	opts := append(r.o.Kafka.Options("relay"), kafka.TransactionalOptions(transactionalID)...)
	opts = append(opts,
		// A request that cannot be finished within the transaction is not worth more.
		kgo.RecordDeliveryTimeout(publishTimeout),
		kgo.ProducerBatchMaxBytes(1_000_000))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("making the relay's producer: %w", err)
	}
	defer cl.Close()
	initCtx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if _, _, err := cl.ProducerID(initCtx); err != nil {
		return fmt.Errorf("fencing the former relay: %w", err)
	}
	before, err := r.catchUp(initCtx, lock)
	if err != nil {
		return err
	}
	r.leading.Store(true)
	defer r.leading.Store(false)
	r.o.Logger.InfoContext(ctx, "the relay leads", slog.Int("published_before", before))
	return r.loop(ctx, lock, cl)
}

// catchUp deletes what the former leader has published and not deleted. That may be
// more than its last batch: its deletes are not flushed one by one, and a crash of
// Postgres takes the last ones back.
func (r *Relay) catchUp(ctx context.Context, lock *store.OutboxLeader) (int, error) {
	all := 0
	for {
		done, err := r.published(ctx, lock)
		if err != nil || len(done) == 0 {
			return all, err
		}
		if err := lock.Delete(ctx, done); err != nil {
			return all, err
		}
		all += len(done)
	}
}

// published are, among the oldest rows, those that the former leader has published
// and not deleted: those whose own record is on its topic. The progress that was committed with
// them is asked only about rows without an id of their own; see [kafka.Written].
func (r *Relay) published(ctx context.Context, lock *store.OutboxLeader) ([]int64, error) {
	// Twice a batch: rows with smaller ids may have been committed since.
	rows, err := lock.Oldest(ctx, 2*maxRows, 2*maxBytes)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	progress, err := lastProgress(ctx, r.o.Kafka, lock.Outbox())
	if err != nil {
		return nil, err
	}
	since, topics := rows[0].CreatedAt, []string{}
	for i := range rows {
		if rows[i].CreatedAt.Before(since) {
			since = rows[i].CreatedAt
		}
		topics = append(topics, rows[i].Topic)
	}
	slices.Sort(topics)
	written, err := kafka.ReadWritten(ctx, r.o.Kafka, since, slices.Compact(topics)...)
	if err != nil {
		return nil, err
	}
	var done []int64
	for i := range rows {
		id := idOf(&rows[i])
		if written.Has(rows[i].Topic, id) || (id == "" && slices.Contains(progress.IDs, rows[i].ID)) {
			done = append(done, rows[i].ID)
		}
	}
	return done, nil
}

func idOf(r *store.OutboxRow) string {
	for _, h := range r.Headers {
		if h.Key == "ce_id" {
			return h.Value
		}
	}
	return ""
}

// loop publishes the oldest rows until something fails. It deletes what it has
// published instead of keeping a cursor: ids are given before their transactions
// commit, and a cursor would step over a row whose transaction is slower.
func (r *Relay) loop(ctx context.Context, lock *store.OutboxLeader, cl *kgo.Client) error {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		n, err := r.pass(ctx, lock, cl)
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.o.Signal.Woken():
		case <-poll.C:
		}
	}
}

// pass publishes one batch. Once begun it is finished even when ctx ends: a stop
// between publish and delete is only harmless, not free.
func (r *Relay) pass(ctx context.Context, lock *store.OutboxLeader, cl *kgo.Client) (int, error) {
	if ctx.Err() != nil {
		return 0, nil
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	defer context.AfterFunc(asked, func() { time.AfterFunc(stopTimeout, cancel) })()
	rows, err := lock.Oldest(ctx, maxRows, maxBytes)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return len(rows), r.publish(ctx, lock, cl, rows)
}

// publish commits the rows and their ids in one transaction and then deletes
// them. Rows that Kafka refuses for good are found by halving: a batch of one
// that is refused is the culprit.
func (r *Relay) publish(ctx context.Context, lock *store.OutboxLeader, cl *kgo.Client, rows []store.OutboxRow) error {
	err := transact(ctx, cl, lock.Outbox(), rows)
	switch {
	case err == nil:
		r.m.published.Add(float64(len(rows)))
		return lock.Delete(ctx, ids(rows))
	case !refused(err):
		return err
	case len(rows) == 1:
		r.m.stuck.Inc()
		r.o.Logger.ErrorContext(ctx, "an outbox row is refused for good and set aside",
			slog.Int64("row", rows[0].ID), slog.String("topic", rows[0].Topic), slog.Any("error", err))
		return lock.SetAside(ctx, rows[0].ID, err.Error())
	}
	half := len(rows) / 2
	if err := r.publish(ctx, lock, cl, rows[:half]); err != nil {
		return err
	}
	return r.publish(ctx, lock, cl, rows[half:])
}

func transact(ctx context.Context, cl *kgo.Client, outbox string, rows []store.OutboxRow) error {
	if err := cl.BeginTransaction(); err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	p := schemas.Progress{Outbox: outbox, IDs: ids(rows), At: schemas.Stamp(time.Now())}
	meta := schemas.Meta{
		ID: fmt.Sprintf("progress-%d", rows[len(rows)-1].ID), Type: "outbox.progress", Subject: "outbox", Time: p.At, Schema: schemas.SchemaProgress,
		TraceParent: schemas.NewTraceParent(),
	}
	mark, err := kafka.Encode(string(schemas.OutboxProgress), "outbox", meta, p)
	if err != nil {
		return err
	}
	records := []*kgo.Record{mark}
	for i := range rows {
		records = append(records, recordOf(&rows[i]))
	}
	produced := make(chan error, 1)
	kafka.ProduceAll(ctx, cl, records, func(err error) { produced <- err })
	select {
	case err = <-produced:
	case <-ctx.Done():
		// A request that was sent and not answered keeps its records, whatever their
		// context says: only closing the client, which follows, gives them up.
		return fmt.Errorf("publishing: %w", ctx.Err())
	}
	if err == nil {
		err = cl.EndTransaction(ctx, kgo.TryCommit)
		if err != nil {
			return fmt.Errorf("committing a transaction: %w", err)
		}
		return nil
	}
	if end := cl.EndTransaction(ctx, kgo.TryAbort); end != nil {
		return fmt.Errorf("aborting a transaction: %w", errors.Join(end, err))
	}
	return &abortedError{err}
}

// An abortedError says that nothing of the transaction was committed and the
// client can go on.
type abortedError struct{ cause error }

func (e *abortedError) Error() string { return "publishing: " + e.cause.Error() }
func (e *abortedError) Unwrap() error { return e.cause }

func recordOf(r *store.OutboxRow) *kgo.Record {
	rec := &kgo.Record{Topic: r.Topic, Value: r.Value, Headers: make([]kgo.RecordHeader, len(r.Headers))}
	for i, h := range r.Headers {
		rec.Headers[i] = kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)}
	}
	if r.Key != nil {
		rec.Key = []byte(*r.Key)
	}
	if r.Partition != nil {
		kafka.ToPartition(rec, *r.Partition)
	}
	return rec
}

func ids(rows []store.OutboxRow) []int64 {
	out := make([]int64, len(rows))
	for i := range rows {
		out[i] = rows[i].ID
	}
	return out
}
