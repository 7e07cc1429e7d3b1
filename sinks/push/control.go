package push

import (
	"time"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// A resyncReason says why a cursor cannot be resumed.
type resyncReason string

// The reasons. The client reads the state anew and goes on from there.
const (
	resyncRetention resyncReason = "retention" // the topic has forgotten what follows it
	resyncEpoch     resyncReason = "epoch"     // it belongs to another life of the topic
	resyncPartition resyncReason = "partition" // it belongs to another host's partition
	resyncTooFar    resyncReason = "too_far"   // reading all that follows would take too long
	resyncInvalid   resyncReason = "invalid"   // no stream has given it
)

// A code says why a connection ends.
type code string

// The codes. The first four are told to the client; the others are ends that
// nobody is there to hear of.
const (
	codeDrain      code = "drain"
	codeSlow       code = "slow_consumer"
	codeOverloaded code = "overloaded"
	codeExpired    code = "token_expired"
	codeGone       code = "gone"
	codeStalled    code = "stalled" // it took nothing for as long as a write may last
	codeNone       code = ""        // it goes on
)

// An ending is why the hub ends a connection.
type ending struct {
	code   code
	reason string
}

type connectedData struct {
	Type      string         `json:"type"`
	HostID    schemas.HostID `json:"host_id"`
	Timestamp time.Time      `json:"timestamp"`
	Cursor    string         `json:"cursor"`
	Recovered bool           `json:"recovered"`
	Missed    int            `json:"missed"`
	Head      string         `json:"head"`
	// HeartbeatMS is the time between two heartbeats: what is silent for longer than
	// two of them has died.
	HeartbeatMS int64 `json:"heartbeat_ms"`
}

type heartbeatData struct {
	Type       string    `json:"type"`
	Timestamp  time.Time `json:"timestamp"`
	ServerTime time.Time `json:"server_time"`
	LagMS      int64     `json:"lag_ms"` // how late the newest frames may be
	Behind     bool      `json:"behind"` // whether that is more than one should call live
}

type resyncData struct {
	Type      string       `json:"type"`
	Reason    resyncReason `json:"reason"`
	Cursor    string       `json:"cursor"`
	Timestamp time.Time    `json:"timestamp"`
}

type disconnectData struct {
	Type      string    `json:"type"`
	Code      code      `json:"code"`
	Reason    string    `json:"reason"`
	RetryMS   int64     `json:"retry_ms"`
	Terminal  bool      `json:"terminal"`
	Timestamp time.Time `json:"timestamp"`
}

// control makes a frame of the hub's own. Its data are strings of ours, numbers
// and the time of now, which always encode, on one line.
func control(retry time.Duration, id, event string, data any) []byte {
	b, err := schemas.Encode(data)
	if err == nil {
		b, err = sse.Append(nil, retry, id, event, b)
	}
	if err != nil {
		panic("push: a control frame did not encode: " + err.Error())
	}
	return b
}

func heartbeat(id schemas.Cursor, now time.Time, lag time.Duration) frame {
	now = schemas.Stamp(now)
	data := heartbeatData{"heartbeat", now, now, lag.Milliseconds(), lag >= saysBehind}
	return frame{control(0, id.String(), "heartbeat", data), id.Next}
}

func resync(head schemas.Cursor, reason resyncReason, now time.Time) frame {
	data := resyncData{"resync", reason, head.String(), schemas.Stamp(now)}
	return frame{control(0, head.String(), "resync", data), head.Next}
}

// disconnect never says terminal: whatever ends here may be tried again.
func disconnect(id string, e ending, retry time.Duration, now time.Time) []byte {
	data := disconnectData{"disconnect", e.code, e.reason, retry.Milliseconds(), false, schemas.Stamp(now)}
	return control(retry, id, "disconnect", data)
}

// patience is how long a client is asked to wait before it comes back: another
// time for each, so that those who left together do not return together.
func patience() time.Duration { return sse.Between(2*time.Second, 6*time.Second) }

// longPatience is for those who are refused.
func longPatience() time.Duration { return sse.Between(15*time.Second, 30*time.Second) }
