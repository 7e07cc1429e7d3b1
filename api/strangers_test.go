package api_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/schemas"
)

// A lockedBuffer is a log that requests write at once.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestRefusedCredentialsOfAllKindsWriteAFewLines(t *testing.T) {
	var log lockedBuffer
	w := newWorld(t, func(o *api.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	const rounds = 60
	events := "/api/v1/hosts/" + string(hostOne) + "/events"
	for range rounds {
		unknown, _, _ := schemas.NewAPIKey("live")
		c := client{w: w, auth: "Bearer " + unknown.Reveal()}
		c.do("GET", "/api/v1/external/bookings/b/status", nil, "X-Forwarded-For", "203.0.113.9")
		c.do("POST", "/mcp", map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, "X-Forwarded-For", "203.0.113.9")
		client{w: w, auth: "Bearer a.b.c"}.do("GET", "/api/v1/hosts/"+string(hostOne)+"/notifications", nil, "X-Forwarded-For", "203.0.113.9").want(401)
		client{w: w}.do("GET", events, nil, "Cookie", "krib_stream=none", "X-Forwarded-For", "203.0.113.9").want(401)
		client{w: w}.do("POST", "/api/v1/integrations/stripe/webhook", map[string]any{}, "X-Forwarded-For", "203.0.113.9")
	}
	other, _, _ := schemas.NewAPIKey("live")
	client{w: w, auth: "Bearer " + other.Reveal()}.do("GET", "/api/v1/external/bookings/b/status", nil, "X-Forwarded-For", "203.0.113.10").want(401)
	lines := strings.Count(log.String(), "status=401") + strings.Count(log.String(), "status=429")
	if lines < 3 || lines > 30 { // five causes, and another line each ten seconds
		t.Errorf("%d lines for %d refusals:\n%s", lines, 4*rounds, log.String())
	}
	if !strings.Contains(log.String(), "address=203.0.113.10") {
		t.Error("the refusal of another address has no line of its own")
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := 0.0
	for _, f := range families {
		if f.GetName() == "krib_http_unknown_callers_total" {
			for _, m := range f.GetMetric() {
				counted += m.GetCounter().GetValue()
			}
		}
	}
	if counted < 4*rounds+1 {
		t.Errorf("%v of %d refusals are counted", counted, 4*rounds+1)
	}
}
