package push

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The results of a resume, beside the resync reasons.
const (
	resumedRing  = "ring"
	resumedKafka = "kafka"
	resumeFailed = "failed"
)

// The closed sets of the labels.
var (
	codes   = []string{string(codeDrain), string(codeSlow), string(codeOverloaded), string(codeExpired), string(codeGone), string(codeStalled)}
	results = []string{
		resumedRing, resumedKafka, resumeFailed, string(resyncRetention), string(resyncEpoch),
		string(resyncPartition), string(resyncTooFar), string(resyncInvalid),
	}
)

// metrics have label values of closed sets only, each there from the start, so
// that a rate over one that has not happened yet is zero and not nothing.
type metrics struct {
	frames      prometheus.Counter
	undecodable prometheus.Counter
	losses      prometheus.Counter
	ends        *prometheus.CounterVec
	resumes     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, h *Hub) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		frames: f.NewCounter(prometheus.CounterOpts{
			Name: "krib_push_frames_total", Help: "Frames written to dashboards.",
		}),
		undecodable: f.NewCounter(prometheus.CounterOpts{
			Name: "krib_push_undecodable_records_total", Help: "Records of the feed that could not be decoded, each time that one was read.",
		}),
		losses: f.NewCounter(prometheus.CounterOpts{
			Name: "krib_push_position_losses_total", Help: "Times that the log had lost a partition's position, and its listeners got a resync.",
		}),
		ends: f.NewCounterVec(prometheus.CounterOpts{
			Name: "krib_push_disconnects_total", Help: "Connections that ended or were refused, by why.",
		}, []string{"code"}),
		resumes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "krib_push_resumes_total", Help: "Connections that came with a cursor, by where what they had missed came from, or why it could not.",
		}, []string{"result"}),
	}
	for _, c := range codes {
		m.ends.WithLabelValues(c)
	}
	for _, r := range results {
		m.resumes.WithLabelValues(r)
	}
	gauges(f, h)
	return m
}

func gauges(f promauto.Factory, h *Hub) {
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "krib_push_connections", Help: "Open streams.",
	}, func() float64 { return float64(h.open()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "krib_push_queue_bytes", Help: "Bytes that wait in the queues of connections.",
	}, func() float64 { return float64(h.queued.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "krib_push_tail_lag_offsets", Help: "Offsets, markers among them, that the tail has to read.",
	}, func() float64 { return float64(h.late().offsets) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "krib_push_tail_lag_seconds", Help: "How long the tail has not reached a position that the notification sink has committed.",
	}, func() float64 { return h.late().tail.Seconds() })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "krib_push_release_lag_seconds", Help: "Age of the oldest record that waits for the notification sink.",
	}, func() float64 { return h.late().sink.Seconds() })
}

func (m *metrics) end(c code)           { m.ends.WithLabelValues(string(c)).Inc() }
func (m *metrics) resume(result string) { m.resumes.WithLabelValues(result).Inc() }

func (h *Hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// late adds up the offsets of all partitions and takes the worst of the times.
func (h *Hub) late() (out lateness) {
	now := time.Now()
	for _, p := range h.parts {
		l := p.lateness(now)
		out.offsets, out.due = out.offsets+l.offsets, out.due+l.due
		out.tail, out.sink = max(out.tail, l.tail), max(out.sink, l.sink)
	}
	return out
}
