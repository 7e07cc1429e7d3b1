package api

import (
	"net/http"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/schemas"
)

// What the contract answers here has no envelope. The numbers of connections are
// those of this process, at this moment: every replica delivers what was sent, and
// none knows the others' clients.
type customSent struct {
	Status      string          `json:"status"`
	HostID      schemas.HostID  `json:"host_id"`
	Event       json.RawMessage `json:"event"`
	Connections int             `json:"connections_notified"`
}

func (s *server) sendCustom(r *http.Request, p auth.Principal) (answer, error) {
	_, body, err := decode[struct{}](r, lenient)
	if err != nil {
		return answer{}, err
	}
	once, err := idempotency(r, body)
	if err != nil {
		return answer{}, err
	}
	sent, err := s.o.Producer.SendCustom(r.Context(), p.Scope(), once, body)
	if err != nil {
		return answer{}, err
	}
	v := customSent{Status: "sent", HostID: p.Host, Event: sent.Event}
	if s.o.Stream != nil {
		v.Connections, _ = s.o.Stream.Of(p.Host)
	}
	return answer{data: v, bare: true}, nil
}

type broadcastSent struct {
	Status string          `json:"status"`
	Event  json.RawMessage `json:"event"`
	Total  int             `json:"total_connections"`
}

func (s *server) broadcast(r *http.Request, p auth.Principal) (answer, error) {
	if !p.Platform {
		return answer{}, schemas.Errorf(schemas.Forbidden, "platform_only", "only a platform key may announce to every host")
	}
	_, body, err := decode[struct{}](r, lenient)
	if err != nil {
		return answer{}, err
	}
	once, err := idempotency(r, body)
	if err != nil {
		return answer{}, err
	}
	sent, err := s.o.Producer.Announce(r.Context(), p.Scope(), once, body)
	if err != nil {
		return answer{}, err
	}
	v := broadcastSent{Status: "broadcast_sent", Event: sent.Event}
	if s.o.Stream != nil {
		v.Total = s.o.Stream.State().Connections
	}
	return answer{data: v, bare: true}, nil
}

// A StreamState is what the streams of this process come to.
type StreamState struct {
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

// ownStreams are the contract's members, as far as a host may know them: all of
// its own. What others have, it is not told.
type ownStreams struct {
	TotalConnections  int       `json:"total_connections"`
	MaxConnections    int       `json:"max_connections"`
	HeartbeatInterval float64   `json:"heartbeat_interval"` // seconds
	UserConnections   int       `json:"user_connections"`
	LagMS             int64     `json:"lag_ms"`
	Timestamp         time.Time `json:"timestamp"`
}

// allStreams are an administrator's.
type allStreams struct {
	ownStreams

	Hosts       int              `json:"hosts"`
	QueueBytes  int64            `json:"queue_bytes"`
	Frames      int64            `json:"frames_sent"`
	Resumes     map[string]int64 `json:"resumes"`
	Disconnects map[string]int64 `json:"disconnects"`
	LagOffsets  int64            `json:"lag_offsets"`
	SinkLagMS   int64            `json:"sink_lag_ms"`
	Ready       bool             `json:"ready"`
}

var errNoStream = schemas.Errorf(schemas.Unavailable, "no_stream", "this process serves no event stream")

func (s *server) hostStreams(_ *http.Request, p auth.Principal) (answer, error) {
	if s.o.Stream == nil {
		return answer{}, errNoStream
	}
	state := s.o.Stream.State()
	n, lag := s.o.Stream.Of(p.Host)
	most := state.MaxConnections
	if state.MaxPerHost > 0 {
		most = min(most, state.MaxPerHost)
	}
	return answer{data: ownStreams{n, most, state.Heartbeat.Seconds(), n, lag.Milliseconds(), schemas.Stamp(time.Now())}}, nil
}

func (s *server) streams(_ *http.Request, _ auth.Principal) (answer, error) {
	if s.o.Stream == nil {
		return answer{}, errNoStream
	}
	st := s.o.Stream.State()
	return answer{data: allStreams{
		ownStreams: ownStreams{
			TotalConnections: st.Connections, MaxConnections: st.MaxConnections, HeartbeatInterval: st.Heartbeat.Seconds(),
			LagMS: max(st.TailLag, st.SinkLag).Milliseconds(), Timestamp: schemas.Stamp(time.Now()),
		},
		Hosts: st.Hosts, QueueBytes: st.QueueBytes, Frames: st.Frames, Resumes: st.Resumes, Disconnects: st.Disconnects,
		LagOffsets: st.LagOffsets, SinkLagMS: st.SinkLag.Milliseconds(), Ready: st.Ready,
	}}, nil
}
