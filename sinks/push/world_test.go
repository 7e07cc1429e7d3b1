package push_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/push"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var testLog = slog.New(slog.DiscardHandler)

const topic = string(schemas.HostNotifications)

// A world is a broker with the feed's topic, a writer of transactions, and what
// the notification sink would have committed.
type world struct {
	t     testing.TB
	conf  kafka.Config
	feed  schemas.Feed
	write *kgo.Client
	adm   *kadm.Client

	mu   sync.Mutex // of the writer and of sink
	sink map[int32]int64
	n    int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, testenv.Brokers(t))
}

func newWorldOn(t testing.TB, brokers []string) *world {
	t.Helper()
	w := &world{t: t, sink: map[int32]int64{}}
	w.conf = kafka.Config{Brokers: brokers, Logger: testLog}
	cl, err := kgo.NewClient(append(w.conf.Options("test"), kafka.TransactionalOptions("test")...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	w.write, w.adm = cl, kadm.NewClient(cl)
	if err := kafka.CreateTopics(t.Context(), cl, []schemas.Topic{{Name: topic, Partitions: 3}}); err != nil {
		t.Fatal(err)
	}
	if w.feed, err = kafka.FeedOf(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
	return w
}

// released is what the hub asks for.
func (w *world) released(context.Context) (map[int32]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.sink), nil
}

// commit makes the sink have committed everything.
func (w *world) commit() {
	ends, err := w.adm.ListCommittedOffsets(context.Background(), topic)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ends.Each(func(o kadm.ListedOffset) { w.sink[o.Partition] = o.Offset })
}

// send writes records in one transaction.
func (w *world) send(rs ...*kgo.Record) { w.transact(kgo.TryCommit, rs...) }

func (w *world) transact(end kgo.TransactionEndTry, rs ...*kgo.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx := context.Background()
	err := w.write.BeginTransaction()
	if err == nil {
		err = w.write.ProduceSync(ctx, rs...).FirstErr()
	}
	if err == nil {
		err = w.write.EndTransaction(ctx, end)
	}
	if err != nil {
		w.t.Error(err)
		return
	}
	testenv.Eventually(w.t, "the transaction's markers are on the topic", w.settled)
}

// settled is whether no transaction is open. The coordinator answers the end of
// one before it has written the markers, and until then its records are not there
// for a reader.
func (w *world) settled() bool {
	ctx := context.Background()
	committed, err := w.adm.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return false
	}
	written, err := w.adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return false
	}
	ok := true
	written.Each(func(o kadm.ListedOffset) {
		c, _ := committed.Lookup(o.Topic, o.Partition)
		ok = ok && c.Offset == o.Offset
	})
	return ok
}

// notify writes n notifications of a host, each a transaction of its own when
// alone, and returns their ids.
func (w *world) notify(host schemas.HostID, n, messageBytes int) []string {
	var (
		ids []string
		rs  []*kgo.Record
	)
	for range n {
		w.mu.Lock()
		w.n++
		id := fmt.Sprintf("ntf_%06d", w.n)
		w.mu.Unlock()
		ids, rs = append(ids, id), append(rs, w.record(host, id, strings.Repeat("m", messageBytes)))
	}
	w.send(rs...)
	return ids
}

func (w *world) record(host schemas.HostID, id, message string) *kgo.Record {
	rec := schemas.FeedRecord{Kind: schemas.FeedNotification, HostID: host, At: time.Now(), Notification: &schemas.Notification{
		ID: schemas.NotificationID(id), HostID: host, Type: schemas.Urgent, Title: "line\r\nend\u2028", Message: message, Priority: schemas.High,
	}}
	r, err := kafka.Encode(topic, string(host), rec.Meta(), rec)
	if err != nil {
		w.t.Error(err)
	}
	return r
}

// cursor is the position that the sink has committed, as the state would give it.
func (w *world) cursor(host schemas.HostID) string {
	p := w.feed.Partition(host)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.feed.At(p, w.sink[p]).String()
}

// neighbours are hosts of one partition.
func (w *world) neighbours(n int) []schemas.HostID {
	var out []schemas.HostID
	for i := 0; len(out) < n; i++ {
		if h := schemas.HostID(fmt.Sprintf("host_%d", i)); w.feed.Partition(h) == 0 {
			out = append(out, h)
		}
	}
	return out
}

// A replica is a running hub behind a real server.
type replica struct {
	hub  *push.Hub
	srv  *httptest.Server
	reg  *prometheus.Registry
	stop func()
}

func (w *world) start(change func(*push.Options), wrap func(http.ResponseWriter, *http.Request) http.ResponseWriter) *replica {
	w.t.Helper()
	r := &replica{reg: prometheus.NewRegistry()}
	o := push.Options{
		Kafka: w.conf, Released: w.released, Feed: w.feed, Heartbeat: 20 * time.Millisecond, Drain: 50 * time.Millisecond,
		Logger: testLog, Registry: r.reg,
	}
	if change != nil {
		change(&o)
	}
	var err error
	if r.hub, err = push.New(o); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.hub.Run(ctx) }()
	r.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		var until time.Time
		if s := req.URL.Query().Get("for"); s != "" {
			d, _ := time.ParseDuration(s)
			until = time.Now().Add(d)
		}
		if wrap != nil {
			rw = wrap(rw, req)
		}
		r.hub.Serve(rw, req, schemas.HostID(req.URL.Query().Get("host")), until, schemas.FeedFilter{})
	}))
	r.srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && s == http.StateNew {
			_ = tcp.SetWriteBuffer(64 << 10) // so that the kernel does not read for a client that does not
		}
	}
	r.srv.Config.WriteTimeout = time.Nanosecond // the stream overrides it, or nothing works
	r.srv.Start()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		r.srv.Close()
	})
	w.t.Cleanup(r.stop)
	testenv.Eventually(w.t, "the hub is ready", func() bool { return r.hub.Ready() == nil })
	return r
}

// flow makes everything written so far visible.
func (w *world) flow(rs ...*replica) {
	w.commit()
	for _, r := range rs {
		r.hub.Wake()
	}
}

// metric adds up the series of a name whose labels have the value; all where it
// is empty.
func (r *replica) metric(t testing.TB, name, label string) float64 {
	t.Helper()
	fams, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, f := range fams {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == label) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// A client reads a stream as a browser would, and as dumbly as possible.
type client struct {
	t    testing.TB
	resp *http.Response
	r    *bufio.Reader
	quit context.CancelFunc
	last string // the id of the last whole event
	err  error  // what ended the stream
}

// An event is one that was dispatched.
type event struct {
	id, name, retry string
	data            map[string]any
	raw             string
}

// dial opens a stream; an empty cursor is none.
func (r *replica) dial(t testing.TB, host schemas.HostID, cursor, query string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.srv.URL+"/?host="+string(host)+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := streams.Do(req)
	if err != nil && strings.HasPrefix(query, "&sever=") { // in the middle of the headers
		return &client{t: t, r: bufio.NewReader(strings.NewReader("")), quit: cancel, last: cursor}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &client{t: t, resp: resp, r: bufio.NewReader(resp.Body), quit: cancel, last: cursor}
}

// streams has small buffers and a connection for each stream.
var streams = &http.Client{Transport: &http.Transport{
	DisableKeepAlives: true,
	DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return c, err
	},
}}

// next is the next whole event; ok is false when the stream has ended, and a
// block without its blank line is no event.
func (c *client) next() (e event, ok bool) {
	var data []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.err = err
			return event{}, false
		}
		e.raw += line
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); name {
		case "":
			if line != "\n" { // a comment
				continue
			}
			if e.id != "" {
				c.last = e.id
			}
			if len(data) == 0 {
				e.raw = ""
				continue
			}
			if err := json.Unmarshal([]byte(strings.Join(data, "\n")), &e.data); err != nil {
				c.t.Errorf("the data of %q is no JSON: %v", e.raw, err)
			}
			return e, true
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "retry":
			e.retry = value
		case "data":
			data = append(data, value)
		default:
			c.t.Errorf("the stream has a field %q", name)
		}
	}
}

// want is the next event of the name; heartbeats on the way are passed, others
// fail the test.
func (c *client) want(name string) event {
	c.t.Helper()
	for {
		e, ok := c.next()
		switch {
		case !ok:
			c.t.Fatalf("the stream ended with %v before %s", c.err, name)
		case e.name == name:
			return e
		case e.name != "heartbeat":
			c.t.Fatalf("got %q, want %s", e.raw, name)
		}
	}
}

func (c *client) wantIDs(ids []string) {
	c.t.Helper()
	for _, id := range ids {
		if got := c.want("notification").ntf(); got != id {
			c.t.Fatalf("got notification %s, want %s", got, id)
		}
	}
}

// wantEOF expects the stream to end here, and cleanly.
func (c *client) wantEOF() {
	c.t.Helper()
	if e, ok := c.next(); ok || !errors.Is(c.err, io.EOF) {
		c.t.Errorf("got event %q and error %v, want a clean end", e.raw, c.err)
	}
}

func (e event) ntf() string {
	d, _ := e.data["data"].(map[string]any)
	s, _ := d["id"].(string)
	return s
}

func (e event) cursor(t testing.TB) schemas.Cursor {
	t.Helper()
	c, err := schemas.ParseCursor(e.id)
	if err != nil {
		t.Fatalf("the id of %q: %v", e.raw, err)
	}
	return c
}

func (w *world) offsets(p int32, at int64) kadm.Offsets {
	o := kadm.Offsets{}
	o.Add(kadm.Offset{Topic: topic, Partition: p, At: at})
	return o
}

func (w *world) cursorOf(id string) schemas.Cursor {
	w.t.Helper()
	c, err := schemas.ParseCursor(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}
