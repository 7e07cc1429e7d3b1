// Package fanout turns each booking event into the deliveries of the
// subscriptions that match it and the feed records of its host, exactly once:
// what it writes and how far it has read are one Kafka transaction.
//
// A booking accepted after a subscription's answer is matched by it. The relay
// publishes in the order of commits' rows, so when an event is on its topic, every
// subscription that was there before it is on the other; before a batch is
// matched, the table is brought up to what is committed at that moment.
package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// Group is the consumer group.
const Group = "krib-fanout"

const (
	// A batch's output is bounded: the transaction must end well before it times
	// out, and memory holds all of it.
	maxOutput = 8 << 20
	// maxPoll is where the cost of a transaction has vanished beside its records'.
	maxPoll   = 1_000
	startPoll = 64
	// tableTimeout bounds the wait for the subscription table before a batch. It
	// covers a transaction that a dead relay left open on the subscriptions.
	tableTimeout = kafka.TransactionTimeout + 5*time.Second
	// endTimeout is for the end of a transaction alone: also one that took too long
	// must be ended.
	endTimeout = 5 * time.Second
	// deliveryBytes is about what one delivery of one event takes, to bound a poll
	// before anything of it is rendered.
	deliveryBytes = 4 << 10
)

// Options of a Processor. All but Registry are required.
type Options struct {
	Kafka    kafka.Config
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// A Processor is one member of the fan-out group.
type Processor struct {
	o     Options
	table *table
	m     metrics
	// client is the running session's.
	client atomic.Pointer[kgo.Client]
	budget *budget
	poll   int // records of the next poll, adapted to what the last ones made
	// written is what the outputs hold of the events that were under way when the
	// session began; nil until the first batch needs it.
	written *kafka.Written
	began   time.Time // the session
}

type metrics struct {
	events, deliveries, notifications, poison, rebuilt prometheus.Counter
	filtered, evaluations, unanswered, notAsked        prometheus.Counter
}

// New makes a Processor and the client of its subscription table.
func New(o Options) (*Processor, error) {
	p := &Processor{o: o, budget: newBudget(), poll: startPoll, m: metrics{
		events:        counter("krib_fanout_events_total", "Booking events fanned out."),
		deliveries:    counter("krib_fanout_deliveries_total", "Deliveries written."),
		notifications: counter("krib_fanout_feed_records_total", "Records written to hosts' feeds."),
		poison:        counter("krib_fanout_poison_total", "Booking events that could not be decoded. Alert on any."),
		rebuilt:       counter("krib_fanout_rebuilt_total", "Times the transactional session had to be built anew."),
		filtered:      counter("krib_fanout_filtered_total", "Matches of events and subscriptions that the subscription's filter does not want."),
		evaluations:   counter("krib_fanout_filter_evaluations_total", "Filters asked: each once an event, whoever has it."),
		notAsked:      counter("krib_fanout_filters_not_asked_total", "Matches whose filter was not asked, because its agent's filters had used up their time: they are delivered."),
		unanswered:    counter("krib_fanout_filter_errors_total", "Filters that had no answer for an event, which then counts as wanted."),
	}}
	var err error
	if p.table, err = newTable(o.Kafka, o.Logger); err != nil {
		return nil, err
	}
	if o.Registry != nil {
		o.Registry.MustRegister(p.m.events, p.m.deliveries, p.m.notifications, p.m.poison, p.m.rebuilt,
			p.m.filtered, p.m.evaluations, p.m.unanswered, p.m.notAsked, p.table.filters.distinct, p.table.filters.unusable)
	}
	return p, nil
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

// Run fans out until ctx ends. A session that fails is built anew in the process,
// since its transactional id fences what is left of it; the third refusal by the
// broker within a minute is returned, so that a supervisor sees it. A broker that
// does not answer is waited for: the rest of the process can work without it.
func (p *Processor) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	tableCtx, stopTable := context.WithCancel(context.WithoutCancel(ctx))
	tableEnd := make(chan error, 1)
	go func() {
		err := p.table.Run(tableCtx)
		stop(err) // without its table there is nothing to match with
		tableEnd <- err
	}()
	err := p.sessions(ctx)
	stopTable()
	return errors.Join(err, <-tableEnd)
}

// Ready is nil while a session is a member of the group.
func (p *Processor) Ready(context.Context) error {
	cl := p.client.Load()
	if cl == nil {
		return errors.New("it has no session")
	}
	return kafka.Joined(cl)
}

func (p *Processor) sessions(ctx context.Context) error {
	var faults []time.Time
	for ctx.Err() == nil {
		err := p.session(ctx)
		if err == nil || ctx.Err() != nil {
			return nil //nolint:nilerr // asked to stop; what failed, failed for that
		}
		p.m.rebuilt.Inc()
		p.o.Logger.WarnContext(ctx, "fan-out builds its session anew", slog.Any("error", err))
		var refusal *kerr.Error
		if errors.As(err, &refusal) && !refusal.Retriable {
			faults = append(faults, time.Now())
		}
		if n := len(faults); n >= 3 && faults[n-1].Sub(faults[n-3]) < time.Minute {
			return fmt.Errorf("fanning out: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

func (p *Processor) session(ctx context.Context) error {
	id := "krib-fanout-" + p.o.Kafka.Instance
	if p.o.Kafka.Instance == "" {
		id = "krib-fanout-" + string(schemas.NewEventID()) // dynamic membership: nobody to fence
	}
	opts := append(p.o.Kafka.Options(Group), p.o.Kafka.MemberOptions(Group)...)
	opts = append(opts, kafka.TransactionalOptions(id)...)
	opts = append(opts, kgo.ConsumeTopics(string(schemas.BookingEvents)))
	s, err := kgo.NewGroupTransactSession(opts...)
	if err != nil {
		return fmt.Errorf("making the session: %w", err)
	}
	defer s.CloseAllowingRebalance()
	p.written, p.began = nil, time.Now()
	p.client.Store(s.Client())
	defer p.client.Store(nil)
	for {
		fetches := s.PollRecords(ctx, min(p.poll, max(1, maxOutput/deliveryBytes/max(1, p.table.most()))))
		if ctx.Err() != nil {
			return nil
		}
		if fetches.IsClientClosed() {
			return kgo.ErrClientClosed
		}
		records := fetches.Records()
		if len(records) == 0 {
			s.AllowRebalance()
			p.logFetchErrors(ctx, fetches)
			continue
		}
		err := p.batch(context.WithoutCancel(ctx), s, records)
		s.AllowRebalance()
		if err != nil {
			p.poll = max(1, p.poll/2) // what was too much must not come again as it was
			return err
		}
	}
}

func (p *Processor) logFetchErrors(ctx context.Context, f kgo.Fetches) {
	f.EachError(func(topic string, partition int32, err error) {
		p.o.Logger.WarnContext(ctx, "fetching failed; it is tried again",
			slog.String("topic", topic), slog.Int("partition", int(partition)), slog.Any("error", err))
	})
}

// batch is one transaction. An abort is not an error: the session rewinds to what
// was committed and the records come again, with half as many to a batch, since
// taking too long is the likeliest cause.
func (p *Processor) batch(ctx context.Context, s *kgo.GroupTransactSession, in []*kgo.Record) error {
	tableCtx, cancelTable := context.WithTimeout(ctx, tableTimeout)
	defer cancelTable()
	if err := p.table.WaitUntilCurrent(tableCtx); err != nil {
		return err
	}
	b := p.render(in)
	if err := p.leaveOut(tableCtx, in, b); err != nil {
		return err
	}
	if err := s.Begin(); err != nil {
		return fmt.Errorf("beginning: %w", err)
	}
	produceCtx, cancel := context.WithTimeout(ctx, kafka.TransactionTimeout)
	defer cancel()
	produced := make(chan error, 1)
	kafka.ProduceAll(produceCtx, s.Client(), b.out, func(err error) { produced <- err })
	var produceErr error
	select {
	case produceErr = <-produced:
	case <-produceCtx.Done():
		// A request that was sent and not answered keeps its records, whatever their
		// context says: only closing the client gives them up.
		return fmt.Errorf("producing: %w", produceCtx.Err())
	}
	endCtx, cancelEnd := context.WithTimeout(ctx, endTimeout)
	defer cancelEnd()
	committed, err := s.End(endCtx, kgo.TransactionEndTry(produceErr == nil))
	if err != nil {
		return fmt.Errorf("ending: %w", errors.Join(err, produceErr))
	}
	if !committed {
		p.poll = max(1, p.poll/2)
		p.o.Logger.InfoContext(ctx, "a fan-out transaction was aborted; its events come again", slog.Any("error", produceErr))
		if produceErr != nil {
			<-time.After(100 * time.Millisecond) // what is refused again and again must not be asked in a hot loop
		}
		return nil
	}
	p.m.count(b)
	p.adapt(len(in), b.bytes)
	return nil
}

// leaveOut drops from a batch what the outputs hold already. That is nothing,
// except for the events that a killed member had in hand; see [kafka.Written].
// Those are older than this session, and an output is never older than its event:
// so what was written since the oldest of them is all that can matter.
func (p *Processor) leaveOut(ctx context.Context, in []*kgo.Record, b *rendered) error {
	oldest, found := inHand(in, p.began)
	if !found {
		if time.Since(p.began) > keepWritten {
			p.written = nil // read again, should another partition be that far behind
		}
		return nil
	}
	if p.written == nil || oldest.Before(p.written.Since) {
		var err error
		p.written, err = kafka.ReadWritten(ctx, p.o.Kafka, oldest,
			string(schemas.Deliveries), string(schemas.HostNotifications), string(schemas.PoisonRecords))
		if err != nil {
			return err
		}
	}
	b.out = slices.DeleteFunc(b.out, func(r *kgo.Record) bool { return p.written.Has(r.Topic, kafka.HeaderOf(r, "ce_id")) })
	return nil
}

// keepWritten is how long a session keeps what it has read of the outputs.
const keepWritten = 5 * time.Minute

// inHand is the time of the oldest event that a member before this session may
// have had in hand: one from before it began, give or take the writers' clocks.
func inHand(in []*kgo.Record, began time.Time) (oldest time.Time, found bool) {
	limit := began.Add(time.Minute)
	for _, r := range in {
		if r.Timestamp.Before(limit) && (!found || r.Timestamp.Before(oldest)) {
			oldest, found = r.Timestamp, true
		}
	}
	return oldest, found
}

// adapt sizes the next poll so that its output stays around half the bound, by
// what an event of this batch made.
func (p *Processor) adapt(events int, bytes int64) {
	fits := int64(maxPoll)
	if each := bytes / int64(events); each > 0 {
		fits = maxOutput / 2 / each
	}
	p.poll = int(min(max(fits, 1), int64(2*p.poll), maxPoll))
}

func (m *metrics) count(b *rendered) {
	m.events.Add(float64(b.events))
	m.deliveries.Add(float64(b.deliveries))
	m.notifications.Add(float64(b.feed))
	m.poison.Add(float64(b.poison))
	m.filtered.Add(float64(b.asked.filtered))
	m.evaluations.Add(float64(b.asked.evaluations))
	m.unanswered.Add(float64(b.asked.errors))
	m.notAsked.Add(float64(b.asked.notAsked))
}
