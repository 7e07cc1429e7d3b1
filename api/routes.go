package api

import (
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/cors"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/schemas"
)

// A route is one line of the table below. Its path is also its name in metrics
// and logs.
type route struct {
	method, path string
	handler      http.HandlerFunc
}

const (
	hooks  = "/api/v1/external/webhook-subscriptions"
	hosted = "/api/v1/hosts/{host_id}"
	admin  = "/api/v1/admin"
	feed   = "/api/v1/external/events"
)

// routes are all there are. agent needs an API key with the scope, host a token
// of the path's host, open nothing.
func (s *server) routes() []route {
	routes := []route{
		{http.MethodGet, "/", serveRoot},
		{http.MethodGet, "/health", s.open(s.health)},
		{http.MethodGet, "/healthz", s.open(s.health)},
		{http.MethodGet, "/api/health", s.open(s.health)},
		{http.MethodGet, "/api/openapi.json", serveOpenAPI},
		{http.MethodGet, "/llms.txt", serveLLMs},
		{http.MethodGet, "/api/asyncapi.json", s.serveAsyncAPI},
		{http.MethodGet, "/api/schemas/v1/{schema}.json", s.serveSchema},

		{http.MethodGet, "/api/v1/properties/search", s.agent(auth.BookingsRead, s.searchProperties)},
		{http.MethodGet, "/api/v1/properties/{property_id}", s.agent(auth.BookingsRead, s.property)},

		{http.MethodPost, "/api/v1/bookings", s.agent(auth.BookingsWrite, s.createBooking)},
		{http.MethodGet, "/api/v1/external/bookings/{booking_id}/status", s.agent(auth.BookingsRead, s.bookingStatus)},
		{http.MethodPut, "/api/v1/external/bookings/{booking_id}/status", s.agent(auth.BookingsWrite, s.changeStatus)},
		{http.MethodGet, "/api/v1/external/hosts/{host_id}/pending-bookings", s.agent(auth.BookingsRead, s.pendingBookings)},

		{http.MethodPost, "/api/v1/external/bookings/{booking_id}/auto-approve", s.agent(auth.BookingsWrite, s.autoApprove)},
		{http.MethodPost, "/api/v1/external/bookings/{booking_id}/payments", s.agent(auth.BookingsWrite, s.recordPayment)},
		{http.MethodPost, "/api/v1/integrations/stripe/webhook", s.open(s.stripeWebhook)}, // Stripe signs; it has no key
		{http.MethodGet, hosted + "/settings", s.host(s.hostSettings)},
		{http.MethodPut, hosted + "/settings", s.host(s.changeHostSettings)},

		{http.MethodPost, hooks, s.agent(auth.WebhooksManage, s.createSubscription)},
		{http.MethodGet, hooks, s.agent(auth.WebhooksManage, s.subscriptions)},
		{http.MethodGet, hooks + "/{subscription_id}", s.agent(auth.WebhooksManage, s.subscription)},
		{http.MethodPut, hooks + "/{subscription_id}", s.agent(auth.WebhooksManage, s.updateSubscription)},
		{http.MethodPatch, hooks + "/{subscription_id}", s.agent(auth.WebhooksManage, s.patchSubscription)},
		{http.MethodDelete, hooks + "/{subscription_id}", s.agent(auth.WebhooksManage, s.deleteSubscription)},
		{http.MethodPost, hooks + "/{subscription_id}/toggle", s.agent(auth.WebhooksManage, s.toggleSubscription)},
		{http.MethodPost, hooks + "/{subscription_id}/replays", s.agent(auth.WebhooksManage, s.startReplay)},
		{http.MethodGet, hooks + "/{subscription_id}/replays", s.agent(auth.WebhooksManage, s.replays)},
		{http.MethodGet, hooks + "/{subscription_id}/replays/{replay_id}", s.agent(auth.WebhooksManage, s.replay)},
		{http.MethodPost, hooks + "/{subscription_id}/replays/{replay_id}/cancel", s.agent(auth.WebhooksManage, s.cancelReplay)},
		{http.MethodPost, hooks + "/{subscription_id}/retry-failed", s.agent(auth.WebhooksManage, s.retryFailed)},
		{http.MethodPost, hooks + "/{subscription_id}/deliveries/{delivery_id}/retry", s.agent(auth.WebhooksManage, s.retryDelivery)},
		{http.MethodPost, hooks + "/{subscription_id}/rotate-secret", s.agent(auth.WebhooksManage, s.rotateSecret)},
		{http.MethodPost, hooks + "/{subscription_id}/test", s.agentSlow(auth.WebhooksManage, s.testSubscription)},
		{http.MethodGet, hooks + "/{subscription_id}/deliveries", s.agent(auth.WebhooksManage, s.deliveries)},
		{http.MethodGet, hooks + "/{subscription_id}/deliveries/{delivery_id}", s.agent(auth.WebhooksManage, s.delivery)},
		{http.MethodGet, hooks + "/{subscription_id}/attempts", s.agent(auth.WebhooksManage, s.attempts)},
		{http.MethodGet, hooks + "/{subscription_id}/statistics", s.agent(auth.WebhooksManage, s.statistics)},
		{http.MethodPost, "/api/v1/external/webhooks/test", s.agentSlow(auth.WebhooksManage, s.testWebhooks)},
		{http.MethodGet, "/api/v1/external/webhooks/statistics", s.agent(auth.WebhooksManage, s.webhookStatistics)},

		{http.MethodGet, feed, s.agentSlow(auth.EventsRead, s.pullEvents)},
		{http.MethodGet, feed + "/stream", s.followEvents},

		{http.MethodPost, mcpPath, s.mcp}, // the tools of models; each is one of these routes

		{http.MethodPost, "/api/v1/external/notifications/cleanup", s.agent(auth.NotificationsWrite, s.cleanUpNotifications)},
		{http.MethodPost, "/api/v1/external/notifications/bulk", s.agent(auth.NotificationsWrite, s.sendMany)},
		{http.MethodPost, "/api/v1/external/hosts/{host_id}/booking-notifications", s.agent(auth.NotificationsWrite, s.notifyOfBooking)},
		{http.MethodPost, "/api/v1/external/bookings/{booking_id}/messages", s.agent(auth.NotificationsWrite, s.passMessage)},
		{http.MethodPost, hosted + "/notifications", s.agent(auth.NotificationsWrite, s.sendNotification)},
		{http.MethodGet, hosted + "/notifications", s.host(s.notifications)},
		{http.MethodGet, hosted + "/notifications/count", s.host(s.countNotifications)},
		{http.MethodGet, hosted + "/notifications/statistics", s.host(s.notificationStatistics)},
		{http.MethodPut, hosted + "/notifications/read-all", s.host(s.readAll)},
		{http.MethodPost, hosted + "/notifications/read", s.host(s.markMany(schemas.MarkedRead))},
		{http.MethodPost, hosted + "/notifications/unread", s.host(s.markMany(schemas.MarkedUnread))},
		{http.MethodPost, hosted + "/notifications/delete", s.host(s.markMany(schemas.Deleted))},
		{http.MethodGet, hosted + "/notifications/{notification_id}", s.host(s.notification)},
		{http.MethodPut, hosted + "/notifications/{notification_id}/unread", s.host(s.markUnread)},
		{http.MethodPut, hosted + "/notifications/{notification_id}/read", s.host(s.markRead)},
		{http.MethodDelete, hosted + "/notifications/{notification_id}", s.host(s.deleteNotification)},
		{http.MethodGet, hosted + "/events", s.stream},
		{http.MethodPost, hosted + "/events/ticket", s.hostLimited(s.issueTicket)},
		{http.MethodPost, hosted + "/events/send", s.hostLimited(s.sendCustom)},
		{http.MethodGet, "/api/v1/sse/statistics", either(s.agent(auth.Admin, s.streams), s.hostAnywhere(s.hostStreams))},
		{http.MethodPost, "/api/v1/external/sse/broadcast", s.agent(auth.NotificationsWrite, s.broadcast)},

		{http.MethodGet, admin + "/agents", s.agent(auth.Admin, s.agents)},
		{http.MethodPost, admin + "/agents", s.agent(auth.Admin, s.createAgent)},
		{http.MethodGet, admin + "/keys", s.agent(auth.Admin, s.keys)},
		{http.MethodPost, admin + "/keys", s.agent(auth.Admin, s.createKey)},
		{http.MethodPost, admin + "/keys/{key_id}/revoke", s.agent(auth.Admin, s.revokeKey)},
		{http.MethodPost, admin + "/keys/{key_id}/rotate", s.agent(auth.Admin, s.rotateKey)},
		{http.MethodGet, "/api/v1/properties/{property_id}/availability", s.agent(auth.BookingsRead, s.availability)},
		{http.MethodPost, "/api/v1/properties/{property_id}/calculate-pricing", s.agent(auth.BookingsRead, s.calculatePricing)},
		{http.MethodGet, hosted + "/properties", s.host(s.hostProperties)},
		{http.MethodGet, hosted + "/properties/{property_id}", s.host(s.hostProperty)},
		{http.MethodPut, hosted + "/properties/{property_id}", s.host(s.putProperty)},
		{http.MethodGet, hosted + "/bookings", s.host(s.hostBookings)},
		{http.MethodGet, hosted + "/bookings/{booking_id}", s.host(s.hostBooking)},
	}
	return append(routes, s.hostActions()...)
}

// router lays the table under what every request passes. Nothing here buffers or
// times out: the stream goes through it too.
func (s *server) router() http.Handler {
	r := chi.NewRouter()
	r.Use(slashless, s.observe, s.recovered, defaultHeaders)
	if len(s.o.CORSOrigins) > 0 { // an empty list would mean every origin
		r.Use(cors.Handler(s.cors()))
	}
	r.Use(middleware.GetHead) // RFC 9110: whatever can be read can be asked for without its content
	known := operations(openAPI)
	for _, t := range s.routes() {
		r.Method(t.method, t.path, within(known[t.method+" "+t.path], t.handler))
	}
	s.pages(r)
	r.NotFound(s.noRoute)
	r.MethodNotAllowed(s.noMethod(r))
	return r
}

// slashless takes a slash behind the path of the tools away: clients of models are
// configured with one.
func slashless(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == mcpPath+"/" {
			at := *r.URL
			at.Path, at.RawPath = mcpPath, ""
			r = r.WithContext(r.Context()) // a copy
			r.URL = &at
		}
		next.ServeHTTP(w, r)
	})
}

// cors allows every method: of what a path does not take, a page shall read so.
func (s *server) cors() cors.Options {
	return cors.Options{
		AllowedOrigins: s.o.CORSOrigins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{
			"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID",
			"Mcp-Method", "Mcp-Name", "Mcp-Protocol-Version", requestIDHeader,
			"Traceparent", "Tracestate", // tracers send the second with the first; it is not read
			"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature",
		},
		ExposedHeaders: []string{
			"Allow", "ETag", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", "WWW-Authenticate", replayedHeader, requestIDHeader,
		},
		// With a star there are none: a browser refuses that together with cookies, and
		// rightly.
		AllowCredentials: !slices.Contains(s.o.CORSOrigins, "*"),
		MaxAge:           600,
	}
}
