package push

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/krib-ai/krib/schemas"
)

// A State is what this replica's hub has and has done since it started. It counts
// nobody else's connections: each replica has a state of its own.
type State struct {
	Connections, MaxConnections int
	MaxPerHost                  int // 0 is no bound of its own
	Hosts                       int // with at least one connection
	Heartbeat                   time.Duration
	QueueBytes                  int64 // that wait in all queues
	Frames                      int64 // written
	Resumes                     map[string]int64
	Disconnects                 map[string]int64
	LagOffsets                  int64         // of the log, that the tail has to read
	TailLag                     time.Duration // for which it has not reached a position of the sink
	SinkLag                     time.Duration // for which the oldest record waits for the sink
	Ready                       bool
}

// State looks at the hub.
func (h *Hub) State() State {
	h.mu.Lock()
	connections, hosts := len(h.conns), len(h.hosts)
	h.mu.Unlock()
	l := h.late()
	return State{
		Connections: connections, MaxConnections: h.opts.MaxConnections, MaxPerHost: h.opts.MaxPerHost, Hosts: hosts, Heartbeat: h.opts.Heartbeat,
		QueueBytes: h.queued.Load(), Frames: value(h.metrics.frames), Resumes: values(h.metrics.resumes, results),
		Disconnects: values(h.metrics.ends, codes), LagOffsets: l.offsets, TailLag: l.tail, SinkLag: l.sink, Ready: h.Ready() == nil,
	}
}

// Of is how many streams a host has here and how late their frames may be, as
// their heartbeats say.
func (h *Hub) Of(host schemas.HostID) (connections int, lag time.Duration) {
	h.mu.Lock()
	connections = h.hosts[host]
	h.mu.Unlock()
	l := h.parts[h.opts.Feed.Partition(host)].lateness(time.Now())
	return connections, max(l.tail, l.sink)
}

func values(v *prometheus.CounterVec, labels []string) map[string]int64 {
	out := make(map[string]int64, len(labels))
	for _, l := range labels {
		out[l] = value(v.WithLabelValues(l))
	}
	return out
}

// value reads what Prometheus reads; a counter has no other way to tell.
func value(c prometheus.Counter) int64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return 0 // a counter always writes
	}
	return int64(m.GetCounter().GetValue())
}
