package app

import (
	"fmt"
	"net/http"
	"time"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/push"
)

// hubStream is the hub in the API's words; neither knows the other.
type hubStream struct{ *push.Hub }

func (h hubStream) State() api.StreamState { return api.StreamState(h.Hub.State()) }

// noStream answers where this process has no hub; another one of the installation
// has.
type noStream struct{}

func (n noStream) Serve(w http.ResponseWriter, r *http.Request, h schemas.HostID, _ time.Time, _ schemas.FeedFilter) {
	n.Refuse(w, r, h, "this process serves no streams")
}

func (noStream) Refuse(w http.ResponseWriter, _ *http.Request, _ schemas.HostID, reason string) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = fmt.Fprintf(w, "retry: 5000\nevent: disconnect\ndata: {\"type\":\"disconnect\",\"code\":\"no_stream\",\"reason\":%q,\"retry_ms\":5000,\"terminal\":false}\n\n", reason)
}

func (noStream) Of(schemas.HostID) (int, time.Duration) { return 0, 0 }

func (noStream) State() api.StreamState { return api.StreamState{} }
