package email

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	queued, poison, unreachable prometheus.Counter
	dropped, attempts           *prometheus.CounterVec
	seconds                     prometheus.Histogram
}

// Why something was not mailed.
const (
	old      = "old"      // it had happened too long before its record was read
	stale    = "stale"    // it had waited too long in the queue
	expired  = "expired"  // there was nothing left to tell
	unwanted = "unwanted" // its host has switched mail off since
)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "krib", Subsystem: "email", Name: name, Help: help}
	}
	m := &metrics{
		queued:      f.NewCounter(counter("queued_total", "Things that somebody is to be told by mail.")),
		poison:      f.NewCounter(counter("poison_total", "Records that could not be decoded. Alert on any.")),
		unreachable: f.NewCounter(counter("unreachable_total", "Connections to the mail server that could not be made. Mail waits meanwhile.")),
		dropped:     f.NewCounterVec(counter("dropped_total", "Things that were not mailed, by why."), []string{"reason"}),
		attempts:    f.NewCounterVec(counter("attempts_total", "Mails that were handed to the server, by what came of it. Refused ones are not tried again."), []string{"outcome"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "krib", Subsystem: "email", Name: "wait_seconds", Help: "From what happened to its mail's leaving, digests and quiet hours included.",
			Buckets: []float64{.1, .5, 1, 5, 30, 60, 120, 600, 3600, 6 * 3600, 24 * 3600},
		}),
	}
	for _, why := range []string{old, stale, expired, unwanted} {
		m.dropped.WithLabelValues(why)
	}
	for v := range verdicts {
		m.attempts.WithLabelValues(v.String())
	}
	return m
}
