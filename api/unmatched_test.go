package api_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/internal/testenv"
)

// A caller that is configured with a wrong base URL is found by the path of its
// requests; its secrets are not.
func TestWhatIsNoRouteIsLoggedWithItsPath(t *testing.T) {
	log := &testenv.Output{}
	w := newWorld(t, func(o *api.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	nobody := client{w: w}
	key := strings.TrimPrefix(w.key("bookings:read").auth, "Bearer ")
	long := "/" + strings.Repeat("x", 1000)
	for _, c := range []struct {
		method, path string
		status       int
		want         string // of the log; empty for no path at all
	}{
		{"GET", "/api/v2/bookings", 404, `path=/api/v2/bookings`},
		{"POST", "/api/api/v1/bookings", 404, `path=/api/api/v1/bookings`},
		{"GET", "/api/v1/bookings/", 404, `path=/api/v1/bookings/`},
		{"GET", "/api/v1//bookings", 404, `path=/api/v1//bookings`},
		{"PATCH", "/api/v1/bookings", 405, `path=/api/v1/bookings`},
		{"DELETE", "/api/v1/external/bookings/bkg_1/status", 405, `path=/api/v1/external/bookings/bkg_1/status`},
		{"GET", "/none?token=secret-1", 404, `path=/none`},
		{"GET", "/none%3Ftoken=secret-2", 404, `path=/none`},
		{"GET", "/none%3ftoken=secret-3", 404, `path=/none`},
		{"GET", "/none/" + key, 404, `path=/none/krib_REDACTED`},
		{"GET", "/" + key + "/bookings", 404, `path=/krib_REDACTED/bookings`},
		{"GET", "/none/whsec_secret-4", 404, `path=/none/whsec_REDACTED`},
		{"GET", "/none/eyJhbGciOi.secret-5.x", 404, `path=/none/eyJREDACTED`},
		{"GET", "/none/Bearer%20secret-6", 404, `path=/none/BearerREDACTED`},
		{"GET", "/a%0Alevel=ERROR", 404, `path="/a%0Alevel=ERROR"`},
		{"GET", "/k%C3%B6ln/%E2%80%AE", 404, `path=/k%C3%B6ln/%E2%80%AE`},
		{"GET", "/%1b%5B31m", 404, `path=/%1b%5B31m`},
		{"GET", long, 404, `path=` + long[:200] + `...`},
		{"GET", "/api/v1/external/bookings/secret-7/status", 401, ""}, // a route: its pattern is its name
	} {
		before := len(log.String())
		nobody.do(c.method, c.path, nil).want(c.status)
		var line string
		testenv.Eventually(t, "the line is written", func() bool {
			line = log.String()[before:]
			return strings.Contains(line, "request served")
		})
		if c.want == "" && strings.Contains(line, " path=") || !strings.Contains(line+"\n", c.want) || c.want != "" && !strings.Contains(strings.TrimSpace(line)+" ", c.want+" ") {
			t.Errorf("%s %s: logged %q, want %q", c.method, c.path, line, c.want)
		}
	}
	if strings.Contains(log.String(), "secret-") || strings.Contains(log.String(), key) {
		t.Errorf("a secret is in the log: %s", log.String())
	}
}
