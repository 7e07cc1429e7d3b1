package listen

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/schemas"
)

// forwardTimeout is for one POST, headers and body: the default of webhooks.
const forwardTimeout = 15 * time.Second

// A forwarder makes the requests of one temporary subscription. It lives as long
// as the run, and nobody else knows of it.
type forwarder struct {
	url       string
	id        schemas.SubscriptionID
	key       []byte
	text      schemas.Secret // the key as people copy it
	bearer    schemas.Secret
	transport *http.Transport
}

func newForwarder(o *Options) (*forwarder, error) {
	to, err := webhook.ParseURL(o.ForwardTo)
	if err != nil {
		return nil, fmt.Errorf("--forward-to %w", err)
	}
	f := &forwarder{url: to.String(), id: schemas.NewSubscriptionID(), text: o.Secret, bearer: o.Bearer, transport: &http.Transport{
		// A receiver on this machine is not behind a proxy.
		Proxy: nil, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true,
	}}
	if o.Secret == "" {
		f.key, f.text = schemas.NewSigningSecret()
		return f, nil
	}
	if f.key, err = schemas.ParseSigningSecret(o.Secret); err != nil {
		return nil, fmt.Errorf("reading the signing secret: it %w", err)
	}
	return f, nil
}

func (f *forwarder) close() { f.transport.CloseIdleConnections() }

// An answer is what came of a POST.
type answer struct {
	status int
	took   time.Duration
	err    error
}

func (a *answer) good() bool { return a.err == nil && a.status >= 200 && a.status < 300 }

// post sends an event as its webhook would be sent. Redirects are not followed.
func (f *forwarder) post(ctx context.Context, event schemas.WebhookBody) answer {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	start := time.Now()
	status, err := f.roundTrip(ctx, cancel, event)
	return answer{status, time.Since(start), err}
}

func (f *forwarder) roundTrip(ctx context.Context, cancel context.CancelFunc, event schemas.WebhookBody) (int, error) {
	body, err := schemas.Encode(event.For(f.url, f.id))
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("making the request: %w", err)
	}
	req.Header = deliver.Header(&deliver.Signed{
		EventID: event.ID, EventType: event.Type, DeliveryID: schemas.DeliveryFor(event.ID, f.id), Attempt: 1, Body: body,
		Secrets: [][]byte{f.key}, Bearer: f.bearer, TraceParent: schemas.NewTraceParent(),
	}, time.Now())
	resp, err := f.transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // whatever it says, the answer is in
	// The status line decides, as it does for webhooks.
	_, _ = deliver.ReadBody(resp.Body, cancel)
	return resp.StatusCode, nil
}
