package push_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/krib-ai/krib/internal/sse/conformance"
)

// Over HTTP/2, which the server of the program does not speak itself, the stream is
// what browsers expect too. Methods, credentials and origins are the API's.
func TestTheStreamOverHTTP2ConformsToWhatBrowsersExpect(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	srv := httptest.NewUnstartedServer(r.srv.Config.Handler)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	target := &conformance.Target{
		URL: srv.URL + "/?host=" + string(host), Client: srv.Client(), Control: []string{"connected", "heartbeat", "resync", "disconnect"}, Position: "last_event_id",
		Publish: func(context.Context, string) error {
			w.notify(host, 1, 10)
			w.flow(r)
			return nil
		},
		Open: func(context.Context) (int, error) { return r.hub.State().Connections, nil },
		End:  func(context.Context) error { r.stop(); return nil },
	}
	const ofTheAPI = "a method that changes something is refused"
	for _, item := range conformance.Items() {
		if item.Name == ofTheAPI {
			continue
		}
		t.Run(item.Name, func(t *testing.T) {
			if err := item.Check(t.Context(), target); err != nil && !errors.Is(err, conformance.ErrNotApplicable) {
				t.Errorf("%v (%s)", err, item.From)
			}
		})
	}
}
