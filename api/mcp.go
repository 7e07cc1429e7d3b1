package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/krib-ai/krib/api/mcp"
	"github.com/krib-ai/krib/schemas"
)

// mcpPath is outside of /api: what is there follows another protocol.
const mcpPath = "/mcp"

// mcpMessage is what is read of a message here. One that has no method would be an
// answer, and nobody was asked.
type mcpMessage struct {
	Version string `json:"jsonrpc" check:"required,enum=2.0"`
	Method  string `json:"method" check:"required,min=1,max=200,line"`
}

// newTools makes the handler of the protocol's messages. Their calls pass the whole
// router again, as requests of their own.
func (s *server) newTools(router http.Handler) http.Handler {
	again := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The router would take a request with another one's route for a part of it.
		router.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, nil)))
	})
	return mcp.New(mcp.Options{API: again, Document: openAPI, Refuse: s.fail, Logger: s.log, Version: s.o.Version})
}

// mcp serves one message of the Model Context Protocol for the holder of any key.
// What a tool does needs the scope of its operation and counts as that; every other
// message that asks for an answer counts as one request.
func (s *server) mcp(w http.ResponseWriter, r *http.Request) {
	if origin := r.Header.Get("Origin"); origin != "" && w.Header().Get("Access-Control-Allow-Origin") == "" {
		s.fail(w, r, schemas.Errorf(schemas.Forbidden, "foreign_origin", "a page of this origin may not call this"))
		return
	}
	p, err := s.o.Auth.Agent(r.Context(), r.Header.Get("Authorization"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	i := infoOf(r.Context())
	i.principal = p
	in, body, err := decode[mcpMessage](r, lenient)
	if err == nil && in.Method != "tools/call" && !strings.HasPrefix(in.Method, "notifications/") {
		err = s.limit(w, p)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	unhurry(w) // a tool may wait for events
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.Header.Set(requestIDHeader, i.id)
	// There is one form of answer, so nobody needs to be asked which it takes.
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	refusal := &plainRefusal{ResponseWriter: w}
	s.tools.ServeHTTP(refusal, r)
	if refusal.status != 0 {
		s.fail(w, r, schemas.Errorf(schemas.Rule, "invalid_message", "%s", strings.TrimSpace(refusal.text.String())))
	}
}

// A plainRefusal keeps a refusal of the protocol's library that is plain text, so
// that it can leave as every other error does.
type plainRefusal struct {
	http.ResponseWriter
	status int
	text   bytes.Buffer
}

// Unwrap is for http.ResponseController.
func (w *plainRefusal) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *plainRefusal) WriteHeader(status int) {
	if status >= http.StatusBadRequest && strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		w.status = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *plainRefusal) Write(b []byte) (int, error) {
	if w.status != 0 {
		return w.text.Write(b)
	}
	return w.ResponseWriter.Write(b)
}
