// Package mcp is the API for models: a server of the Model Context Protocol whose
// tools are operations of openapi.json under names that models call them by. A
// call becomes the request that the operation describes, with the caller's own
// Authorization, and goes through the same handler as everybody's: validation,
// scopes, tenancy, rate limits and errors are the API's, and nothing is decided
// here a second time.
//
// The server keeps no sessions. Each POST is one message and is answered by
// itself, so that any replica can.
package mcp

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// Options of the server. All are required but the version.
type Options struct {
	// API serves the operations of Document, which is an OpenAPI document in JSON.
	API      http.Handler
	Document []byte
	// Refuse answers a call that could not become a request, in the form of the
	// API's errors.
	Refuse  func(http.ResponseWriter, *http.Request, error)
	Logger  *slog.Logger
	Version string
}

// versions are those that have structured output. What an older one brought with
// it, several messages in one request, is not taken.
var versions = []string{"2025-06-18", "2025-11-25", "2026-07-28"}

const instructions = `Krib books homes for guests. Find a home (search_properties), ask whether it is free (check_availability) and what the stay costs ` +
	`(quote_price), then book it (create_booking) with exactly that total. A booking waits for its host, who confirms or declines it: follow it with ` +
	`list_events, or by webhooks (create_webhook_subscription). A refusal is JSON: code is a stable word, detail says what is wrong, errors names each ` +
	`argument and its rule.`

// New makes the handler of the protocol's endpoint, which writes its answers into an
// Answer. What mounts it has recognised the caller, checked the origin, and read the
// body, which is one JSON object without members that stand twice. It panics when the
// document lacks what a tool needs: both are part of the program.
func New(o Options) http.Handler {
	server := sdk.NewServer(&sdk.Implementation{Name: "krib", Title: "Krib", Version: o.Version}, &sdk.ServerOptions{
		Instructions: instructions,
		// The tools are the same for the life of the process, and nothing else is
		// offered.
		Capabilities:              &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{}},
		SupportedProtocolVersions: versions,
	})
	server.AddReceivingMiddleware(withoutListening)
	d := read(o.Document)
	c := caller{api: o.API, refuse: o.Refuse}
	for i := range tools {
		op := d.operation(&tools[i])
		server.AddTool(tools[i].describe(&op), c.handler(&op))
	}
	h := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, &sdk.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true, Logger: o.Logger,
		// It takes every request through a proxy on the same machine for an attack. The
		// origin has been checked, and there is a key, which no page has by itself.
		DisableLocalhostProtection: true,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := readMessage(r)
		if err != nil {
			http.Error(w, "the message cannot be read", http.StatusBadRequest)
			return
		}
		a := NewAnswer()
		h.ServeHTTP(a, r.WithContext(context.WithValue(r.Context(), connection{}, r.Context())))
		m.finish(a)
		a.WriteTo(w)
	})
}

// connection is the key of the context that ends with the caller's request; the
// library hands its values on, and not its end.
type connection struct{}

// whileConnected is ctx until the caller leaves, too.
func whileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	of, ok := ctx.Value(connection{}).(context.Context)
	if !ok {
		return ctx, cancel
	}
	stop := context.AfterFunc(of, cancel)
	return ctx, func() { stop(); cancel() }
}

// withoutListening refuses the one method that would hold a connection for as long
// as a caller likes: there is nothing to hear.
func withoutListening(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, r sdk.Request) (sdk.Result, error) {
		if method == "subscriptions/listen" {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "this server notifies of nothing; call list_events"}
		}
		return next(ctx, method, r)
	}
}

// retryAfter is the member that tells a model when to come back: it does not see
// headers.
const retryAfter = "retry_after_seconds"
