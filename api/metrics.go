package api

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	refused  *prometheus.CounterVec
}

// newMetrics registers nothing when reg is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "krib_http_requests_total", Help: "Requests that were answered, by route pattern.",
		}, []string{"method", "route", "status"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "krib_http_unknown_callers_total", Help: "Requests that were refused for their credentials, by the code of the error.",
		}, []string{"code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "krib_http_request_duration_seconds", Help: "Time to answer a request; streams are left out.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method", "route"}),
	}
}

// served counts a request. Its labels come from closed sets: a method that no
// route has is "other".
func (m *metrics) served(method, route string, status int, took time.Duration) {
	switch method {
	case "GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD":
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	if !strings.HasSuffix(route, "/events") { // a stream's length says nothing of its speed
		m.duration.WithLabelValues(method, route).Observe(took.Seconds())
	}
}
