package app

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/api/dashboard"
	"github.com/krib-ai/krib/api/reference"
	"github.com/krib-ai/krib/internal/jobs"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/telemetry"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/fanout"
	"github.com/krib-ai/krib/processors/replay"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/producers/outbox"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/attempts"
	"github.com/krib-ai/krib/sinks/email"
	"github.com/krib-ai/krib/sinks/notifications"
	"github.com/krib-ai/krib/sinks/pull"
	"github.com/krib-ai/krib/sinks/push"
)

const (
	// apiGrace is what requests in flight get after a stop was asked for; the rest
	// goes on meanwhile, since some of them wait for it.
	apiGrace = 3 * time.Second
	// closeGrace bounds small last steps.
	closeGrace = 2 * time.Second
)

// run wires the roles of c and runs them until ctx ends. Kafka's topics and the
// database's tables must be there. ready is called once, when everything is.
//
// It is one straight line on purpose: each step needs what the one before made,
// and the order of lines is the order of start.
func run(ctx context.Context, c *config, httpLn, adminLn net.Listener, log *slog.Logger, ready func(schemas.Feed) error) error {
	reg := telemetry.NewRegistry()
	kc, err := c.kafka(log)
	if err != nil {
		return err
	}
	kc.Instance, kc.Registry = c.instance, reg
	var ring *seal.Ring
	if c.seals() {
		if ring, err = c.ring(); err != nil {
			return err
		}
	}
	feed, life, err := describeTopics(ctx, kc)
	if err != nil {
		return err
	}
	apiDB, err := store.Open(ctx, c.databaseURL, store.RoleAPI, apiConnections, store.SharePerCaller(apiConnections/4))
	if err != nil {
		return err
	}
	defer apiDB.Close()
	sinkDB, err := store.Open(ctx, c.databaseURL, store.RoleSink, 6)
	if err != nil {
		return err
	}
	defer sinkDB.Close()

	// The API stops first and what works behind it second: a request that is being
	// answered may wait for the others.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	g, work := errgroup.WithContext(work)
	wired := false
	defer func() {
		if !wired { // a step below failed: what was started ends before its pools do
			stopWork()
			_ = g.Wait()
		}
	}()
	health, err := kafka.NewHealth(kc)
	if err != nil {
		return err
	}
	g.Go(func() error { return health.Run(work) })
	checks := &readiness{roles: c.roles, kafka: health.Err, postgres: apiDB.Ping, log: log}
	reg.MustRegister(outbox.NewDepth(apiDB))

	outboxSignal, sinkSignal := store.NewSignal(store.ChannelOutbox), store.NewSignal(store.ChannelSink)
	g.Go(func() error { return outboxSignal.Run(work, apiDB, log) })
	g.Go(func() error { return sinkSignal.Run(work, sinkDB, log) })

	if c.has("relay") {
		relay := outbox.New(outbox.Options{Kafka: kc, DatabaseURL: c.databaseURL, Signal: outboxSignal, Logger: log, Registry: reg})
		checks.add("relay", "", relay.Ready)
		g.Go(func() error { return relay.Run(work) })
	}
	if c.has("fanout") {
		p, err := fanout.New(fanout.Options{Kafka: kc, Logger: log, Registry: reg})
		if err != nil {
			return err
		}
		checks.add("fanout", "", p.Ready)
		g.Go(func() error { return p.Run(work) })
	}
	if c.has("deliver") {
		w, err := deliver.New(deliver.Options{
			Kafka: kc, Ring: ring, Ladder: c.ladder.Cut(c.maxRetries), Timeout: c.timeout, Allow: c.allow, AllowHTTP: c.allowHTTP, Logger: log, Registry: reg,
		})
		if err != nil {
			return err
		}
		checks.add("deliver", "", w.Ready)
		g.Go(func() error { return w.Run(work) })
	}
	if c.has("retry") {
		m, err := retry.New(retry.Options{Kafka: kc, Logger: log, Registry: reg})
		if err != nil {
			return err
		}
		g.Go(func() error { return m.Run(work) })
	}
	hubStopped := make(chan struct{}) // streams whose connections were taken over are not the server's
	var stream api.Stream = noStream{}
	wakeStream := func() {}
	apiCtx, stopAPI := context.WithCancel(work)
	defer stopAPI()
	context.AfterFunc(ctx, stopAPI)
	if c.has("push") {
		hub, err := push.New(push.Options{
			Kafka: kc, Released: released(sinkDB, feed), Feed: feed, Heartbeat: c.heartbeat, MaxConnections: c.maxConnections,
			MaxPerHost: c.maxPerHost, MaxPerAddress: c.maxPerAddress, Drain: c.sseDrain, Logger: log, Registry: reg,
		})
		if err != nil {
			return err
		}
		stream, wakeStream = hubStream{hub}, hub.Wake
		checks.add("push", "", func(context.Context) error { return hub.Ready() })
		g.Go(func() error {
			defer close(hubStopped)
			return hub.Run(apiCtx)
		})
		go store.Listen(work, c.databaseURL, store.ChannelSink, log, hub.Wake)
	} else {
		close(hubStopped)
	}
	if c.has("sinks") {
		n, err := notifications.New(notifications.Options{
			Kafka: kc, DB: sinkDB, Feed: feed, Logger: log, Registry: reg,
			Committed: func() { wakeStream(); sinkSignal.Wake() },
		})
		if err != nil {
			return err
		}
		checks.add("sinks", "notifications", n.Ready)
		g.Go(func() error { return n.Run(work) })
		a, err := attempts.New(attempts.Options{
			Kafka: kc, DB: sinkDB, DisableAfter: c.disableAfter, Wake: outboxSignal.Wake, Logger: log, Registry: reg,
		})
		if err != nil {
			return err
		}
		checks.add("sinks", "attempts", a.Ready)
		g.Go(func() error { return a.Run(work) })
	}
	if c.has("sinks") && c.mail.server != nil {
		e, err := email.New(ctx, email.Options{
			Kafka: kc, DB: sinkDB, Server: *c.mail.server, From: *c.mail.from, Dashboard: c.mail.dashboard, Digest: c.mail.digest, Rate: c.mail.rate,
			Logger: log, Registry: reg,
		})
		if err != nil {
			return err
		}
		checks.add("sinks", "email", e.Ready)
		g.Go(func() error { return e.Run(work) })
	}
	if c.has("jobs") {
		db, err := store.Open(ctx, c.databaseURL, store.RoleJobs, 6)
		if err != nil {
			return err
		}
		defer db.Close()
		j := jobs.New(jobs.Options{
			DB: db, Logger: log, FeedRetention: 7 * day, Wake: outboxSignal.Wake, Registry: reg,
			RequestsEvery: c.expiryEvery, CleanUpEvery: c.cleanUpEvery, MaintenanceEvery: c.maintenanceEvery,
			DisableAfter: c.disableAfter, AttemptsRetention: c.attemptsRetention,
		})
		g.Go(func() error { return j.Run(work) })
		replays, err := replay.New(replay.Options{Kafka: kc, Jobs: store.ReplayJobs{DB: db}, Logger: log, Registry: reg})
		if err != nil {
			return err
		}
		g.Go(func() error { return replays.Run(work) })
	}
	apiStopped := make(chan struct{})
	if c.has("api") {
		events, err := pull.New(pull.Options{
			Kafka: kc, Life: life, ReplayWindow: c.replayWindow, Heartbeat: c.heartbeat, MaxReaders: c.pullMaxReaders, MaxPerKey: c.pullMaxPerKey,
			Drain: c.sseDrain, Logger: log, Registry: reg,
		})
		if err != nil {
			return err
		}
		checks.add("api", "pull", events.Ready)
		g.Go(func() error { return events.Run(apiCtx) })
		h, err := handler(ctx, c, apiDB, ring, feed, outboxSignal, stream, events, checks, log, reg)
		if err != nil {
			return err
		}
		all, each := c.connectionBounds()
		bounded := bound(httpLn, all, each, reg)
		g.Go(func() error {
			defer close(apiStopped)
			return serveHTTP(apiCtx, bounded, newServer(h, writeTime), apiGrace)
		})
	} else {
		close(apiStopped)
	}
	g.Go(func() error {
		return serveHTTP(work, adminLn, newServer(admin(reg, checks, c.pprof, c.adminHosts), adminWriteTime), closeGrace)
	})

	g.Go(func() error {
		if err := checks.wait(work); err != nil || ctx.Err() != nil {
			return nil //nolint:nilerr // stopped before it was ready; the cause is another's
		}
		return ready(feed)
	})
	context.AfterFunc(ctx, func() {
		checks.drain.Store(true)
		<-apiStopped // within its grace
		<-hubStopped // within its drain
		stopWork()
	})
	wired = true
	return wait(ctx, g, log)
}

// apiConnections is the API's pool. A quarter of it is what one caller may hold.
const apiConnections = 16

// stopTimeout is what everything gets after a stop was asked for. What has not
// ended by then is left to the end of the process, as a kill would: nothing is
// lost by it. It happens when a broker does not answer its last requests.
const stopTimeout = 8 * time.Second

func wait(ctx context.Context, g *errgroup.Group, log *slog.Logger) error {
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(stopTimeout):
		log.WarnContext(ctx, "not everything ended in time; it is left behind")
		return nil
	}
}

// describeTopics are the lives of the topics that cursors speak about: those of
// hosts and those of agents.
func describeTopics(ctx context.Context, kc kafka.Config) (feed, events schemas.Feed, err error) {
	kc.Registry = nil // it lives for a few requests
	cl, err := kafka.NewProducer(kc, "describe")
	if err != nil {
		return feed, events, err
	}
	defer cl.Close()
	if feed, err = kafka.FeedOf(ctx, cl); err != nil {
		return feed, events, err
	}
	events, err = kafka.LifeOf(ctx, cl, string(schemas.BookingEvents))
	return feed, events, err
}

func released(db *store.DB, feed schemas.Feed) func(context.Context) (map[int32]int64, error) {
	return func(ctx context.Context) (out map[int32]int64, err error) {
		err = db.Read(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
			out, err = tx.SinkOffsets(ctx, feed.TopicID)
			return err
		})
		return out, err
	}
}

func handler(ctx context.Context, c *config, db *store.DB, ring *seal.Ring, feed schemas.Feed, wake *store.Signal, stream api.Stream, events *pull.Log, checks *readiness, log *slog.Logger, reg prometheus.Registerer) (http.Handler, error) {
	a, err := auth.New(ctx, auth.Options{DB: db, JWTSecret: []byte(c.jwtSecret), JWKSURL: c.jwksURL, Issuer: c.issuer, Audience: c.audience})
	if err != nil {
		return nil, err
	}
	p := producers.New(producers.Options{
		DB: db, Ring: ring, Feed: feed, BookingTTL: c.bookingTTL, PendingNights: c.pendingNights, PendingRequests: c.pendingRequests, AllowHTTP: c.allowHTTP, Wake: wake.Wake,
		AllowedAddress: func(ip netip.Addr) bool { return deliver.Callable(ip, c.allow) },
	})
	return api.New(api.Options{
		DB: db, Producer: p, Auth: a, Feed: feed, Stream: stream, Pull: events.Pull, Follow: events.Follow,
		WebhookTimeout: c.timeout, ReplayWindow: c.replayWindow, CORSOrigins: c.corsOrigins, TrustedProxies: c.proxies,
		HostReads: c.hostReads, HostWrites: c.hostWrites, StripeSecret: c.stripeSecret,
		Topics: c.topics(), Pages: dashboard.Files, Docs: reference.Files, Ready: checks.now, Logger: log, Registry: reg, Version: version(),
	}), nil
}
