package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/api/dashboard"
	"github.com/krib-ai/krib/api/reference"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var jwtSecret = []byte("a secret of the tests, 32 bytes long")

const (
	origin  = "https://host.krib.test"
	hostOne = schemas.HostID("host_one")
	hostTwo = schemas.HostID("host_two")
	home    = "prop_dubai"
)

// A world is a real database, the real write path and the whole handler over
// HTTP. Its seed: two hosts, a home of hostOne, and keys made by key.
type world struct {
	t        testing.TB
	url      string
	sql      *pgxpool.Pool // past row level security
	db       *store.DB
	srv      *httptest.Server
	registry *prometheus.Registry
	agents   int
	ready    error
	clock    *atomic.Pointer[time.Time] // the producer's, where a test has set it
	streamed chan visit
	listed   []*sdk.Tool // once a test has asked
}

// visit is what a stream was opened with.
type visit struct {
	host   schemas.HostID
	until  time.Time
	filter schemas.FeedFilter
}

// ends is a stream that ends at once.
type ends struct{ w *world }

func (e ends) Serve(rw http.ResponseWriter, _ *http.Request, host schemas.HostID, until time.Time, f schemas.FeedFilter) {
	rw.Header().Set("Content-Type", "text/event-stream")
	if err := http.NewResponseController(rw).Flush(); err != nil || until.Before(time.Now()) {
		e.w.t.Errorf("the stream cannot flush (%v), or has ended before it began", err)
	}
	e.w.streamed <- visit{host, until, f}
}

func (e ends) Refuse(rw http.ResponseWriter, _ *http.Request, host schemas.HostID, reason string) {
	rw.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(rw, "refused %s: %s", host, reason)
}

func (ends) Of(h schemas.HostID) (int, time.Duration) {
	return map[schemas.HostID]int{hostOne: 2, hostTwo: 3}[h], 1500 * time.Millisecond
}

func (ends) State() api.StreamState {
	return api.StreamState{
		Connections: 5, MaxConnections: 1000, MaxPerHost: 20, Hosts: 2, Heartbeat: 5 * time.Second, QueueBytes: 7, Frames: 9, Resumes: map[string]int64{"ring": 1},
		Disconnects: map[string]int64{"gone": 2}, LagOffsets: 3, TailLag: time.Second, SinkLag: 2 * time.Second, Ready: true,
	}
}

// unlimited is a rate that no test reaches.
var unlimited = api.Rate{PerSecond: 1e6, Burst: 1e6}

func newWorld(t testing.TB, change ...func(*api.Options)) *world {
	t.Helper()
	w := &world{t: t, url: testenv.Database(t), registry: prometheus.NewRegistry(), streamed: make(chan visit, 1), clock: new(atomic.Pointer[time.Time])}
	var err error
	if w.sql, err = pgxpool.New(t.Context(), w.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.sql.Close)
	if w.db, err = store.Open(t.Context(), w.url, store.RoleAPI, 10); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.db.Close)
	w.exec(`insert into hosts (id, name) values ($1, 'One'), ($2, 'Two')`, hostOne, hostTwo)
	w.property(home, hostOne, "Dubai", 42500)

	ring, err := seal.DeriveRing("a master secret of the tests")
	if err != nil {
		t.Fatal(err)
	}
	p := producers.New(producers.Options{
		DB: w.db, Ring: ring, Feed: schemas.Feed{TopicID: "feed", Partitions: 12}, AllowHTTP: true, Now: w.now,
		AllowedAddress: func(a netip.Addr) bool { return a.IsLoopback() },
	})
	a, err := auth.New(t.Context(), auth.Options{DB: w.db, JWTSecret: jwtSecret, KeyCache: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	o := api.Options{
		DB: w.db, Producer: p, Auth: a, Feed: schemas.Feed{TopicID: "feed", Partitions: 12}, WebhookTimeout: 100 * time.Millisecond,
		CORSOrigins: []string{origin}, Pages: dashboard.Files, Docs: reference.Files, Topics: topics(), Ready: func() error { return w.ready }, Logger: testenv.Logger(t),
		Registry: w.registry, Version: "test", HostReads: unlimited, HostWrites: unlimited,
		Stream: ends{w},
	}
	for _, c := range change {
		c(&o)
	}
	w.srv = httptest.NewServer(api.New(o))
	t.Cleanup(w.srv.Close)
	held(t, w.srv.Client())
	return w
}

func (w *world) now() time.Time {
	if at := w.clock.Load(); at != nil {
		return *at
	}
	return time.Now()
}

// at sets the producer's clock.
func (w *world) at(t time.Time) { w.clock.Store(&t) }

// travel sets it to n days from today, counted as day does: to noon, which is that
// day in Dubai too.
func (w *world) travel(n int) { w.at(schemas.Date(day(n)).Time().Add(12 * time.Hour)) }

func topics() []schemas.Topic {
	return schemas.Topics(schemas.TopicOptions{Partitions: 12, ReplayWindow: 720 * time.Hour, Ladder: schemas.DefaultLadder()})
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.sql.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) count(sql string, args ...any) (n int) {
	w.t.Helper()
	if err := w.sql.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) outbox() int { w.t.Helper(); return w.count(`select count(*) from outbox`) }

func (w *world) property(id string, host schemas.HostID, city string, price int) {
	w.exec(`insert into properties (id, host_id, title, address, city, state, country, latitude, longitude, property_type, bedrooms, bathrooms,
		max_guests, status, currency, price_per_night, cleaning_fee)
		values ($1, $2, 'Home ' || $1, '1 Marina Walk', $3, $3, 'AE', 25.08, 55.14, 'apartment', 2, 1, 4, 'active', 'AED', $4, 4450)`, id, host, city, price)
}

// A client calls as one principal.
type client struct {
	w     *world
	auth  string
	agent schemas.AgentID
	key   schemas.KeyID
}

// key makes an agent with a key of the scopes; "platform" is no scope but a flag,
// and "admin" without it stands for all scopes but that.
func (w *world) key(scopes ...string) client {
	w.t.Helper()
	w.agents++
	agent, id := schemas.AgentID(fmt.Sprintf("agent_%d", w.agents)), schemas.KeyID(fmt.Sprintf("key_%d", w.agents))
	key, hash, prefix := schemas.NewAPIKey("test")
	platform := len(scopes) > 0 && scopes[0] == "platform"
	if platform {
		scopes = scopes[1:]
	}
	if !platform && slices.Contains(scopes, "admin") { // only a platform key can hold it: all the others instead
		scopes = slices.DeleteFunc(schemas.Scopes(), func(s string) bool { return s == "admin" })
	}
	w.exec(`insert into agents (id, name) values ($1, 'An agent')`, agent)
	w.exec(`insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes, platform, rate_limit_per_minute)
		values ($1, $2, 'k', $3, $4, $5, $6, 0)`, id, agent, hash, prefix, scopes, platform)
	return client{w, "Bearer " + key.Reveal(), agent, id}
}

func (w *world) host(id schemas.HostID) client {
	w.t.Helper()
	token, err := auth.SignHostToken(jwtSecret, id, time.Hour, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return client{w: w, auth: "Bearer " + token}
}

// A reply is an answer that was read to its end.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   []byte
	doc    map[string]any
}

// do sends a request; a body that is no string goes as JSON. Headers come in pairs.
func (c client) do(method, path string, body any, headers ...string) reply {
	c.w.t.Helper()
	r, err := c.send(method, path, body, headers...)
	if err != nil {
		c.w.t.Fatal(err)
	}
	return r
}

func (c client) send(method, path string, body any, headers ...string) (reply, error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return reply{}, err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, c.w.srv.URL+path, in)
	if err != nil {
		return reply{}, err
	}
	if c.auth != "" {
		req.Header.Set("Authorization", c.auth)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.w.srv.Client().Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	r := reply{t: c.w.t, status: resp.StatusCode, header: resp.Header}
	if r.body, err = io.ReadAll(resp.Body); err != nil {
		return r, err
	}
	if strings.Contains(r.header.Get("Content-Type"), "json") {
		err = json.Unmarshal(r.body, &r.doc)
	}
	return r, err
}

// want fails the test on another status. For errors it holds the form.
func (r reply) want(status int) reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("answered %d, want %d: %s", r.status, status, r.body)
	}
	if status >= 400 {
		if got := r.header.Get("Content-Type"); got != "application/problem+json" {
			r.t.Errorf("an error of type %q", got)
		}
		if r.doc["success"] != false || r.doc["status"] != float64(status) || r.doc["request_id"] != r.header.Get("X-Request-Id") ||
			r.doc["detail"] == "" || r.doc["code"] == "" || r.doc["errors"] == nil || r.doc["title"] != http.StatusText(status) {
			r.t.Errorf("not the form of an error: %s", r.body)
		}
	}
	return r
}

// refused is want with the code of the error.
func (r reply) refused(status int, code string) reply {
	r.t.Helper()
	r.want(status)
	if r.doc["code"] != code {
		r.t.Errorf("code %v, want %s: %s", r.doc["code"], code, r.body)
	}
	return r
}

// get follows a dotted path through the answer.
func (r reply) get(path string) any {
	r.t.Helper()
	var v any = r.doc
	for name := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[name]
			if !ok {
				r.t.Fatalf("no %s (of %s) in %s", name, path, r.body)
			}
			v = next
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(at) {
				r.t.Fatalf("no %s (of %s) in %s", name, path, r.body)
			}
			v = at[i]
		default:
			r.t.Fatalf("no %s in %s", path, r.body)
		}
	}
	return v
}

func (r reply) text(path string) string {
	r.t.Helper()
	s, ok := r.get(path).(string)
	if !ok {
		r.t.Fatalf("%s is no text in %s", path, r.body)
	}
	return s
}

// is compares members of the answer with what they must be, as printed.
func (r reply) is(pairs ...any) reply {
	r.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		path := pairs[i].(string)
		if got, want := fmt.Sprint(r.get(path)), fmt.Sprint(pairs[i+1]); got != want {
			r.t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	return r
}

// fields are the rules that the errors name, by field.
func (r reply) fields() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	for _, e := range r.doc["errors"].([]any) {
		m := e.(map[string]any)
		out[m["field"].(string)] = m["rule"].(string)
	}
	return out
}

func day(n int) string { return time.Now().UTC().AddDate(0, 0, n).Format(time.DateOnly) }

// stay is a body for two nights in n days, at the right price.
func stay(n int) map[string]any {
	return map[string]any{
		"property_id": home, "check_in": day(n), "check_out": day(n + 2), "guests": 2, "total_amount": json.Number("950.0"),
		"guest_info":     map[string]any{"first_name": "Test", "last_name": "User", "email": "test.user+a@example.com", "phone": "501234567", "country_code": "+971"},
		"payment_method": "pending", "special_requests": "A quiet room", "source": "krib_ai_agent",
	}
}

func with(m map[string]any, pairs ...any) map[string]any {
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

func (c client) book(n int) string {
	c.w.t.Helper()
	return c.do("POST", "/api/v1/bookings", stay(n)).want(200).text("data.booking_id")
}

func hook(url string) map[string]any {
	return map[string]any{
		"agent_name": "Krib AI Agent Test", "webhook_url": url, "events": []string{"booking.created", "test.webhook"}, "api_key": "test-api-key-12345",
	}
}

const hooksPath = "/api/v1/external/webhook-subscriptions"

func statusPath(id string) string { return "/api/v1/external/bookings/" + id + "/status" }

func inbox(h schemas.HostID) string { return "/api/v1/hosts/" + string(h) + "/notifications" }
