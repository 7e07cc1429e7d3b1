package app

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/krib-ai/krib/processors/deliver"
)

// A receiver is the sample of what an agent's own endpoint does: it verifies the
// signature of each delivery before it looks at anything else, and then keeps
// what it got, the last of it, for GET /received.
type receiver struct {
	// secret finds a subscription's signing secret. A real receiver has it from the
	// answer to its own subscription.
	secret func(ctx context.Context, subscription string) ([]byte, error)

	mu    sync.Mutex
	total int
	bytes int            // of the bodies in last
	seen  map[string]int // by webhook-id
	last  []receivedWebhook
}

// keepReceived and keepBytes bound what GET /received shows.
const (
	keepReceived = 1_000
	keepBytes    = 32 << 20
)

type receivedWebhook struct {
	WebhookID  string              `json:"webhook_id"`
	Event      string              `json:"event"`
	Attempt    string              `json:"attempt"`
	Verified   bool                `json:"verified"`
	Error      string              `json:"error,omitempty"`
	Repeat     bool                `json:"repeat"` // this webhook-id came before
	ReceivedAt time.Time           `json:"received_at"`
	Path       string              `json:"path"`
	Headers    map[string][]string `json:"headers"`
	Body       json.RawMessage     `json:"body"`
}

func (rc *receiver) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /received", rc.list)
	mux.HandleFunc("DELETE /received", rc.clear)
	mux.HandleFunc("POST /", rc.receive)
	return mux
}

func (rc *receiver) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 2<<20))
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	got := receivedWebhook{
		WebhookID: r.Header.Get("Webhook-Id"), Event: r.Header.Get("X-Webhook-Event"), Attempt: r.Header.Get("X-Webhook-Attempt"),
		ReceivedAt: time.Now().UTC(), Path: r.URL.Path, Headers: r.Header.Clone(), Body: body,
	}
	got.Headers["Authorization"] = []string{"[hidden]"}
	if !json.Valid(body) {
		got.Body, _ = json.Marshal(string(body)) // a string always encodes
	}
	if err := rc.verify(r, body); err != nil {
		got.Error = err.Error()
	} else {
		got.Verified = true
	}
	rc.keep(&got)
	if !got.Verified {
		http.Error(w, got.Error, http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"received":true}`+"\n")
}

func (rc *receiver) verify(r *http.Request, body []byte) error {
	var frame struct {
		Subscription string `json:"subscription_id"`
	}
	// The body is not trusted yet: it only says which secret must fit.
	_ = json.Unmarshal(body, &frame)
	secret, err := rc.secret(r.Context(), frame.Subscription)
	if err != nil {
		return err
	}
	return deliver.Verify(r.Header, body, secret, time.Now())
}

func (rc *receiver) keep(got *receivedWebhook) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.total++
	if got.Verified {
		got.Repeat = rc.seen[got.WebhookID] > 0
		rc.seen[got.WebhookID]++
	}
	rc.last = append(rc.last, *got)
	rc.bytes += len(got.Body)
	over := 0
	for len(rc.last)-over > keepReceived || (rc.bytes > keepBytes && over < len(rc.last)-1) {
		rc.bytes -= len(rc.last[over].Body)
		delete(rc.seen, rc.last[over].WebhookID)
		over++
	}
	rc.last = slices.Delete(rc.last, 0, over)
}

// list answers with what was received, on request only that of one booking and event.
func (rc *receiver) list(w http.ResponseWriter, r *http.Request) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	booking, event, found := r.URL.Query().Get("booking_id"), r.URL.Query().Get("event"), []receivedWebhook{}
	for i := range rc.last {
		var body struct {
			BookingID string `json:"booking_id"`
		}
		_ = json.Unmarshal(rc.last[i].Body, &body) // what is no webhook is of no booking
		if (booking == "" || booking == body.BookingID) && (event == "" || event == rc.last[i].Event) {
			found = append(found, rc.last[i])
		}
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	_ = enc.Encode(map[string]any{"total": rc.total, "received": found}) // the client may be gone
}

func (rc *receiver) clear(w http.ResponseWriter, _ *http.Request) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.total, rc.bytes, rc.last, rc.seen = 0, 0, nil, map[string]int{}
	w.WriteHeader(http.StatusNoContent)
}
