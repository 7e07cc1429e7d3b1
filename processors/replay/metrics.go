package replay

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	jobs                           *prometheus.CounterVec
	running                        prometheus.Gauge
	read, sent, unreadable, faults prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "krib", Subsystem: "replay", Name: name, Help: help})
	}
	return &metrics{
		jobs: f.NewCounterVec(prometheus.CounterOpts{
			Namespace: "krib", Subsystem: "replay", Name: "jobs_total", Help: "Replays that ended in this process, by how.",
		}, []string{"state"}),
		running: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "krib", Subsystem: "replay", Name: "running", Help: "Replays that this process works on now.",
		}),
		read:       counter("events_read_total", "Booking events that replays have read."),
		sent:       counter("deliveries_total", "Deliveries that replays have written."),
		unreadable: counter("unreadable_total", "Booking events that a replay could not decode and left out; fan-out has put them on krib.poison."),
		faults:     counter("interrupted_total", "Turns of a replay that a fault of the broker or the database has ended."),
	}
}
