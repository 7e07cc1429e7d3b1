package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/caller"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

const requestIDHeader = "X-Request-Id"

// info is what is known of a request while it is served; logs and errors read it.
type info struct {
	id        string
	principal auth.Principal
	operation *operation          // nil for what is no route of the table
	budget    *budget             // of bodies; nil for none
	writer    http.ResponseWriter // while an endpoint of agentSlow runs
	atEnd     []func()            // give back what the request holds
	address   string              // the network that the request counts for
	once      *producers.Once     // of a request with an Idempotency-Key
	code      string              // of the error that was answered; empty for none
}

// giveBack ends what the request holds of what all share.
func (i *info) giveBack() {
	for _, f := range i.atEnd {
		f()
	}
	i.atEnd = nil
}

type infoKey struct{}

func infoOf(ctx context.Context) *info {
	if i, ok := ctx.Value(infoKey{}).(*info); ok {
		return i
	}
	return &info{}
}

// requestID echoes the caller's own id when it is short and plain, or makes one.
func requestID(given string) string {
	plain := func(c rune) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("-_.:", c)
	}
	if given != "" && len(given) <= 128 && !strings.ContainsFunc(given, func(c rune) bool { return !plain(c) }) {
		return given
	}
	return rand.Text()
}

// noRouteName stands for every path that is no route, so that callers cannot make
// metrics grow.
const noRouteName = "none"

// routeOf is the pattern of the request's route, never its path: paths hold ids.
func routeOf(r *http.Request) string {
	return cmp.Or(chi.RouteContext(r.Context()).RoutePattern(), noRouteName)
}

// observe gives the request its id, and writes a log line and the metrics when it
// has ended.
func (s *server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		i := &info{id: requestID(r.Header.Get(requestIDHeader)), budget: s.bodies, address: caller.Of(r.Context())}
		if callOf(r.Context()) != nil { // its bytes are held by the message that it came in
			i.budget = nil
		}
		if i.address == "" { // a tool's call has that of the message
			i.address = caller.Address(r, s.o.TrustedProxies)
		}
		w.Header().Set(requestIDHeader, i.id)
		ctx := caller.With(context.WithValue(r.Context(), infoKey{}, i), i.address)
		if parent := r.Header.Get("Traceparent"); schemas.ValidTraceParent(parent) {
			ctx = schemas.WithTrace(ctx, parent)
		} else {
			ctx = schemas.WithTrace(ctx, schemas.NewTraceParent())
		}
		rec := &recorder{ResponseWriter: w}
		r = r.WithContext(ctx)
		defer func() {
			i.giveBack()
			rec.begun() // nothing was written: the server answers 200
			end := served{server: s, info: i, method: r.Method, route: routeOf(r), status: rec.status, start: start}
			if end.route == noRouteName || end.status == http.StatusMethodNotAllowed {
				end.path = loggedPath(r.URL)
			}
			if rec.taken != nil {
				rec.taken.atEnd(end.log)
				return
			}
			end.log(rec.bytes)
		}()
		next.ServeHTTP(rec, r)
	})
}

// served is what is said of a request when its answer has ended. It does not hold the
// request, which a stream would keep for hours.
type served struct {
	server        *server
	info          *info
	method, route string
	path          string // of what is no route or has no such method; empty otherwise
	status        int
	start         time.Time
}

// maxLoggedPath bounds what a caller can write into the log.
const maxLoggedPath = 200

// credential is what a caller may have put into a path by mistake: API keys,
// signing secrets, tokens.
var credential = regexp.MustCompile(`(?i)(krib_|whsec_|whsk_|eyJ|sk_|bearer)[^/]+`)

// loggedPath is a path that no route has, without what must not be in a log: the
// rest of the URL, also where its ? is escaped, and credentials.
func loggedPath(u *url.URL) string {
	path := u.EscapedPath()
	for _, end := range []string{"%3F", "%3f", "?", "%23"} {
		path, _, _ = strings.Cut(path, end)
	}
	path = credential.ReplaceAllString(path, "${1}REDACTED")
	if len(path) > maxLoggedPath {
		path = path[:maxLoggedPath] + "..."
	}
	return path
}

func (e *served) log(bytes int) {
	s, i, took := e.server, e.info, time.Since(e.start)
	s.metrics.served(e.method, e.route, e.status, took)
	if unknownCaller(e.status, i.code) {
		s.metrics.refused.WithLabelValues(i.code).Inc()
	}
	level := slog.LevelInfo
	if strings.HasPrefix(e.route, "/health") { // probes come every second
		level = slog.LevelDebug
	}
	ctx := context.Background() //nolint:contextcheck // the request's may have ended with its handler
	if !s.log.Enabled(ctx, level) {
		return
	}
	leftOut := 0
	if unknownCaller(e.status, i.code) {
		var say bool
		if leftOut, say = s.refusals.say(i.code+" "+i.address, time.Now()); !say {
			return
		}
	}
	attrs := []slog.Attr{
		slog.String("request_id", i.id), slog.String("method", e.method), slog.String("route", e.route),
		slog.Int("status", e.status), slog.Int("bytes", bytes), slog.Int64("duration_ms", took.Milliseconds()),
	}
	if e.path != "" {
		attrs = append(attrs, slog.String("path", e.path))
	}
	if i.principal.KeyID != "" {
		attrs = append(attrs, slog.String("agent_id", string(i.principal.Agent)), slog.String("key_id", string(i.principal.KeyID)))
	}
	if i.principal.Host != "" {
		attrs = append(attrs, slog.String("host_id", string(i.principal.Host)))
	}
	if i.code != "" {
		attrs = append(attrs, slog.String("code", i.code))
	}
	if unknownCaller(e.status, i.code) {
		attrs = append(attrs, slog.String("address", i.address), slog.Int("left_out", leftOut))
	}
	s.log.LogAttrs(ctx, level, "request served", attrs...)
}

// tooManyFailures is the code of a refusal that no credential was looked up for.
const tooManyFailures = "too_many_failures"

// unknownCaller reports whether a request was refused for its credentials. Anybody
// can send any number of those.
func unknownCaller(status int, code string) bool {
	return status == http.StatusUnauthorized || code == tooManyFailures
}

// recovered turns a panic into a 500, so that one request cannot end the process.
func (s *server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			i := infoOf(r.Context())
			s.log.ErrorContext(r.Context(), "request panicked", slog.String("request_id", i.id), slog.String("route", routeOf(r)),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			if rec, ok := w.(*recorder); ok && rec.status != 0 {
				panic(http.ErrAbortHandler) // the answer has begun; cutting it off is the only honest end
			}
			writeProblem(w, http.StatusInternalServerError, classify(schemas.Errorf(schemas.Internal, "panic", "")), i.id)
		}()
		next.ServeHTTP(w, r)
	})
}

// defaultHeaders are those of an answer for one caller. Pages and the stream set
// their own over them.
func defaultHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
