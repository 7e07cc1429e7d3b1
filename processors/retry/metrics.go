package retry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	moved, poison, refused prometheus.Counter
	late                   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, m *Mover) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "krib", Subsystem: "retry", Name: name, Help: help})
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "krib", Subsystem: "retry", Name: "held", Help: "Records held until they are due.",
	}, func() float64 { return float64(m.holding()) })
	return &metrics{
		moved:   counter("moved_total", "Records moved back to webhook.deliveries."),
		poison:  counter("poison_total", "Records that could not be decoded."),
		refused: counter("refused_writes_total", "Writes that Kafka refused."),
		late: f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "krib", Subsystem: "retry", Name: "late_seconds", Help: "How long after its time a record was moved.",
			Buckets: []float64{.001, .002, .005, .01, .05, .1, .5, 1, 5, 30, 300},
		}),
	}
}
