package api_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	dto "github.com/prometheus/client_model/go"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

func streamPath(h schemas.HostID) string { return "/api/v1/hosts/" + string(h) + "/events" }

// ticket asks for one and returns the URL that it opens.
func (c client) ticket(h schemas.HostID) string {
	c.w.t.Helper()
	r := c.do("POST", streamPath(h)+"/ticket", nil).want(200).is("data.host_id", h, "data.expires_in", 60, "success", true)
	return r.text("data.url")
}

// kept is the stream's cookie of an answer, as a browser sends it back.
func (r reply) kept() *http.Cookie {
	r.t.Helper()
	for _, c := range (&http.Response{Header: r.header}).Cookies() {
		if c.Name == "krib_stream" {
			return c
		}
	}
	return nil
}

func (w *world) opened(h schemas.HostID) visit {
	w.t.Helper()
	select {
	case o := <-w.streamed:
		if o.host != h {
			w.t.Errorf("the stream of %s was opened, want %s", o.host, h)
		}
		return o
	case <-time.After(5 * time.Second):
		w.t.Fatal("no stream was opened")
		return visit{}
	}
}

func TestATicketOpensTheStreamOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anybody := client{w: w}
	at := w.host(hostOne).ticket(hostOne)
	if n := w.count(`select count(*) from stream_tickets where position(convert_to($1, 'UTF8') in hash) > 0`, at[len(at)-20:]); n != 0 {
		t.Error("the ticket itself is kept")
	}
	anybody.do("GET", strings.Replace(at, string(hostOne), string(hostTwo), 1), nil).refused(401, "invalid_ticket")
	anybody.do("GET", at, nil).want(200)
	if until := time.Until(w.opened(hostOne).until); until < 59*time.Minute || until > time.Hour {
		t.Errorf("the stream ends in %v, and the token in an hour", until)
	}
	anybody.do("GET", at, nil).refused(401, "invalid_ticket")
	anybody.do("GET", streamPath(hostOne)+"?ticket=tkt_nonsense", nil).refused(401, "invalid_ticket")
	if n := w.count(`select count(*) from stream_tickets`); n != 0 {
		t.Errorf("%d tickets are left", n)
	}
	late := w.host(hostOne).ticket(hostOne)
	w.exec(`update stream_tickets set expires_at = now()`)
	anybody.do("GET", late, nil).refused(401, "invalid_ticket")
	w.host(hostTwo).do("POST", streamPath(hostOne)+"/ticket", nil).refused(403, "not_your_host")
	w.host(hostOne).do("POST", streamPath(hostOne)+"/ticket", map[string]any{"host_id": hostTwo}).want(422)
}

func TestOfManyWhoComeWithOneTicketOneIsLetIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := w.host(hostOne).ticket(hostOne)
	var wg sync.WaitGroup
	in := make(chan int, 20)
	for range 20 {
		wg.Go(func() {
			r, err := client{w: w}.send("GET", at, nil)
			if err != nil {
				t.Error(err)
			}
			in <- r.status
		})
	}
	w.opened(hostOne)
	wg.Wait()
	close(in)
	got := map[int]int{}
	for status := range in {
		got[status]++
	}
	if got[200] != 1 || got[401] != 19 {
		t.Errorf("answers by status: %v", got)
	}
}

// Any replica redeems a ticket, and reads the cookie of any other.
func TestABrowserReconnectsByItsCookie(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anybody := client{w: w}
	at := w.host(hostOne).ticket(hostOne)
	r := anybody.do("GET", at, nil, "X-Forwarded-Proto", "https").want(200)
	w.opened(hostOne)
	c := r.kept()
	if c == nil || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != streamPath(hostOne) || time.Until(c.Expires) > time.Hour {
		t.Fatalf("the cookie is %v", c)
	}
	cookie := c.Name + "=" + c.Value

	w.exec(`alter table stream_tickets rename to gone`) // reconnects do not ask it
	anybody.do("GET", at, nil, "Cookie", cookie).want(200)
	if again := w.opened(hostOne); time.Until(again.until) > time.Hour || time.Until(again.until) < 59*time.Minute {
		t.Errorf("the reconnect ends %v", again.until)
	}
	anybody.do("GET", streamPath(hostOne), nil, "Cookie", cookie).want(200)
	w.opened(hostOne)
	w.exec(`alter table gone rename to stream_tickets`)

	other := w.host(hostOne).ticket(hostOne) // of another tab, used up, whose cookie ours has replaced
	anybody.do("GET", other, nil).want(200)
	w.opened(hostOne)
	if again := anybody.do("GET", other, nil, "Cookie", cookie).want(200); again.kept() != nil {
		t.Error("a ticket that is used up made a cookie")
	}
	w.opened(hostOne)
	if c := anybody.do("GET", w.host(hostOne).ticket(hostOne), nil).want(200).kept(); c == nil || c.Secure {
		t.Errorf("over plain http the cookie is %v", c)
	}
	w.opened(hostOne)
}

func TestTheStreamsCookieOpensNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anybody := client{w: w}
	c := anybody.do("GET", w.host(hostOne).ticket(hostOne), nil).want(200).kept()
	w.opened(hostOne)
	cookie := c.Name + "=" + c.Value
	for name, path := range protected(t) {
		if method, _, _ := strings.Cut(name, " "); name != "GET /api/v1/hosts/{host_id}/events" {
			anybody.do(method, path, nil, "Cookie", cookie).want(401)
		}
	}
	anybody.do("GET", streamPath(hostTwo), nil, "Cookie", cookie).refused(401, "invalid_cookie")
	anybody.do("GET", streamPath(hostOne), nil, "Cookie", cookie+"x").refused(401, "invalid_cookie")
	anybody.do("GET", streamPath(hostOne), nil, "Cookie", "krib_stream=").refused(401, "invalid_cookie")
	w.host(hostTwo).do("GET", streamPath(hostOne), nil, "Cookie", cookie).refused(403, "not_your_host") // who brings a token is judged by it

	u, err := url.Parse(w.srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, foreign := range [][]string{
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "http://" + u.Host + ".evil.example"},
	} {
		anybody.do("GET", streamPath(hostOne), nil, append(foreign, "Cookie", cookie)...).refused(403, "foreign_origin")
	}
	for _, ours := range [][]string{{"Origin", origin}, {"Origin", "http://" + u.Host}, {"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"}} {
		r := anybody.do("GET", streamPath(hostOne), nil, append(ours, "Cookie", cookie)...).want(200)
		w.opened(hostOne)
		if ours[1] == origin && (r.header.Get("Access-Control-Allow-Origin") != origin || r.header.Get("Access-Control-Allow-Credentials") != "true" ||
			!strings.Contains(strings.Join(r.header.Values("Vary"), ","), "Origin")) {
			t.Errorf("a page of a listed origin cannot read the stream: %v", r.header)
		}
	}
}

func TestACookieEndsWithTheTokenThatTheTicketWasGivenFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token, err := auth.SignHostToken(jwtSecret, hostOne, 2*time.Second, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := client{w: w, auth: "Bearer " + token}
	r := c.do("POST", streamPath(hostOne)+"/ticket", nil).want(200)
	if r.get("data.expires_in").(float64) > 2 {
		t.Errorf("the ticket outlives the token: %s", r.body)
	}
	got := client{w: w}.do("GET", r.text("data.url"), nil).want(200)
	until := w.opened(hostOne).until
	cookie := got.kept()
	if time.Until(until) > 2*time.Second {
		t.Errorf("the stream ends %v", until)
	}
	<-time.After(time.Until(until) + 10*time.Millisecond)
	client{w: w}.do("GET", streamPath(hostOne), nil, "Cookie", cookie.Name+"="+cookie.Value).refused(401, "invalid_cookie")
}

// unplug lets nobody into the database any more.
func (w *world) unplug() {
	w.t.Helper()
	conf, err := pgx.ParseConfig(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	name := conf.Database
	conf.Database = "postgres"
	c, err := pgx.ConnectConfig(w.t.Context(), conf)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close(w.t.Context())
	for _, sql := range []string{
		`alter database ` + pgx.Identifier{name}.Sanitize() + ` with allow_connections false`,
		`select pg_terminate_backend(pid) from pg_stat_activity where datname = '` + name + `'`,
	} {
		if _, err := c.Exec(w.t.Context(), sql); err != nil {
			w.t.Fatal(err)
		}
	}
}

// An EventSource that gets any other status is dead for ever.
func TestATicketIsRefusedSoftlyWhilePostgresIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := w.host(hostOne).ticket(hostOne)
	w.unplug()
	r := client{w: w}.do("GET", at, nil).want(200)
	if r.header.Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(string(r.body), "refused host_one") || r.kept() != nil {
		t.Errorf("got %v %s", r.header, r.body)
	}
}

func TestAHostCannotHoardTickets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`insert into stream_tickets (hash, host_id, until, expires_at)
		select int4send(n), $1, now() + interval '1 hour', now() + interval '1 minute' from generate_series(1, 100) n`, hostOne)
	w.host(hostOne).do("POST", streamPath(hostOne)+"/ticket", nil).refused(429, "too_many_tickets")
	w.host(hostTwo).ticket(hostTwo)
	w.exec(`update stream_tickets set expires_at = now()`)
	w.host(hostOne).ticket(hostOne)
}

func TestAStreamIsNarrowedByFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.host(hostOne)
	for q, want := range map[string]schemas.FeedFilter{
		"":                            {},
		"?events=notification,custom": {Kinds: []schemas.FeedKind{schemas.FeedNotification, schemas.FeedCustom}},
		"?types=urgent&min_priority=medium&property_id=prop_1": {
			Types: []schemas.NotificationType{schemas.Urgent}, MinPriority: schemas.Medium, Property: "prop_1",
		},
	} {
		h.do("GET", streamPath(hostOne)+q, nil).want(200)
		if d := cmp.Diff(want, w.opened(hostOne).filter); d != "" {
			t.Errorf("%s: %s", q, d)
		}
	}
	for q, field := range map[string]string{
		"?events=heartbeat": "events", "?events=notification,": "events", "?events=notification%20": "events", "?types=booking.created": "types",
		"?min_priority=urgent": "min_priority", "?property_id=%0A": "property_id", "?events=custom&events=custom": "events",
	} {
		r := h.do("GET", streamPath(hostOne)+q, nil).refused(422, "invalid_request")
		if len(r.fields()) != 1 || r.fields()[field] == "" {
			t.Errorf("%s: %s", q, r.body)
		}
	}
}

// What a host sends is a custom event of its own, whatever it says.
func TestAHostSendsToItsOwnDashboardsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.host(hostOne)
	at := streamPath(hostOne) + "/send"
	body := map[string]any{"type": "notification", "host_id": hostTwo, "source": "broadcast", "kind": "notification", "door": 4}
	r := h.do("POST", at, body, "Idempotency-Key", "k").want(200).is(
		"status", "sent", "host_id", hostOne, "connections_notified", 2, "event.type", "custom", "event.source", "manual", "event.host_id", hostOne, "event.door", 4)
	if len(r.doc) != 4 {
		t.Errorf("the contract's answer is bare: %s", r.body)
	}
	if again := h.do("POST", at, body, "Idempotency-Key", "k").want(200); again.text("event.event_id") != r.text("event.event_id") {
		t.Error("the same key sent another event")
	}
	var key string
	var value []byte
	if err := w.sql.QueryRow(t.Context(), `select key, value from outbox where topic = 'host.notifications'`).Scan(&key, &value); err != nil { // one row
		t.Fatal(err)
	}
	f, err := schemas.Decode[schemas.FeedRecord](value)
	if err != nil || key != string(hostOne) || f.Kind != schemas.FeedCustom || f.HostID != hostOne || string(f.EventID) != r.text("event.event_id") {
		t.Errorf("the record of %s is %s, %v", key, value, err)
	}
	w.host(hostTwo).do("POST", at, body).refused(403, "not_your_host")
	h.do("POST", at, `[1]`).want(422)
	h.do("POST", at, `{"a":1,"a":2}`).want(422)
	h.do("POST", at, map[string]any{"x": strings.Repeat("x", 64<<10)}).refused(413, "event_too_large")
	if n := w.outbox(); n != 1 {
		t.Errorf("%d outbox rows", n)
	}
}

func TestThePlatformAnnouncesToEveryPartitionOrNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const at = "/api/v1/external/sse/broadcast"
	body := map[string]any{"type": "notification", "message": "Back at noon", "source": "manual"}
	w.key("notifications:write").do("POST", at, body).refused(403, "platform_only")
	w.key("platform", "bookings:write").do("POST", at, body).refused(403, "missing_scope")
	c := w.key("platform", "notifications:write")
	r := c.do("POST", at, body, "Idempotency-Key", "k").want(200).is(
		"status", "broadcast_sent", "total_connections", 5, "event.type", "system_announcement", "event.source", "broadcast", "event.message", "Back at noon")
	if len(r.doc) != 3 {
		t.Errorf("the contract's answer is bare: %s", r.body)
	}
	c.do("POST", at, body, "Idempotency-Key", "k").want(200).is("event.event_id", r.text("event.event_id"))
	c.do("POST", at, map[string]any{"x": strings.Repeat("x", 64<<10)}).refused(413, "event_too_large")
	if n := w.count(`select count(distinct partition) from outbox where topic = 'host.notifications' and key is null and partition between 0 and 11`); n != 12 || w.outbox() != 12 {
		t.Errorf("%d of 12 partitions in %d rows", n, w.outbox())
	}
	// After a crash the relay takes a record whose id is on the topic for written.
	if n := w.count(`select count(distinct h->>'value') from outbox, json_array_elements(headers) h where h->>'key' = 'ce_id'`); n != 12 {
		t.Errorf("%d ids, want one for each partition", n)
	}
	without := newWorld(t, func(o *api.Options) { o.Stream = nil })
	without.key("platform", "admin").do("POST", at, body).want(200).is("total_connections", 0)
	without.host(hostOne).do("GET", streamPath(hostOne), nil).refused(503, "no_stream")
	without.host(hostOne).do("GET", "/api/v1/sse/statistics", nil).refused(503, "no_stream")
	without.key("platform", "admin").do("GET", "/api/v1/sse/statistics", nil).refused(503, "no_stream")
}

func TestStreamStatisticsTellAHostOfItsOwnOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const at = "/api/v1/sse/statistics"
	r := w.host(hostOne).do("GET", at, nil).want(200).is("data.total_connections", 2, "data.user_connections", 2, "data.max_connections", 20,
		"data.heartbeat_interval", 5, "data.lag_ms", 1500)
	if got := r.get("data").(map[string]any); len(got) != 6 {
		t.Errorf("a host is told %v", got)
	}
	w.key("platform", "admin").do("GET", at, nil).want(200).is("data.total_connections", 5, "data.max_connections", 1000, "data.hosts", 2, "data.queue_bytes", 7,
		"data.resumes.ring", 1, "data.disconnects.gone", 2, "data.lag_offsets", 3, "data.lag_ms", 2000, "data.sink_lag_ms", 2000, "data.ready", true, "data.frames_sent", 9)
	w.key("platform", "notifications:write").do("GET", at, nil).refused(403, "missing_scope")
}

// A page of any origin may call an API with a star, and none may do it with
// cookies.
func TestAStarAllowsNoCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *api.Options) { o.CORSOrigins = []string{"*"} })
	h := w.host(hostOne).do("GET", inbox(hostOne), nil, "Origin", "https://any.example").want(200).header
	if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("got %v", h)
	}
	c := client{w: w}.do("GET", w.host(hostOne).ticket(hostOne), nil).want(200).kept()
	w.opened(hostOne)
	client{w: w}.do("GET", streamPath(hostOne), nil, "Cookie", c.Name+"="+c.Value, "Origin", "https://any.example").refused(403, "foreign_origin")
}

func TestATicketIsItsHostsAlsoForTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.host(hostOne).ticket(hostOne)
	var hash []byte
	if err := w.sql.QueryRow(t.Context(), `select hash from stream_tickets`).Scan(&hash); err != nil {
		t.Fatal(err)
	}
	redeem := func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.RedeemTicket(ctx, hash, hostOne)
		return err
	}
	for _, s := range []store.Scope{{}, {Host: hostTwo}, {Agent: "agent_1", Platform: true}} {
		err := w.db.Update(t.Context(), s, redeem)
		if schemas.KindOf(err) != schemas.Unauthorized {
			t.Errorf("%+v redeems it: %v", s, err)
		}
	}
	if err := w.db.Update(t.Context(), store.Scope{Host: hostOne}, redeem); err != nil {
		t.Error(err)
	}
}

// keeps is a stream that takes its connection over and is told when to close it.
type keeps struct {
	ends
	close chan struct{}
}

func (k keeps) Serve(rw http.ResponseWriter, _ *http.Request, _ schemas.HostID, _ time.Time, _ schemas.FeedFilter) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		k.w.t.Errorf("a middleware hides Hijack: %v", err)
		return
	}
	go func() {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n:\n\n")
		<-k.close
		_ = conn.Close()
	}()
}

// linesOf are the lines of a log about a route.
func linesOf(log *testenv.Output, route string) (out []string) {
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "route="+route+" ") {
			out = append(out, line)
		}
	}
	return out
}

// A stream that takes its connection over is served when it has ended, and not when
// its handler has returned: with its bytes, and as long as it was.
func TestAStreamThatTakesItsConnectionOverIsLoggedWhenItEnds(t *testing.T) {
	t.Parallel()
	log, end := &testenv.Output{}, make(chan struct{})
	w := newWorld(t, func(o *api.Options) {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
		o.Stream = keeps{o.Stream.(ends), end}
	})
	const route = "/api/v1/hosts/{host_id}/events"
	counted := func() bool {
		families, err := w.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return strings.Contains(f.String(), route) })
	}
	h := w.host(hostOne)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.srv.URL+streamPath(hostOne), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", h.auth)
	resp, err := w.srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	h.do("GET", "/api/v1/hosts/"+string(hostOne)+"/notifications", nil).want(200) // the handler's end is behind us by far
	if got := linesOf(log, route); len(got) > 0 || counted() {
		t.Errorf("while it is open, it is counted (%v) and logged: %q", counted(), got)
	}
	close(end)
	testenv.Eventually(t, "it is logged and counted", func() bool { return len(linesOf(log, route)) == 1 && counted() })
	for _, part := range []string{"status=200", "bytes=74 ", "host_id=" + string(hostOne)} {
		if line := linesOf(log, route)[0]; !strings.Contains(line, part) {
			t.Errorf("%q has no %s", line, part)
		}
	}
}
