// Package api is HTTP in. It reads requests, asks package producers to change
// things and package store to show them, and is the only place that knows status
// codes. All routes stand in routes.go, all errors leave through problem.go, and
// every body comes in through decode.go.
//
// It never talks to Kafka and never imports a processor or a sink: the handler of
// the event stream is handed in.
package api

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// Options of the API. DB, Producer, Auth and Logger are required.
type Options struct {
	DB       *store.DB // in RoleAPI
	Producer *producers.Producer
	Auth     *auth.Auth
	// Feed is the life of host.notifications that cursors speak about.
	Feed schemas.Feed
	// Stream serves hosts' events. Nil answers 503.
	Stream Stream
	// Pull answers an agent with the events after a cursor, and Follow streams them
	// until renew says that the key has ended; an error of it means that nothing was
	// written. Nil answers 503.
	Pull   func(ctx context.Context, ask schemas.Pull) (schemas.Pulled, error)
	Follow func(w http.ResponseWriter, r *http.Request, ask schemas.Pull, renew func(context.Context) (schemas.Subscription, error)) error
	// WebhookTimeout is how long one attempt may take. The test endpoint waits this
	// long and a second more for the first attempts. Default 30 seconds.
	WebhookTimeout time.Duration
	// ReplayWindow is how long every single event stays in the log; of what is older
	// the last of each booking does. Default 30 days.
	ReplayWindow time.Duration
	// CORSOrigins may call from a browser; none by default.
	CORSOrigins []string
	// TrustedProxies are the networks whose X-Forwarded-For says where a request comes
	// from. Without them every caller behind a proxy has the proxy's address.
	TrustedProxies []netip.Prefix
	// HostReads and HostWrites bound each host's requests. Defaults 50 a second and
	// 500 at once, 10 a second and 200 at once.
	HostReads, HostWrites Rate
	// StripeSecret verifies Stripe's webhooks; without it they are refused
	// with 503.
	StripeSecret schemas.Secret
	// BodyBudget is how many bytes of bodies are read and decoded at a time; one caller
	// may have an eighth of it. Default 32 MiB.
	BodyBudget int64
	// Topics are those that the AsyncAPI document describes.
	Topics []schemas.Topic
	// Pages are served under /dashboard/, and Docs under /docs/; nil for none.
	Pages, Docs fs.FS
	// Ready tells why the process should get no requests, in a bounded time. It is
	// asked once a second at most. Nil is always ready.
	Ready    func() error
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil for no metrics
	Version  string
}

// A server is what all endpoints share.
type server struct {
	o      Options
	log    *slog.Logger
	limits limiter
	// by host
	hostReads, hostWrites *buckets

	refusals sampler
	bodies   *budget
	metrics  *metrics
	ready    verdict
	waiting  waiters
	tools    http.Handler // of the Model Context Protocol

	asyncAPI func() ([]byte, error) // the document, made once
}

// New makes the handler of everything that the API's listener serves. It starts
// nothing.
func New(o Options) http.Handler {
	if o.WebhookTimeout == 0 {
		o.WebhookTimeout = 30 * time.Second
	}
	if o.ReplayWindow == 0 {
		o.ReplayWindow = 30 * 24 * time.Hour
	}
	if o.BodyBudget == 0 {
		o.BodyBudget = defaultBudget
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	s := &server{
		o: o, log: o.Logger, metrics: newMetrics(o.Registry), ready: verdict{look: o.Ready}, bodies: newBudget(o.BodyBudget),
		hostReads: newBuckets(o.HostReads, defaultHostReads), hostWrites: newBuckets(o.HostWrites, defaultHostWrites),
	}
	s.asyncAPI = sync.OnceValues(func() ([]byte, error) { return schemas.AsyncAPI(o.Topics) })
	router := s.router()
	s.tools = s.newTools(router)
	return router
}
