package jobs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/krib-ai/krib/producers"
)

type metrics struct {
	runs, rows, steps *prometheus.CounterVec
	seconds           *prometheus.HistogramVec
	succeeded         *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "krib", Subsystem: "jobs", Name: name, Help: help}, labels)
	}
	return &metrics{
		runs:  counter("runs_total", "Runs of a job in this process, by how they ended.", "job", "outcome"),
		rows:  counter("rows_total", "Rows that a job has changed or removed.", "job"),
		steps: counter("request_steps_total", "Steps of requests that waited for their host.", "step"),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "krib", Subsystem: "jobs", Name: "run_seconds", Help: "How long a run of a job took.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30, 300},
		}, []string{"job"}),
		succeeded: f.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "krib", Subsystem: "jobs", Name: "last_success_timestamp_seconds",
			Help: "When a job last ended well in this process; the latest of all replicas is the cluster's.",
		}, []string{"job"}),
	}
}

func (m *metrics) ran(job string, rows int64, began time.Time, err error) {
	m.seconds.WithLabelValues(job).Observe(time.Since(began).Seconds())
	if err != nil {
		m.runs.WithLabelValues(job, "failed").Inc()
		return
	}
	m.runs.WithLabelValues(job, "done").Inc()
	m.rows.WithLabelValues(job).Add(float64(rows))
	m.succeeded.WithLabelValues(job).SetToCurrentTime()
}

func (m *metrics) stepped(s producers.Steps) {
	m.steps.WithLabelValues("expired").Add(float64(s.Expired))
	m.steps.WithLabelValues("half").Add(float64(s.Half))
	m.steps.WithLabelValues("nine_tenths").Add(float64(s.NineTenths))
}
