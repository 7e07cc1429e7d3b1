package pull_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/pull"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const topic = string(schemas.BookingEvents)

// A world is a broker with Krib's topics and a database with agents' keys.
type world struct {
	t   testing.TB
	c   *testenv.Cluster
	sql *pgxpool.Pool // past row level security
	url string
	db  *store.DB
	p   *producers.Producer
	a   *auth.Auth
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, c: testenv.Topics(t, nil), url: testenv.Database(t)}
	var err error
	if w.sql, err = pgxpool.New(t.Context(), w.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.sql.Close)
	if w.db, err = store.Open(t.Context(), w.url, store.RoleAPI, 10); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.db.Close)
	ring, err := seal.DeriveRing("a master secret of the tests")
	if err != nil {
		t.Fatal(err)
	}
	w.p = producers.New(producers.Options{DB: w.db, Ring: ring})
	if w.a, err = auth.New(t.Context(), auth.Options{DB: w.db, JWTSecret: []byte("a secret of the tests, 32 bytes long")}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.sql.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// A key is an agent's; its zero limit is none.
type key struct {
	id     schemas.KeyID
	bearer string
}

func (w *world) key(agent schemas.AgentID, platform bool, limit int) key {
	w.t.Helper()
	k, hash, prefix := schemas.NewAPIKey("test")
	id := schemas.NewKeyID()
	w.exec(`insert into agents (id, name) values ($1, 'An agent') on conflict do nothing`, agent)
	w.exec(`insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes, platform, rate_limit_per_minute)
		values ($1, $2, 'k', $3, $4, '{events:read,bookings:write}', $5, $6)`, id, agent, hash, prefix, platform, limit)
	return key{id, "Bearer " + k.Reveal()}
}

// A replica is one process: its log and the API before it.
type replica struct {
	w    *world
	url  string
	log  *pull.Log
	reg  *prometheus.Registry
	stop func()
}

// start runs a replica on the topic as it is now.
func (w *world) start(change ...func(*pull.Options)) *replica {
	w.t.Helper()
	fresh, err := kafka.NewProducer(w.c.Config, "test-life") // the other one may remember a former life
	if err != nil {
		w.t.Fatal(err)
	}
	defer fresh.Close()
	life, err := kafka.LifeOf(w.t.Context(), fresh, topic)
	if err != nil {
		w.t.Fatal(err)
	}
	r := &replica{w: w, reg: prometheus.NewRegistry()}
	o := pull.Options{
		Kafka: w.c.Config, Life: life, ReplayWindow: 24 * time.Hour, Heartbeat: 200 * time.Millisecond, Drain: 50 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Registry: r.reg,
	}
	for _, c := range change {
		c(&o)
	}
	if r.log, err = pull.New(o); err != nil {
		w.t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(api.New(api.Options{
		DB: w.db, Producer: w.p, Auth: w.a, Pull: r.log.Pull, Follow: r.log.Follow, Logger: slog.New(slog.DiscardHandler),
	}))
	// What the kernel holds for a reader that reads nothing must be little beside what
	// a test sends it.
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(32 << 10)
		}
		return ctx
	}
	srv.Start()
	w.t.Cleanup(srv.Close)
	w.t.Cleanup(srv.CloseClientConnections)
	r.url = srv.URL
	r.stop = testenv.Run(w.t, r.log.Run)
	return r
}

var client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(32 << 10)
	}
	return c, err
}, DisableKeepAlives: true}}

const path = "/api/v1/external/events"

// get sends a request; headers come in pairs.
func (r *replica) get(ctx context.Context, k key, path string, q url.Values, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", k.bearer)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return client.Do(req)
}

// An event is a pulled one, as far as tests look at it.
type event struct {
	ID             string          `json:"id"`
	Type           string          `json:"type"`
	Sequence       int64           `json:"sequence"`
	BookingID      string          `json:"booking_id"`
	SubscriptionID *string         `json:"subscription_id"`
	Data           json.RawMessage `json:"data"`
}

type pulled struct {
	Events        []event   `json:"events"`
	NextCursor    string    `json:"next_cursor"`
	HasMore       bool      `json:"has_more"`
	CompleteSince time.Time `json:"complete_since"`
}

func (p *pulled) ids() []string {
	var out []string
	for _, e := range p.Events {
		out = append(out, e.ID)
	}
	return out
}

// try pulls once. A status that is not 200 is an error with the body as text.
func (r *replica) try(ctx context.Context, k key, pairs ...string) (*pulled, error) {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	resp, err := r.get(ctx, k, path, q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%d %s", resp.StatusCode, b)
	}
	var v struct{ Data pulled }
	return &v.Data, json.Unmarshal(b, &v)
}

func (r *replica) pull(k key, pairs ...string) *pulled {
	r.w.t.Helper()
	p, err := r.try(r.w.t.Context(), k, pairs...)
	if err != nil {
		r.w.t.Fatal(err)
	}
	return p
}

// all pulls from a cursor until there is no more.
func (r *replica) all(k key, cursor string, pairs ...string) (ids []string, next string) {
	r.w.t.Helper()
	for {
		p := r.pull(k, append(pairs, "after", cursor)...)
		ids, cursor = append(ids, p.ids()...), p.NextCursor
		if !p.HasMore {
			return ids, cursor
		}
	}
}

// refused is a pull that must be answered with a status and a code.
func (r *replica) refused(k key, status, code string, pairs ...string) {
	r.w.t.Helper()
	if _, err := r.try(r.w.t.Context(), k, pairs...); err == nil || !strings.HasPrefix(err.Error(), status) || !strings.Contains(err.Error(), `"code":"`+code+`"`) {
		r.w.t.Errorf("answered %v, want %s %s", err, status, code)
	}
}

// A stream is an open one.
type stream struct {
	t    testing.TB
	r    *sse.Reader
	stop context.CancelFunc
	id   string // of the last event
	resp *http.Response
}

func (r *replica) follow(k key, q url.Values, headers ...string) *stream {
	r.w.t.Helper()
	ctx, cancel := context.WithTimeout(r.w.t.Context(), time.Minute)
	r.w.t.Cleanup(cancel)
	resp, err := r.get(ctx, k, path+"/stream", q, headers...)
	if err != nil {
		r.w.t.Fatal(err)
	}
	r.w.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		r.w.t.Fatalf("the stream answered %d %s", resp.StatusCode, b)
	}
	return &stream{t: r.w.t, r: sse.NewReader(resp.Body), stop: cancel, resp: resp}
}

// next is the next event that is no heartbeat.
func (s *stream) next() sse.Event {
	s.t.Helper()
	for {
		e, err := s.r.Next()
		if err != nil {
			s.t.Fatalf("the stream ended with %v", err)
		}
		s.id = e.ID
		if e.Name != "heartbeat" {
			return e
		}
	}
}

// want reads events and compares their ids.
func (s *stream) want(ids ...string) {
	s.t.Helper()
	for _, want := range ids {
		e := s.next()
		var got event
		if err := json.Unmarshal([]byte(e.Data), &got); err != nil || got.ID != want || got.Type != e.Name {
			s.t.Fatalf("got %+v, want %s", e, want)
		}
	}
}

// wantControl reads up to a frame of the stream's own; part must be in its data.
func (s *stream) wantControl(name, part string) sse.Event {
	s.t.Helper()
	e := s.next()
	if e.Name != name || !strings.Contains(e.Data, part) {
		s.t.Fatalf("got %+v, want %s with %s", e, name, part)
	}
	return e
}

// happening is a booking's event as fan-out would see it.
func happening(booking string, version int64, kind schemas.EventType, agent schemas.AgentID) *schemas.Event {
	at := schemas.Stamp(time.Now())
	return &schemas.Event{
		ID: schemas.EventID(fmt.Sprintf("evt_%s_%d", booking, version)), Type: kind, Version: version, OccurredAt: at, HostWebhooks: true,
		Booking: schemas.Booking{
			ID: schemas.BookingID(booking), Version: version, AgentID: agent, HostID: "host_1", Property: schemas.PropertyRef{ID: "prop_1"},
			Status: schemas.Pending, CheckIn: "2030-01-01", CheckOut: "2030-01-03", Currency: "AED", TotalAmount: 95000, CreatedAt: at, UpdatedAt: at,
		},
	}
}

// publish writes events and returns their ids.
func (w *world) publish(es ...*schemas.Event) (ids []string) {
	w.t.Helper()
	for _, e := range es {
		w.c.Produce(w.t, topic, string(e.Booking.ID), e.Meta(), e)
		ids = append(ids, string(e.ID))
	}
	return ids
}

// many writes n events of bookings of an agent, each with some bytes to carry.
func (w *world) many(prefix string, n, bytes int, agent schemas.AgentID) (ids []string) {
	w.t.Helper()
	for i := range n {
		e := happening(fmt.Sprintf("%s%d", prefix, i), 1, schemas.BookingCreated, agent)
		e.Booking.SpecialRequests = strings.Repeat("x", bytes)
		ids = append(ids, w.publish(e)...)
	}
	return ids
}

// atOnce is many that a broker need not take one by one.
func (w *world) atOnce(prefix string, n, bytes int, agent schemas.AgentID) (ids []string) {
	w.t.Helper()
	var rs []*kgo.Record
	for i := range n {
		e := happening(fmt.Sprintf("%s%d", prefix, i), 1, schemas.BookingCreated, agent)
		e.Booking.SpecialRequests = strings.Repeat("x", bytes)
		r, err := kafka.Encode(topic, string(e.Booking.ID), e.Meta(), e)
		if err != nil {
			w.t.Fatal(err)
		}
		rs, ids = append(rs, r), append(ids, string(e.ID))
	}
	if err := w.c.Client.ProduceSync(w.t.Context(), rs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	return ids
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// metric is a counter's value; label is that of its only label, or empty.
func (r *replica) metric(name, label string) float64 {
	r.w.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	r.w.t.Fatalf("there is no metric %s %s", name, label)
	return 0
}

func compact(t testing.TB, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
