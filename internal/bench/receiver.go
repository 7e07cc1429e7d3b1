package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/schemas"
)

// A receiver is the server of all endpoints that webhooks go to. It verifies
// every signature, so that nothing counts as a delivery that is none.
type receiver struct {
	server *http.Server
	url    string

	mu    sync.RWMutex
	hooks map[string]*hook // by path
	made  int
}

func listen(ctx context.Context) (*receiver, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for webhooks: %w", err)
	}
	r := &receiver{url: "http://" + ln.Addr().String(), hooks: map[string]*hook{}}
	r.server = &http.Server{
		Handler: r, ReadHeaderTimeout: 10 * time.Second,
		// A request that a sender gives up is no news here.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { _ = r.server.Serve(ln) }() // ends with close
	return r, nil
}

func (r *receiver) close() { _ = r.server.Close() }

// hook makes an endpoint on a path of its own.
func (r *receiver) hook() *hook {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made++
	path := fmt.Sprintf("/hook/%d", r.made)
	h := &hook{url: r.url + path, seen: map[string]arrival{}}
	r.hooks[path] = h
	return h
}

// ServeHTTP answers 204 to a delivery whose signature holds.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.RLock()
	h := r.hooks[req.URL.Path]
	r.mu.RUnlock()
	if h == nil {
		http.NotFound(w, req)
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender left in the middle: there is no delivery
	}
	now := time.Now()
	if h.hangs.Load() {
		<-req.Context().Done() // until the sender gives up
		return
	}
	if err := h.take(req.Header, body, now); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// A hook is one endpoint and what came to it.
type hook struct {
	url   string
	id    schemas.SubscriptionID
	hangs atomic.Bool // it never answers

	mu     sync.Mutex
	secret []byte
	seen   map[string]arrival // by webhook-id; the first one counts
	sample []byte             // the last body
	want   int
	full   chan struct{} // closed when seen has want
}

// An arrival is one delivery as it came in.
type arrival struct {
	at      time.Time
	event   time.Time // when it happened
	booking string
}

func (h *hook) take(header http.Header, body []byte, now time.Time) error {
	h.mu.Lock()
	secret := h.secret
	h.mu.Unlock()
	if err := deliver.Verify(header, body, secret, now); err != nil {
		return err
	}
	id := header.Get("Webhook-Id")
	event, err := time.Parse(time.RFC3339Nano, header.Get("X-Webhook-Timestamp"))
	if err != nil {
		return fmt.Errorf("reading the event's time: %w", err)
	}
	a := arrival{at: now, event: event, booking: member(body, "booking_id")}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, again := h.seen[id]; again {
		return nil
	}
	h.seen[id], h.sample = a, body
	if h.full != nil && len(h.seen) >= h.want {
		close(h.full)
		h.full = nil
	}
	return nil
}

// member is the first string member of that name. The body is Krib's own and
// without blanks; a decoder here would cost more than all else that is done for
// a delivery.
func member(body []byte, name string) string {
	_, rest, _ := bytes.Cut(body, []byte(`"`+name+`":"`))
	v, _, _ := bytes.Cut(rest, []byte{'"'})
	return string(v)
}

// await waits until n different deliveries have come since the last clear.
func (h *hook) await(ctx context.Context, n int) error {
	h.mu.Lock()
	if len(h.seen) >= n {
		h.mu.Unlock()
		return nil
	}
	full := make(chan struct{})
	h.want, h.full = n, full
	h.mu.Unlock()
	select {
	case <-full:
		return nil
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()
		return fmt.Errorf("waiting for %d deliveries, of which %d came: %w", n, len(h.seen), ctx.Err())
	}
}

// clear forgets what came and returns it.
func (h *hook) clear() map[string]arrival {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen
	h.seen = map[string]arrival{}
	return seen
}

// last is when the latest delivery came.
func last(seen map[string]arrival) time.Time {
	var at time.Time
	for _, a := range seen {
		if a.at.After(at) {
			at = a.at
		}
	}
	return at
}

// A poster makes bare signed POSTs to a hook: what a delivery costs without
// Krib. Body, headers and signature are those of a real one.
type poster struct {
	client *http.Client
	hook   *hook
	body   []byte
	secret []byte
	next   atomic.Int64
}

// bare makes a poster of what the hook last received.
func (h *hook) bare(conns int) *poster {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &poster{client: keepAlive(conns), hook: h, body: h.sample, secret: h.secret}
}

// keepAlive is a client that keeps as many connections as it may open.
func keepAlive(conns int) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns}}
}

// post sends one, due at a moment that the hook sees as the event's time.
func (p *poster) post(ctx context.Context, due time.Time) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.hook.url, bytes.NewReader(p.body))
	if err != nil {
		return fmt.Errorf("making a bare POST: %w", err)
	}
	id, now := fmt.Sprintf("evt_bare%d", p.next.Add(1)), time.Now()
	signature := deliver.Sign(id, now, p.body, p.secret)
	for _, h := range [][2]string{
		{"Content-Type", "application/json"},
		{"User-Agent", "Krib-AI-Webhook/1.0"},
		{"Webhook-Id", id},
		{"Webhook-Timestamp", fmt.Sprint(now.Unix())},
		{"Webhook-Signature", signature},
		{"X-Webhook-Event", string(schemas.BookingCreated)},
		{"X-Webhook-Id", "dlv_" + id},
		{"X-Webhook-Timestamp", due.Format(time.RFC3339Nano)},
		{"X-Webhook-Signature", strings.TrimPrefix(signature, "v1,")}, // as long as the real one
		{"X-Webhook-Attempt", "1"},
		{"Authorization", "Bearer " + agentSecret},
	} {
		req.Header.Set(h[0], h[1])
	}
	res, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("sending a bare POST: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("a bare POST was answered with %s", res.Status)
	}
	return nil
}

func (p *poster) close() { p.client.CloseIdleConnections() }
