package pull

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics have label values of closed sets only, each there from the start.
type metrics struct {
	polled, streamed, undecodable, losses, history prometheus.Counter
	ends                                           *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, l *Log) *metrics {
	f := promauto.With(reg)
	events := f.NewCounterVec(prometheus.CounterOpts{
		Name: "krib_pull_events_total", Help: "Events that agents have fetched, by how.",
	}, []string{"how"})
	m := &metrics{
		polled: events.WithLabelValues("poll"), streamed: events.WithLabelValues("stream"),
		undecodable: f.NewCounter(prometheus.CounterOpts{
			Name: "krib_pull_undecodable_records_total", Help: "Booking events that could not be decoded, each time that one was read.",
		}),
		losses: f.NewCounter(prometheus.CounterOpts{
			Name: "krib_pull_position_losses_total", Help: "Times that the log had lost the position of a partition. Alert on any.",
		}),
		history: f.NewCounter(prometheus.CounterOpts{
			Name: "krib_pull_history_reads_total", Help: "Readings of Kafka for cursors older than what is in memory.",
		}),
		ends: f.NewCounterVec(prometheus.CounterOpts{
			Name: "krib_pull_disconnects_total", Help: "Streams that ended, and streams and polls that were refused, by why.",
		}, []string{"code"}),
	}
	for _, c := range codes() {
		m.ends.WithLabelValues(string(c))
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "krib_pull_readers", Help: "Streams and polls that go on.",
	}, func() float64 { return float64(l.open()) })
	return m
}

func (m *metrics) end(c code) { m.ends.WithLabelValues(string(c)).Inc() }
