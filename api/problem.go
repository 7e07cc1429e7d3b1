package api

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// statuses is the one table from kinds of error to status codes.
var statuses = map[schemas.Kind]int{
	schemas.Internal:     http.StatusInternalServerError,
	schemas.Malformed:    http.StatusUnprocessableEntity,
	schemas.Rule:         http.StatusBadRequest,
	schemas.Unauthorized: http.StatusUnauthorized,
	schemas.Forbidden:    http.StatusForbidden,
	schemas.NotFound:     http.StatusNotFound,
	schemas.Conflict:     http.StatusConflict,
	schemas.TooLarge:     http.StatusRequestEntityTooLarge,
	schemas.Unsupported:  http.StatusUnsupportedMediaType,
	schemas.TooMany:      http.StatusTooManyRequests,
	schemas.Unavailable:  http.StatusServiceUnavailable,
}

// statusClientLeft is nginx's: a caller that left is no fault of the service, and
// must not count as one.
const statusClientLeft = 499

// fail answers an error. What nobody classified is logged here, once, under the
// request's id, and answered without its text.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := classify(err)
	ctx := r.Context()
	i := infoOf(ctx)
	i.code = e.Code
	id := i.id
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		writeProblem(w, statusClientLeft, e, id) // for the log and the metrics; nobody reads it
		return
	case e.Kind == schemas.Internal:
		s.log.ErrorContext(ctx, "request failed", slog.String("request_id", id), slog.String("route", routeOf(r)), slog.Any("error", err))
	case e.Kind == schemas.Unavailable:
		s.log.WarnContext(ctx, "request could not be served now", slog.String("request_id", id), slog.String("route", routeOf(r)), slog.Any("error", err))
	}
	writeProblem(w, statuses[e.Kind], e, id)
}

// classify finds the error that the caller may see.
func classify(err error) *schemas.Error {
	var e *schemas.Error
	switch {
	case errors.As(err, &e) && e.Kind != schemas.Internal:
		return e
	case store.Unavailable(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return schemas.Errorf(schemas.Unavailable, "unavailable", "this cannot be served right now; try again")
	}
	return schemas.Errorf(schemas.Internal, "internal_error", "something went wrong here; the request id helps to find it")
}

// writeProblem answers in the form of RFC 9457. Members that an error brings of
// its own never replace the standard ones.
func writeProblem(w http.ResponseWriter, status int, e *schemas.Error, requestID string) {
	body := map[string]any{}
	maps.Copy(body, e.Extra)
	fields := e.Fields
	if fields == nil {
		fields = []schemas.FieldError{}
	}
	maps.Copy(body, map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "success": false,
		"detail": e.Detail, "code": e.Code, "errors": fields, "request_id": requestID,
	})
	b, err := schemas.Encode(body)
	if err != nil { // an Extra member that has no JSON form
		b = []byte(`{"success":false}`)
		status = http.StatusInternalServerError
	}
	b = schemas.EscapeBreaks(b) // names of members are the caller's
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusUnsupportedMediaType:
		h.Set("Accept-Encoding", "identity")
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "2")
	case http.StatusTooManyRequests:
		if h.Get("Retry-After") == "" { // a key's limit knows when its window ends
			h.Set("Retry-After", "2")
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that left hears nothing
}

func (s *server) noRoute(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, schemas.Errorf(schemas.NotFound, "no_such_path", "there is nothing at this path"))
}

// noMethod answers for a path that exists with other methods. It is no kind of
// schemas: only HTTP knows it.
func (s *server) noMethod(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if !routes.Match(chi.NewRouteContext(), m, path) {
				continue
			}
			w.Header().Add("Allow", m)
			if m == http.MethodGet {
				w.Header().Add("Allow", http.MethodHead)
			}
		}
		e := schemas.Errorf(schemas.Malformed, "method_not_allowed", "this path does not take this method")
		writeProblem(w, http.StatusMethodNotAllowed, e, infoOf(r.Context()).id)
	}
}
