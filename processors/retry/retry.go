// Package retry is the clock of the ladder: it reads every tier topic and moves
// each delivery back to webhook.deliveries when its delay is over.
//
// It guarantees that no record comes back before its time or is lost, and that
// one which is not due holds up nothing but the fetching of its own partition:
// records are held in memory, a bounded number for each partition, with one
// timer on the earliest. A record is marked after its move is acknowledged, so a
// crash moves it again, as the same hop, and deliver drops the repeat.
//
// It knows nothing of subscriptions or of HTTP.
package retry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// Group is the consumer group of all movers.
const Group = "krib-retry"

// DefaultMaxHeld is how many records of one partition are held if Options does
// not say.
const DefaultMaxHeld = 10_000

// maxHeldBytes bounds what is held of one partition. A mover may have all of
// every tier's, some hundred, and there is no hurry in memory: what is not due
// waits as well at the broker.
const maxHeldBytes = 4 << 20

// pattern matches the topic of every tier, also of those that have left the
// ladder: what waits on them is still due one day.
const pattern = `^webhook\.retry\..+$`

// Options configure a Mover. Kafka is required.
type Options struct {
	Kafka kafka.Config
	// Logger is Kafka.Logger if nil.
	Logger *slog.Logger
	// Registry gets the metrics; nil for none.
	Registry prometheus.Registerer
	// MaxHeld bounds the records held of one partition; above it, fetching pauses.
	MaxHeld int
}

// A Mover moves the records of the partitions that it is given.
type Mover struct {
	in      *kafka.Parallel
	effects *kafka.Effects
	logger  *slog.Logger
	metrics *metrics

	mu   sync.Mutex
	held map[*kafka.Partition]*hold
}

// New builds the mover. Its client connects by itself, so a Mover that was made
// must be run, if only with a context that has ended.
func New(o Options) (*Mover, error) {
	if o.Logger == nil {
		o.Logger = o.Kafka.Logger
	}
	if len(o.Kafka.Brokers) == 0 || o.Logger == nil {
		return nil, errors.New("making the retry mover: brokers and a logger are required")
	}
	if o.Kafka.Logger == nil {
		o.Kafka.Logger = o.Logger
	}
	if o.MaxHeld <= 0 {
		o.MaxHeld = DefaultMaxHeld
	}
	m := &Mover{logger: o.Logger, held: map[*kafka.Partition]*hold{}}
	m.metrics = newMetrics(o.Registry, m)
	in, err := kafka.NewParallel(o.Kafka, kafka.ParallelOptions{
		Group: Group, Pattern: pattern, Handle: m.handle, Revoked: m.revoked, MaxRecords: o.MaxHeld, MaxBytes: maxHeldBytes,
	})
	if err != nil {
		return nil, err
	}
	m.in = in
	m.effects = kafka.NewEffects(Group, in.Client(), o.Logger, m.metrics.refused.Inc)
	return m, nil
}

// Run moves records until ctx ends; it returns nil when asked to stop. What is
// held then stays where it is on the tiers.
func (m *Mover) Run(ctx context.Context) error {
	after, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	// The effects outlive the consumer, whose drain waits for them.
	wg.Go(func() { m.effects.Run(after) })
	err := m.in.Run(ctx)
	stop()
	wg.Wait()
	return err
}

// handle holds a record until it is due. What cannot be decoded is found out
// now, and not in ten hours.
func (m *Mover) handle(it *kafka.Item) {
	r := it.Record
	tier, ok := schemas.TierOf(r.Topic)
	if !ok {
		m.poison(it, fmt.Errorf("the topic %s names no delay", r.Topic))
		return
	}
	d, err := decode(r)
	if err != nil {
		m.poison(it, err)
		return
	}
	m.holdOf(it.Partition()).add(it, dueAt(r.Timestamp, tier, d.SubscriptionID))
}

func (m *Mover) poison(it *kafka.Item, cause error) {
	m.metrics.poison.Inc()
	m.effects.Poison(it, cause)
}

func (m *Mover) holdOf(p *kafka.Partition) *hold {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.held[p]
	if h == nil {
		h = newHold(m.move)
		m.held[p] = h
	}
	return h
}

func (m *Mover) revoked(topic string, partition int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, h := range m.held {
		if p.Topic == topic && p.Number == partition {
			h.stop()
			delete(m.held, p)
		}
	}
}

// holding is the number of records held, for the metrics.
func (m *Mover) holding() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, h := range m.held {
		n += h.size()
	}
	return n
}

// move writes a due record back to webhook.deliveries.
func (m *Mover) move(it *kafka.Item, due time.Time) {
	if _, ok := it.Begin(); !ok {
		return
	}
	now := time.Now()
	r, err := moved(it.Record, now)
	if err != nil {
		// It was decoded when it came, so this does not happen; if it does, the record
		// must not hold up its partition.
		it.Abandon()
		m.poison(it, err)
		return
	}
	m.metrics.late.Observe(now.Sub(due).Seconds())
	m.effects.Put(kafka.Effect{Item: it, Records: []*kgo.Record{r}, Settled: func(durable bool) {
		if durable {
			m.metrics.moved.Inc()
		}
	}})
}

// moved is the record that goes back: the same delivery, one hop on.
func moved(r *kgo.Record, now time.Time) (*kgo.Record, error) {
	d, err := decode(r)
	if err != nil {
		return nil, err
	}
	d.Hop++
	meta := d.Meta(now)
	meta.TraceParent = kafka.HeaderOf(r, "traceparent")
	return kafka.Encode(string(schemas.Deliveries), string(d.SubscriptionID), meta, &d)
}

func decode(r *kgo.Record) (schemas.Delivery, error) {
	d, err := schemas.Decode[schemas.Delivery](r.Value)
	if err == nil && (d.ID == "" || d.SubscriptionID == "") {
		err = errors.New("the delivery has no id or no subscription")
	}
	return d, err
}

// dueAt is when a record leaves its tier. Kafka cuts timestamps to milliseconds,
// so one is added: never early, also by less than one.
func dueAt(written time.Time, tier time.Duration, s schemas.SubscriptionID) time.Time {
	return written.Add(schemas.HoldsFor(tier, s) + time.Millisecond)
}
