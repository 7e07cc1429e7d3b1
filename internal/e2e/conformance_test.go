//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/krib-ai/krib/internal/sse/conformance"
)

// Both streams do what the tests of browsers expect of a server; none of the items
// has nothing to look at but those that are named here.
func TestTheStreamsConformToWhatBrowsersExpect(t *testing.T) {
	t.Parallel()
	const origin = "https://page.example"
	for name, of := range map[string]func(*krib) (target *conformance.Target, without []string){
		"the host's": hostStream, "the agent's": agentStream,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := startHere(t, "SSE_HEARTBEAT_INTERVAL=200ms", "KRIB_CORS_ORIGINS="+origin)
			target, without := of(k)
			target.Control, target.Origin = []string{"connected", "heartbeat", "resync", "disconnect"}, origin
			target.End = func(context.Context) error { k.stop(); return nil }
			left := map[string]bool{"https is served over HTTP/2 too, without headers of the connection": true} // TLS ends before Krib
			for _, name := range without {
				left[name] = true
			}
			for _, item := range conformance.Items() {
				t.Run(item.Name, func(t *testing.T) {
					err := item.Check(t.Context(), target)
					if left[item.Name] != errors.Is(err, conformance.ErrNotApplicable) || err != nil && !left[item.Name] {
						t.Errorf("%v (%s)", err, item.From)
					}
				})
			}
		})
	}
}

func hostStream(k *krib) (target *conformance.Target, without []string) {
	path := "/api/v1/hosts/" + k.HostID + "/events"
	return &conformance.Target{
		URL: k.APIURL + path, Header: http.Header{"Authorization": {"Bearer " + k.HostToken}}, Verbatim: true, Position: "last_event_id",
		Publish: func(ctx context.Context, text string) error {
			a, err := k.try(ctx, http.MethodPost, path+"/send", k.HostToken, object{"text": text})
			return answered(a, err)
		},
		Open: func(ctx context.Context) (int, error) {
			a, err := k.try(ctx, http.MethodGet, "/api/v1/sse/statistics", k.APIKey, nil)
			if err := answered(a, err); err != nil {
				return 0, err
			}
			return int(a.number("total_connections")), nil
		},
	}, nil
}

func agentStream(k *krib) (target *conformance.Target, without []string) {
	var n atomic.Int64
	return &conformance.Target{
		URL: k.APIURL + "/api/v1/external/events/stream?types=booking.created", Header: http.Header{"Authorization": {"Bearer " + k.APIKey}}, Verbatim: true, Position: "after",
		Publish: func(ctx context.Context, text string) error {
			stay := k.stay(int(n.Add(1)))
			stay["special_requests"] = text
			a, err := k.try(ctx, http.MethodPost, "/api/v1/bookings", k.APIKey, stay)
			return answered(a, err)
		},
	}, []string{"a client that leaves is let go"}
}

func answered(a *answer, err error) error {
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%d %s", a.Status, a.Raw)
	}
	return err
}
