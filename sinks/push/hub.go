// Package push is the SSE hub: it tails host.notifications and writes each record
// as one server-sent event to the dashboards of its host.
//
// Every replica tails every partition without a group, so a client may resume on
// any of them. A record is released only after the notification sink has
// committed it: a frame never precedes its row. The id of a frame is the position
// after it, so what a client sends back as Last-Event-ID is the first record that
// it has not seen; it gets exactly what follows, from memory or from Kafka, or a
// resync that says why it cannot.
//
// What is guaranteed to a connection: its frames come in offset order, none is
// left out silently, and an id is sent only behind every frame below it. Whoever
// cannot keep up is disconnected, and resumes.
//
// Locks are taken in the order Hub.mu or partition.mu, then conn.mu; Hub.mu and
// partition.mu are never held together.
package push

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// Options configure a Hub. Kafka, Released, Feed and Logger are required.
type Options struct {
	Kafka kafka.Config
	// Released answers, for each partition, the next offset that the notification
	// sink will commit; partitions that it has not begun are missing.
	Released func(context.Context) (map[int32]int64, error)
	// Feed is the life of the topic that cursors belong to.
	Feed schemas.Feed
	// Heartbeat is the time between two heartbeats of a connection. Default 5 s.
	Heartbeat time.Duration
	// MaxConnections bounds what is open at a time. Default 1,000.
	MaxConnections int
	// MaxPerHost and MaxPerAddress bound what one host and one address have open; 0
	// is no bound of its own. An IPv6 address counts with its /64. Behind a proxy all
	// clients have the proxy's address.
	MaxPerHost, MaxPerAddress int
	// QueueBytes bounds what waits for one connection; above it the connection is
	// let go and resumes. Default 256 KB.
	QueueBytes int64
	// RingBytes bounds the released frames that a partition keeps for those who
	// resume, and again those that it holds until they are released. Default 4 MB.
	RingBytes int64
	// CatchUp is how many records one resume reads from Kafka at most. Default 20,000.
	CatchUp int
	// Drain is the window over which Run lets connections go when it is asked to
	// stop. Default 3 s.
	Drain  time.Duration
	Logger *slog.Logger
	// Registry gets the hub's metrics; nil for none.
	Registry prometheus.Registerer
}

func (o *Options) setDefaults() {
	o.Heartbeat = cmp.Or(o.Heartbeat, 5*time.Second)
	o.MaxConnections = cmp.Or(o.MaxConnections, 1000)
	o.QueueBytes = cmp.Or(o.QueueBytes, 256<<10)
	o.RingBytes = cmp.Or(o.RingBytes, 4<<20)
	o.CatchUp = cmp.Or(o.CatchUp, 20_000)
	o.Drain = cmp.Or(o.Drain, 3*time.Second)
}

// validate refuses what would panic or hang later: tickers need an interval,
// positions need partitions.
func (o *Options) validate() error {
	switch {
	case o.Released == nil:
		return errors.New("the hub needs to know what the sink has released")
	case o.Feed.Partitions < 1:
		return errors.New("the hub needs a feed with partitions")
	case o.Logger == nil:
		return errors.New("the hub needs a logger")
	case o.Heartbeat < 0 || o.Drain < 0 || o.QueueBytes < 0 || o.RingBytes < 0 || o.CatchUp < 0:
		return errors.New("intervals and bounds of the hub cannot be negative")
	}
	return nil
}

// A Hub holds the connections of one replica. Serve may be called from many
// goroutines, before Run and after it: early clients wait, late ones are asked to
// come back.
type Hub struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	parts   []*partition
	reads   *reads

	woken     chan struct{} // capacity 1: a wake that is not read yet is the same wake
	started   chan struct{} // closed, by startOnce, when every partition has its first position
	startOnce sync.Once
	ready     atomic.Bool // the heads that were seen at start are reached
	fresh     freshness
	running   atomic.Bool
	queued    atomic.Int64 // bytes that wait in queues

	mu       sync.Mutex
	draining bool
	conns    map[*conn]struct{}
	hosts    map[schemas.HostID]int
	addrs    map[string]int
	empty    chan struct{} // closed when draining has let the last connection go
}

// New makes a hub that does nothing until Run.
func New(o Options) (*Hub, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	h := &Hub{
		opts: o, log: o.Logger,
		parts:   make([]*partition, o.Feed.Partitions),
		woken:   make(chan struct{}, 1),
		started: make(chan struct{}),
		conns:   map[*conn]struct{}{},
		hosts:   map[schemas.HostID]int{},
		addrs:   map[string]int{},
		empty:   make(chan struct{}),
	}
	epoch := o.Feed.Epoch() // a hash: computed once, not for each frame
	for i := range o.Feed.Partitions {
		h.parts[i] = newPartition(place{epoch, i}, o.RingBytes)
	}
	h.reads = newReads(h.readKafka)
	h.metrics = newMetrics(o.Registry, h)
	return h, nil
}

// Wake says that the sink has committed. It never blocks.
func (h *Hub) Wake() {
	select {
	case h.woken <- struct{}{}:
	default:
	}
}

// errBehind and errDraining are what Ready answers when it is not.
var (
	errStarting = errors.New("the stream has not reached the head that it saw at its start")
	errBehind   = errors.New("the stream is behind what the sink has committed")
	errDraining = errors.New("the stream is letting its connections go")
)

// Ready is nil once the tail has reached the head that was seen at start and what
// the sink has released is known, for as long as it keeps up with the sink, until
// the hub drains. A partition of which more is held back for the sink than fits in
// memory counts as there: it is the sink that is behind, and clients see all that
// they may.
//
// So brokers that nobody can reach, or a sink that stands still, make no replica
// unready: its streams miss nothing that others have, and a process that is not
// ready takes no bookings. A replica that alone cannot reach the brokers hears from
// the sink's positions, which are in Postgres, that it is late.
func (h *Hub) Ready() error {
	h.mu.Lock()
	draining := h.draining
	h.mu.Unlock()
	if draining {
		return errDraining
	}
	if !h.ready.Load() {
		for _, p := range h.parts {
			if !p.caughtUp() {
				return errStarting
			}
		}
		h.ready.Store(true)
	}
	if h.fresh.behind() {
		return errBehind
	}
	return nil
}

// Run tails the topic until ctx ends, then lets the connections go over the drain
// window and returns nil. It returns an error only when the topic is not the one
// that its cursors belong to any more. A hub runs once.
func (h *Hub) Run(ctx context.Context) error {
	if h.running.Swap(true) {
		return errors.New("running the hub a second time")
	}
	// While connections drain, the stream goes on for those that are still here.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	wg.Go(func() { failed <- h.tail(work) })
	wg.Go(func() { h.watchSink(work) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	h.drain()
	stop()
	wg.Wait()
	h.reads.close()
	return err
}

// sleep waits, and says false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
