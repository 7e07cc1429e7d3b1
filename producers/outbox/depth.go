package outbox

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/store"
)

const (
	// depthFor is how long a count is served before it is made again: scrapes and
	// whoever else reads the metrics cost Postgres one short query in this time.
	depthFor = 5 * time.Second
	// depthWithin bounds the query; without an answer there are no figures.
	depthWithin = 2 * time.Second
)

// A Depth reports what waits in the outbox, from any process that has the database:
// when the relay or its broker is gone, the others show it.
type Depth struct {
	look func(context.Context) (store.OutboxState, error)
	now  func() time.Time

	rows, oldest, lag, aside *prometheus.Desc

	mu    sync.Mutex
	state store.OutboxState
	err   error
	at    time.Time // when it was counted
}

// NewDepth makes the collector of a database's outbox.
func NewDepth(db *store.DB) *Depth { return newDepth(db.OutboxState, time.Now) }

func newDepth(look func(context.Context) (store.OutboxState, error), now func() time.Time) *Depth {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &Depth{
		look: look, now: now,
		rows:   desc("krib_outbox_rows", "Rows that wait in the outbox for the relay, counted to 10000 at most."),
		oldest: desc("krib_outbox_oldest_seconds", "Age of the oldest row of the outbox; 0 when it is empty."),
		lag:    desc("krib_outbox_lag_seconds", "As krib_outbox_oldest_seconds, under its former name."),
		aside:  desc("krib_outbox_set_aside_rows", "Rows that Kafka refused for good. Alert on any."),
	}
}

// Describe implements prometheus.Collector.
func (d *Depth) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{d.rows, d.oldest, d.lag, d.aside} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector. While Postgres does not answer it reports
// nothing: a figure from before would look like one of now.
func (d *Depth) Collect(ch chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at.IsZero() || d.now().Sub(d.at) >= depthFor {
		ctx, cancel := context.WithTimeout(context.Background(), depthWithin)
		defer cancel()
		d.state, d.err = d.look(ctx)
		d.at = d.now()
	}
	if d.err != nil {
		return
	}
	gauge := func(desc *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v)
	}
	age := d.state.Age
	if d.state.Rows > 0 {
		age += d.now().Sub(d.at) // it grew since it was read
	}
	gauge(d.rows, float64(d.state.Rows))
	gauge(d.oldest, age.Seconds())
	gauge(d.lag, age.Seconds())
	gauge(d.aside, float64(d.state.SetAside))
}
