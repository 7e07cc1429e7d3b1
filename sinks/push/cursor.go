package push

import (
	"net/http"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// A request is the position that a client asks for.
type request struct {
	given  bool
	cursor schemas.Cursor // to be echoed; never what a client wrote that is no cursor
	reason resyncReason   // why it cannot be resumed; empty when it may
}

// askedFor reads the position.
func askedFor(r *http.Request, p place) request {
	text := sse.LastEventID(r, "last_event_id")
	if text == "" {
		return request{}
	}
	c, err := schemas.ParseCursor(text)
	switch {
	case err != nil:
		return request{given: true, cursor: nowhere(p), reason: resyncInvalid}
	case c.Epoch != p.epoch:
		return request{given: true, cursor: c, reason: resyncEpoch}
	case c.Partition != p.partition:
		return request{given: true, cursor: c, reason: resyncPartition}
	}
	return request{given: true, cursor: c}
}

// nowhere is the cursor of no stream. A client that asked for garbage gets it as
// the id of connected. With the head there instead: it reads connected, loses the
// connection before the resync behind it, comes back with the head, and never
// learns that it missed something.
func nowhere(p place) schemas.Cursor {
	return schemas.Cursor{Epoch: "0000000000", Partition: p.partition}
}
