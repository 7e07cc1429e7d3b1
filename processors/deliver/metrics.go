package deliver

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/schemas"
)

type metrics struct {
	attempts *prometheus.CounterVec
	duration *prometheus.HistogramVec
	parked   map[parkReason]prometheus.Counter
	poison   prometheus.Counter
	repeats  prometheus.Counter
	ours     prometheus.Counter
	refused  prometheus.Counter
	unheld   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, l *lanes) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "krib", Subsystem: "deliver", Name: name, Help: help})
	}
	m := &metrics{
		attempts: f.NewCounterVec(prometheus.CounterOpts{
			Namespace: "krib", Subsystem: "deliver", Name: "attempts_total", Help: "Attempts by outcome and error class.",
		}, []string{"outcome", "error_class"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "krib", Subsystem: "deliver", Name: "attempt_seconds", Help: "Duration of requests by outcome.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30},
		}, []string{"outcome"}),
		parked:  map[parkReason]prometheus.Counter{},
		poison:  counter("poison_total", "Records that could not be decoded."),
		repeats: counter("repeats_total", "Records that were dropped because they had been seen."),
		ours:    counter("ours_total", "Deliveries parked because of our own faults."),
		unheld:  counter("unheld_total", "Deliveries whose order is not kept because too many bookings are held."),
		refused: counter("refused_writes_total", "Writes that Kafka refused."),
	}
	parked := f.NewCounterVec(prometheus.CounterOpts{
		Namespace: "krib", Subsystem: "deliver", Name: "parked_total", Help: "Records parked on a tier, by reason.",
	}, []string{"reason"})
	for _, why := range []parkReason{parkFlood, parkClosed, parkAsked, parkBehind, parkNotBefore, parkOurs, parkHeld, parkTurn} {
		m.parked[why] = parked.WithLabelValues(string(why))
	}
	for _, o := range []schemas.Outcome{schemas.Delivered, schemas.Retry, schemas.Dead, schemas.Gone} {
		m.duration.WithLabelValues(string(o))
	}
	m.attempts.WithLabelValues(string(schemas.Delivered), string(schemas.ErrorNone))
	gauge := func(name, help string, get func() int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "krib", Subsystem: "deliver", Name: name, Help: help},
			func() float64 { return float64(get()) })
	}
	gauge("lanes", "Endpoints with a lane.", func() int { n, _, _, _ := l.counts(); return n })
	gauge("in_flight", "Requests in flight.", func() int { _, n, _, _ := l.counts(); return n })
	gauge("queued", "Records waiting in lanes.", func() int { _, _, n, _ := l.counts(); return n })
	gauge("holds", "Bookings with a delivery outstanding, for subscriptions that want order.", l.holds.count)
	gauge("breakers_open", "Lanes whose breaker is not closed.", func() int { _, _, _, n := l.counts(); return n })
	return m
}

// pausedSeconds registers how long partitions were not fetched.
func pausedSeconds(reg prometheus.Registerer, in *kafka.Parallel) {
	for why, name := range map[kafka.PauseReason]string{kafka.PauseSpan: "span", kafka.PauseLane: "lane"} {
		promauto.With(reg).NewCounterFunc(prometheus.CounterOpts{
			Namespace: "krib", Subsystem: "deliver", Name: "paused_seconds_total", ConstLabels: prometheus.Labels{"reason": name},
			Help: "How long partitions were not fetched, by reason. While one is paused for its span, all of its endpoints wait.",
		}, func() float64 { return in.PausedFor(why).Seconds() })
	}
}

func (m *metrics) attempted(o schemas.Outcome, c schemas.ErrorClass, took time.Duration) {
	m.attempts.WithLabelValues(string(o), string(c)).Inc()
	if took > 0 {
		m.duration.WithLabelValues(string(o)).Observe(took.Seconds())
	}
}

// breakerTurned logs the change of an endpoint's breaker: one line when it opens and
// one when it closes.
func (w *Worker) breakerTurned(to schemas.SubscriptionID, open bool) {
	about := []any{slog.String("subscription_id", string(to))}
	if sub, _ := w.subs.get(to); sub != nil {
		about = append(about, slog.String("agent_id", string(sub.AgentID)), slog.String("endpoint", webhook.Origin(sub.URL)))
	}
	if open {
		w.logger.Warn("the circuit breaker of an endpoint has opened; it gets probes only", about...)
		return
	}
	w.logger.Info("the circuit breaker of an endpoint has closed", about...)
}
