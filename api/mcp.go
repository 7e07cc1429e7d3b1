package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"

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
	return mcp.New(mcp.Options{API: again, Document: openAPI, Refuse: s.refuseCall, Logger: s.log, Version: s.o.Version})
}

// A toolCall is a message that asks for a tool. It counts once against the key's limit:
// as the operation's request or, if it never becomes one, as itself.
type toolCall struct{ counted atomic.Bool }

type toolCallKey struct{}

// callOf is the call that a request is made by; nil for what came over the network.
func callOf(ctx context.Context) *toolCall {
	c, _ := ctx.Value(toolCallKey{}).(*toolCall)
	return c
}

// count says that a request was counted, for the call that it was made by.
func count(ctx context.Context) {
	if c := callOf(ctx); c != nil {
		c.counted.Store(true)
	}
}

// refuseCall answers a call whose arguments no request can carry.
func (s *server) refuseCall(w http.ResponseWriter, r *http.Request, err error) {
	count(r.Context())
	if over := s.limit(w, infoOf(r.Context()).principal); over != nil {
		err = over
	}
	s.fail(w, r, err)
}

// toolTime is what a call may take: as long as the operation that waits for events.
const toolTime = maxWait + patience

// mcp serves one message of the Model Context Protocol for the holder of any key. Each
// counts as one request, whatever becomes of it; what a tool does needs the scope of its
// operation, and is refused as that beyond the limit.
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
	infoOf(r.Context()).principal = p
	in, body, err := readMessage(w, r)
	calls := err == nil && in.Method == "tools/call"
	if !calls {
		if over := s.limit(w, p); over != nil {
			err = over
		}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answerMessage(w, r, body, calls)
}

// readMessage reads the body whole. Then the answer may take its time.
func readMessage(w http.ResponseWriter, r *http.Request) (in mcpMessage, body []byte, err error) {
	if err = takes(r); err != nil {
		return in, nil, err
	}
	if in, body, err = decode[mcpMessage](r, lenient); err != nil {
		return in, nil, err
	}
	return in, body, unhurry(w, r, toolTime)
}

func (s *server) answerMessage(w http.ResponseWriter, r *http.Request, body []byte, calls bool) {
	i := infoOf(r.Context())
	call := &toolCall{}
	r = r.WithContext(context.WithValue(r.Context(), toolCallKey{}, call))
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.Header.Set(requestIDHeader, i.id)
	// There is one form of answer, so nobody needs to be asked which it takes.
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	a := mcp.NewAnswer()
	s.tools.ServeHTTP(a, r)
	if calls && !call.counted.Load() { // the library has refused it
		if over := s.limit(w, i.principal); over != nil {
			s.fail(w, r, over)
			return
		}
	}
	if text, plain := a.Refusal(); plain {
		s.fail(w, r, schemas.Errorf(schemas.Rule, "invalid_message", "%s", text))
		return
	}
	a.WriteTo(w)
}
