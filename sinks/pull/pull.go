// Package pull gives agents their events where no webhook can reach them: pages
// after a cursor, with or without waiting, and a stream of server-sent events.
//
// It reads booking.events, the log itself. Each process tails all partitions
// without a group and keeps what is recent in memory, for those who follow it;
// what is older is read from Kafka, by a few readers at a time. Who gets which
// event is decided as for webhooks, by [schemas.Subscription.Matches], and each is
// the body that its webhook has.
//
// A cursor holds the next offset of every partition, so it means the same to every
// process and for as long as the topic lives, and what is filtered out moves it
// too. What is guaranteed to whoever goes on from the cursor that it was given: no
// event is left out and none comes twice, and those of one booking come in their
// order. Of several bookings there is no order.
//
// A reader has no queue. It copies what it wants out of memory when it is ready to
// write, so one that does not keep up costs nobody but itself: it falls behind what
// is in memory, is disconnected, and goes on from its cursor.
package pull

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

const topic = string(schemas.BookingEvents)

// Options configure a Log. Kafka, Life, ReplayWindow and Logger are required.
type Options struct {
	Kafka kafka.Config
	// Life is the one of booking.events that cursors belong to.
	Life schemas.Feed
	// ReplayWindow is how long the topic keeps every event.
	ReplayWindow time.Duration
	// Heartbeat is the time between two heartbeats of a stream. Default 5 s.
	Heartbeat time.Duration
	// MaxReaders bounds the streams and polls that go on at a time, MaxPerKey those
	// of one API key. Defaults 1,000 and 20.
	MaxReaders, MaxPerKey int
	// RingBytes bounds what each partition keeps in memory. Default 2 MB.
	RingBytes int64
	// Drain is the window over which Run lets streams go when it is asked to stop.
	// Default 3 s.
	Drain  time.Duration
	Logger *slog.Logger
	// Registry gets the metrics; nil for none.
	Registry prometheus.Registerer
}

func (o *Options) setDefaults() {
	o.Heartbeat = cmp.Or(o.Heartbeat, 5*time.Second)
	o.MaxReaders = cmp.Or(o.MaxReaders, 1000)
	o.MaxPerKey = cmp.Or(o.MaxPerKey, 20)
	o.RingBytes = cmp.Or(o.RingBytes, 2<<20)
	o.Drain = cmp.Or(o.Drain, 3*time.Second)
}

// A Log is booking.events as agents may read it. Pull and Follow may be called
// from many goroutines, before Run and after it: early callers wait, late ones are
// asked to come back.
type Log struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	id      topicID
	turns   *turns // of the readers of history

	started   chan struct{} // closed, by startOnce, when the head that was seen at start is reached
	startOnce sync.Once
	running   atomic.Bool

	mu       sync.RWMutex
	parts    []partition
	byAgent  map[schemas.AgentID]map[*reader]struct{}
	platform map[*reader]struct{}

	admission
}

// New makes a log that does nothing until Run.
func New(o Options) (*Log, error) {
	o.setDefaults()
	l := &Log{
		opts: o, log: o.Logger,
		turns:    newTurns(),
		started:  make(chan struct{}),
		parts:    make([]partition, o.Life.Partitions),
		byAgent:  map[schemas.AgentID]map[*reader]struct{}{},
		platform: map[*reader]struct{}{},
		admission: admission{
			max: o.MaxReaders, maxPerKey: o.MaxPerKey, readers: map[*reader]struct{}{}, keys: map[schemas.KeyID]int{}, agents: map[schemas.AgentID]int{}, empty: make(chan struct{}),
		},
	}
	id, err := hex.DecodeString(o.Life.TopicID)
	if err != nil || len(id) != len(l.id) || o.Life.Partitions < 1 || o.Life.Partitions > maxPartitions {
		return nil, errors.New("making the log of booking events: it needs the id and the partitions of its topic")
	}
	copy(l.id[:], id)
	l.metrics = newMetrics(o.Registry, l)
	return l, nil
}

var errBehind = errors.New("it has not reached the end that it saw at its start")

// Ready is nil once the end of the log that was seen at start has been reached.
func (l *Log) Ready(context.Context) error {
	select {
	case <-l.started:
		return nil
	default:
		return errBehind
	}
}

// Run tails the topic until ctx ends, then lets the readers go over the drain
// window and returns nil. It returns an error only when the topic is not the one
// that its cursors belong to any more. A log runs once.
func (l *Log) Run(ctx context.Context) error {
	if l.running.Swap(true) {
		return errors.New("running the log a second time")
	}
	// While streams drain, they go on for those that are still here.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- l.tail(work) }()
	select {
	case <-ctx.Done():
	case err := <-ended:
		l.drain(l.opts.Drain)
		return err
	}
	l.drain(l.opts.Drain)
	stop()
	return <-ended
}
