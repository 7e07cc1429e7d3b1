package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// open are the routes that need no credentials.
var open = map[string]bool{
	"GET /": true, "GET /health": true, "GET /healthz": true, "GET /api/health": true, "GET /api/openapi.json": true, "GET /llms.txt": true,
	"GET /api/asyncapi.json": true, "GET /api/schemas/v1/{schema}.json": true,
	"POST /api/v1/integrations/stripe/webhook": true, // signed
}

// protected lists all other routes with a path that fits them.
func protected(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := chi.Walk(api.New(api.Options{Logger: testenv.Logger(t)}).(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if name := method + " " + route; !open[name] {
			out[name] = strings.NewReplacer("{host_id}", string(hostOne), "{booking_id}", "b", "{property_id}", "p", "{subscription_id}", "s", "{notification_id}", "n", "{key_id}", "k").Replace(route)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// isHosts says whether a route is a host's own.
func isHosts(name string) bool {
	return strings.Contains(name, " /api/v1/hosts/") && name != "POST /api/v1/hosts/{host_id}/notifications"
}

// isBoth says whether a route serves agents and hosts, each in its own way.
func isBoth(name string) bool { return name == "GET /api/v1/sse/statistics" }

func TestEveryRouteWantsTheRightCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, token := w.key("admin"), w.host(hostOne)
	sign := func(m jwt.SigningMethod, k any, c jwt.Claims) string {
		s, err := jwt.NewWithClaims(m, c).SignedString(k)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + s
	}
	at := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(time.Now().Add(d)) }
	claims := func(change func(*jwt.RegisteredClaims)) jwt.RegisteredClaims {
		c := jwt.RegisteredClaims{Subject: string(hostOne), ExpiresAt: at(time.Hour)}
		change(&c)
		return c
	}
	bad := []string{
		"", "Bearer", "Bearer ", "Basic dTpw", "Bearer nonsense", "Bearer krib_test_" + strings.Repeat("0", 32), "Bearer krib_" + strings.Repeat("x", 5000), key.auth + "0",
		sign(jwt.SigningMethodHS256, jwtSecret, claims(func(c *jwt.RegisteredClaims) { c.ExpiresAt = at(-time.Minute) })),
		sign(jwt.SigningMethodHS256, jwtSecret, claims(func(c *jwt.RegisteredClaims) { c.ExpiresAt = nil })),
		sign(jwt.SigningMethodHS256, jwtSecret, claims(func(c *jwt.RegisteredClaims) { c.NotBefore = at(time.Minute) })),
		sign(jwt.SigningMethodHS256, jwtSecret, claims(func(c *jwt.RegisteredClaims) { c.Subject = "" })),
		sign(jwt.SigningMethodHS256, []byte("another secret of the same length...."), claims(func(*jwt.RegisteredClaims) {})),
		sign(jwt.SigningMethodHS384, jwtSecret, claims(func(*jwt.RegisteredClaims) {})),
		sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(func(*jwt.RegisteredClaims) {})),
	}
	for name, path := range protected(t) {
		method, _, _ := strings.Cut(name, " ")
		wrong := []string{key.auth}
		switch {
		case isBoth(name):
			wrong = nil
		case !isHosts(name):
			wrong = []string{token.auth}
		}
		for _, header := range append(wrong, bad...) {
			if got := (client{w: w, auth: header}).do(method, path, nil).want(401).header.Get("WWW-Authenticate"); got != "Bearer" {
				t.Errorf("WWW-Authenticate %q", got)
			}
		}
		switch {
		case isHosts(name):
			w.host(hostTwo).do(method, path, nil).refused(403, "not_your_host")
		case name == "POST /mcp": // any key may talk to it; each tool wants its scope
		default:
			other := "events:read" // a scope that does not allow it
			if strings.HasPrefix(path, "/api/v1/external/events") {
				other = "bookings:read"
			}
			w.key(other).do(method, path, nil).refused(403, "missing_scope")
		}
	}
	if n := w.outbox(); n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestAKeyDiesWhenItIsRevokedOrExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, end := range []string{`update api_keys set revoked_at = now() where id = $1`, `update api_keys set expires_at = now() where id = $1`} {
		a := w.key("webhooks:manage")
		a.do("GET", hooksPath, nil).want(200)
		w.exec(end, a.key)
		a.do("GET", hooksPath, nil).refused(401, "invalid_api_key")
	}
}

func TestScopesAllowOneThingEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reader, writer, admin := w.key("bookings:read"), w.key("bookings:write"), w.key("platform", "admin")
	reader.do("POST", "/api/v1/bookings", stay(7)).refused(403, "missing_scope")
	writer.do("GET", "/api/v1/properties/"+home, nil).refused(403, "missing_scope")
	reader.do("POST", hooksPath, hook("https://a.example")).refused(403, "missing_scope")
	admin.book(7)
	admin.do("POST", hooksPath, hook("https://a.example")).want(200)
}

func TestAnAgentSeesNothingOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, platform := w.key("admin"), w.key("admin"), w.key("platform", "admin")
	id := a.book(7)
	sub := hooksPath + "/" + a.do("POST", hooksPath, hook("https://a.example")).want(200).text("data.id")
	before := w.outbox()
	b.do("GET", statusPath(id), nil).refused(404, "booking_not_found")
	b.do("PUT", statusPath(id), map[string]any{"status": "cancelled"}).refused(404, "booking_not_found")
	b.do("GET", sub, nil).refused(404, "subscription_not_found")
	b.do("PUT", sub, hook("https://b.example")).refused(404, "subscription_not_found")
	b.do("DELETE", sub, nil).refused(404, "subscription_not_found")
	b.do("GET", hooksPath, nil).want(200).is("data.total_count", 0)
	b.do("GET", "/api/v1/external/webhooks/statistics", nil).want(200).is("data.total_subscriptions", 0)
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
	platform.do("GET", statusPath(id), nil).want(200)
	platform.do("GET", sub, nil).want(200)
	a.do("GET", statusPath(id), nil).want(200).is("data.status", "pending")
}

func TestTheDatabaseItselfHidesOtherAgentsRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	a.do("POST", paymentsPath(a.book(7)), payment("5", "p1")).want(200)
	a.do("POST", hooksPath, hook("https://a.example")).want(200)
	w.key("platform", "admin").do("POST", inbox(hostOne), note("x")).want(200)
	for _, scope := range []store.Scope{{}, {Agent: "another"}, {Host: hostTwo}, {Agent: "' or true --"}, {Agent: `\' or true --`}} {
		err := w.db.Read(t.Context(), scope, func(ctx context.Context, tx *store.Tx) error {
			if _, n, err := tx.Subscriptions(ctx, store.SubscriptionFilter{Limit: 10}); err != nil || n != 0 {
				t.Errorf("%+v sees %d subscriptions, %v", scope, n, err)
			}
			if p, err := tx.PendingBookings(ctx, hostOne, 10, 0); err != nil || p.Total != 0 {
				t.Errorf("%+v sees %d bookings, %v", scope, p.Total, err)
			}
			if p, err := tx.Notifications(ctx, hostOne, store.NotificationFilter{Limit: 10}, "", 0); err != nil || p.Total != 0 {
				t.Errorf("%+v sees %d notifications, %v", scope, p.Total, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tx, err := w.sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `set local role krib_api`); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"bookings", "webhook_subscriptions", "webhook_health", "host_notifications", "idempotency_keys", "payments", "stripe_events", "agents"} {
		var n int
		if err := tx.QueryRow(t.Context(), `select count(*) from `+table).Scan(&n); err != nil || n != 0 {
			t.Errorf("krib_api without a scope sees %d rows of %s, %v", n, table, err)
		}
	}
	for _, table := range []string{"api_keys", "outbox", "job_runs"} {
		sp, err := tx.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sp.Exec(t.Context(), `select * from `+table); err == nil {
			t.Errorf("krib_api can read %s", table)
		}
		sp.Rollback(t.Context())
	}
}

func TestAKeysRateLimitIsOfTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.key("admin"), w.key("admin")
	w.exec(`update api_keys set rate_limit_per_minute = 6 where id in ($1, $2)`, a.key, b.key)
	// By key, whatever the path and whichever id stands in it.
	for used, path := range []string{"/api/v1/properties/none", hooksPath, statusPath("x"), statusPath("y"), hooksPath + "/a", hooksPath + "/b"} {
		h := a.do("GET", path, nil).header
		if h.Get("RateLimit-Limit") != "6" || h.Get("RateLimit-Remaining") != fmt.Sprint(5-used) || h.Get("RateLimit-Reset") == "" {
			t.Errorf("headers %v", h)
		}
	}
	a.do("GET", statusPath("z"), nil).refused(429, "rate_limited")
	h := a.do("GET", hooksPath, nil).refused(429, "rate_limited").header
	if h.Get("Retry-After") == "" || h.Get("Retry-After") != h.Get("RateLimit-Reset") || h.Get("RateLimit-Remaining") != "0" {
		t.Errorf("headers %v", h)
	}
	b.do("GET", hooksPath, nil).want(200)
	if h := w.key("admin").do("GET", hooksPath, nil).header; h.Get("RateLimit-Limit") != "" {
		t.Errorf("a key without a limit has %v", h)
	}
}

func TestTheStreamIsHandedItsHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.host(hostOne).do("GET", "/api/v1/hosts/host_one/events?last_event_id=x", nil).want(200)
	if got := <-w.streamed; got.host != hostOne {
		t.Errorf("streamed to %s", got.host)
	}
	none := newWorld(t, func(o *api.Options) { o.Stream = nil })
	none.host(hostOne).do("GET", "/api/v1/hosts/host_one/events", nil).refused(503, "no_stream")
}

func TestHealthTellsThePathsThatAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := client{w: w}
	for _, path := range []string{"/api/health", "/health", "/healthz"} {
		r := c.do("GET", path, nil).want(200).is("data.status", "healthy", "data.service", "Krib AI External API", "data.version", "test")
		for _, e := range r.get("data.endpoints").([]any) {
			method, p, _ := strings.Cut(e.(string), " ")
			if got := c.do(method, strings.NewReplacer("{schema}", "booking-event", "{", "", "}", "").Replace(p), nil).status; got == 404 || got == 405 {
				t.Errorf("%s is said to be there and answers %d", e, got)
			}
		}
	}
	w.ready = errors.New("the relay is behind")
	testenv.Eventually(t, "the verdict is not the old one", func() bool { return c.do("GET", "/health", nil).status == 503 })
	for _, path := range []string{"/api/health", "/health", "/healthz"} {
		r := c.do("GET", path, nil).refused(503, "not_ready")
		if r.header.Get("Retry-After") == "" || strings.Contains(string(r.body), "relay") {
			t.Errorf("got %v %s", r.header, r.body)
		}
	}
}

func TestProbesShareOneLookASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int32
		gate := make(chan struct{})
		handler := api.New(api.Options{Logger: slog.New(slog.DiscardHandler), Ready: func() error {
			<-gate
			if looks.Add(1) == 2 {
				return errors.New("not now")
			}
			return nil
		}})
		probe := func(path string, want int) {
			got := httptest.NewRecorder()
			handler.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
			if got.Code != want {
				t.Errorf("%s answered %d, want %d", path, got.Code, want)
			}
		}
		var all sync.WaitGroup
		for range 20 {
			for _, path := range []string{"/health", "/healthz", "/api/health"} {
				all.Go(func() { probe(path, 200) })
			}
		}
		close(gate)
		all.Wait()
		if n := looks.Load(); n != 1 {
			t.Errorf("%d looks for probes at the same time", n)
		}
		<-time.After(time.Second)
		probe("/healthz", 503)
		probe("/health", 503)
		<-time.After(time.Second)
		probe("/healthz", 200)
		if n := looks.Load(); n != 3 {
			t.Errorf("%d looks in three seconds", n)
		}
	})
}

// A deaf writer takes nothing and says so at the flush, where a buffer would have
// taken the bytes before.
type deaf struct{ *httptest.ResponseRecorder }

var errDeaf = errors.New("nobody listens")

func (deaf) FlushError() error { return errDeaf }

// flushes is a stream that flushes and ends.
type flushes struct {
	ends
	err *error
}

func (f flushes) Serve(rw http.ResponseWriter, _ *http.Request, _ schemas.HostID, _ time.Time, _ schemas.FeedFilter) {
	*f.err = http.NewResponseController(rw).Flush()
}

func TestAStreamHearsThatAFlushFailed(t *testing.T) {
	t.Parallel()
	var err error
	w := newWorld(t, func(o *api.Options) {
		o.Stream = flushes{err: &err}
	})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/hosts/host_one/events", http.NoBody)
	r.Header.Set("Authorization", w.host(hostOne).auth)
	w.srv.Config.Handler.ServeHTTP(deaf{httptest.NewRecorder()}, r)
	if !errors.Is(err, errDeaf) {
		t.Errorf("the flush ended with %v", err)
	}
}

func TestATraceReachesTheRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	const given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	traces := func() (out []string) {
		t.Helper()
		rows, err := w.sql.Query(t.Context(), `delete from outbox returning headers`)
		if err != nil {
			t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[[]schemas.Header])
		if err != nil {
			t.Fatal(err)
		}
		for _, hs := range all {
			for _, h := range hs {
				if h.Key == "traceparent" {
					out = append(out, h.Value)
				}
			}
		}
		return out
	}
	a.do("POST", "/api/v1/bookings", stay(7), "Traceparent", given).want(200)
	if got := traces(); len(got) != 2 || got[0] != given || got[1] != given {
		t.Errorf("got %q, want the caller's on both records", got)
	}
	for n, bad := range []string{"", "nonsense", given + "-x", "ff" + given[2:], strings.ToUpper(given), "00-" + strings.Repeat("0", 32) + given[35:]} {
		a.do("POST", "/api/v1/bookings", stay(20+3*n), "Traceparent", bad).want(200)
		if got := traces(); len(got) != 2 || got[0] != got[1] || got[0] == bad || !schemas.ValidTraceParent(got[0]) {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func TestWhatIsNotThereIsAProblem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := client{w: w}
	for _, path := range []string{"/api", "/api/", "/api/v1/nothing", "/api/v1/bookings/", "/favicon.ico"} {
		c.do("GET", path, nil).refused(404, "no_such_path")
	}
	if got := c.do("PATCH", statusPath("x"), nil).refused(405, "method_not_allowed").header.Values("Allow"); strings.Join(got, ",") != "GET,HEAD,PUT" {
		t.Errorf("Allow %v", got)
	}
	c.do("GET", "/api/v1/bookings", nil).refused(405, "method_not_allowed")
	c.do("BREW", "/api/v1/bookings", nil).refused(405, "method_not_allowed")
}

func TestRequestsHaveAnID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := client{w: w}
	if got := c.do("GET", "/api/health", nil, "X-Request-Id", "abc-1.2:3").header.Get("X-Request-Id"); got != "abc-1.2:3" {
		t.Errorf("got %q, want the caller's", got)
	}
	for _, odd := range []string{"a b", "<x>", strings.Repeat("a", 129), "ü"} {
		if got := c.do("GET", "/api/health", nil, "X-Request-Id", odd).header.Get("X-Request-Id"); got == odd || got == "" {
			t.Errorf("%q became %q", odd, got)
		}
	}
}

func TestMetricsNameRoutesAndNeverPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	a.do("GET", statusPath("secret-id"), nil)
	a.do("GET", "/api/nowhere/secret-id", nil)
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "secret") {
					t.Errorf("%s has the label %s", f.GetName(), l)
				}
				seen[l.GetValue()] = true
			}
		}
	}
	if !seen["/api/v1/external/bookings/{booking_id}/status"] || !seen["none"] {
		t.Errorf("labels %v", seen)
	}
}

func TestPagesRunNoScriptButTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := client{w: w}
	for _, f := range []string{"", "app.js", "krib-events.js", "style.css"} {
		r := c.do("GET", "/dashboard/"+f, nil).want(200)
		if !strings.Contains(r.header.Get("Content-Security-Policy"), "default-src 'self'") || strings.Contains(string(r.body), "innerHTML") ||
			strings.Contains(string(r.body), "<script>") || strings.Contains(string(r.body), "style=") {
			t.Errorf("%q: %v", f, r.header)
		}
	}
	c.do("GET", "/dashboard/none.js", nil).want(404)
	for _, f := range []string{"", "api.js", "topics.html", "topics.js", "style.css", "swagger-ui/swagger-ui-bundle.js"} {
		policy := c.do("GET", "/docs/"+f, nil).want(200).header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'self'") || strings.Contains(policy, "script-src") {
			t.Errorf("the policy of /docs/%s is %q", f, policy)
		}
	}
	c.do("GET", "/docs/swagger-ui/", nil).want(404)
	none := newWorld(t, func(o *api.Options) { o.Pages, o.Docs = nil, nil })
	(client{w: none}).do("GET", "/dashboard/", nil).refused(404, "no_such_path")
	(client{w: none}).do("GET", "/docs/", nil).refused(404, "no_such_path")
}

func TestADatabaseThatIsAwayIs503(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	name := w.url[strings.LastIndex(w.url, "/")+1:]
	name, _, _ = strings.Cut(name, "?")
	w.sql.Close()
	other := newWorld(t)
	other.exec(`alter database ` + name + ` with allow_connections false`)
	other.exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = $1`, name)
	for range 3 {
		if got := a.do("GET", hooksPath, nil).refused(503, "unavailable").header.Get("Retry-After"); got == "" {
			t.Error("no Retry-After")
		}
	}
}

// panicking is a stream with a bug.
type panicking struct{ ends }

func (panicking) Serve(http.ResponseWriter, *http.Request, schemas.HostID, time.Time, schemas.FeedFilter) {
	panic("a secret")
}

func TestAFaultIsLoggedOnceAndShowsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	id := a.book(7)
	w.exec(`alter table bookings rename column guest_email to guest_email_gone`)
	r := a.do("GET", statusPath(id), nil).refused(500, "internal_error")
	if s := string(r.body); strings.Contains(s, "guest_email") || strings.Contains(s, "SQL") || strings.Contains(s, "column") {
		t.Errorf("internal text: %s", s)
	}
	panics := newWorld(t, func(o *api.Options) {
		o.Stream = panicking{}
	})
	if s := panics.host(hostOne).do("GET", "/api/v1/hosts/host_one/events", nil).want(500).body; strings.Contains(string(s), "secret") {
		t.Errorf("internal text: %s", s)
	}
}

func TestAnAuthNeedsAWayToVerifyHosts(t *testing.T) {
	for _, o := range []auth.Options{{}, {JWTSecret: []byte("short")}} {
		if _, err := auth.New(t.Context(), o); err == nil {
			t.Errorf("made of %+v", o)
		}
	}
}
