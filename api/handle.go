package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// patience bounds every request but the stream and the webhook test. It is above
// the lock timeout of a command and below the write timeout of a server.
const patience = 25 * time.Second

// An endpoint serves one route for a caller who may have it.
type endpoint func(r *http.Request, p auth.Principal) (answer, error)

// An answer is the contract's envelope; its status is always 200.
type answer struct {
	data    any
	message string
	etag    string
	refused bool // the contract has refusals that are no errors: 200 without success
	bare    bool // the contract has answers without the envelope
}

type envelope struct {
	Success bool    `json:"success"`
	Data    any     `json:"data"`
	Message *string `json:"message"`
}

// replayedHeader marks the answer of an earlier request with the Idempotency-Key.
const replayedHeader = "Idempotent-Replayed"

func (s *server) serve(w http.ResponseWriter, r *http.Request, p auth.Principal, e endpoint) {
	var a answer
	err := takes(r)
	if err == nil {
		a, err = e(r, p)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if o := infoOf(r.Context()).once; o != nil && o.Replayed {
		w.Header().Set(replayedHeader, "true")
	}
	env := envelope{Success: !a.refused, Data: a.data}
	if a.message != "" {
		env.Message = &a.message
	}
	var body any = env
	if a.bare {
		body = a.data
	}
	b, err := schemas.Encode(body)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if a.etag != "" {
		w.Header().Set("ETag", a.etag)
		if r.Method == http.MethodGet && matches(r.Header.Values("If-None-Match"), a.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // a client that left hears nothing
}

// matches says whether If-None-Match names the tag: weakly, as RFC 9110 has it, so
// one that a proxy has weakened counts too. Our own tags hold no comma.
func matches(given []string, tag string) bool {
	for t := range strings.SplitSeq(strings.Join(given, ","), ",") {
		if t = strings.TrimSpace(t); t == "*" || strings.TrimPrefix(t, "W/") == tag {
			return true
		}
	}
	return false
}

// open serves anybody.
func (s *server) open(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, auth.Principal{}, e) }
}

// agent serves the holder of a key with the scope, within the key's rate limit.
func (s *server) agent(scope string, e endpoint) http.HandlerFunc {
	slow := s.agentSlow(scope, e)
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		slow(w, r.WithContext(ctx))
	}
}

// agentSlow is agent for an endpoint that bounds its own time, and asks for it by longer.
func (s *server) agentSlow(scope string, e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p, ok := s.admit(w, r, scope); ok {
			i := infoOf(r.Context())
			i.writer = w
			s.serve(w, r, p, e)
			i.writer = nil // the log's line may come much later
		}
	}
}

// longer lets an endpoint of agentSlow take d, whose caller has been recognised and
// whose body, if it wants one, has been decoded: it is no longer of the budget, since
// minutes of waiting would use that up.
func longer(r *http.Request, d time.Duration) error {
	i := infoOf(r.Context())
	i.giveBack()
	return unhurry(i.writer, r, d)
}

// admit recognises the holder of a key with the scope and counts the request. It
// has answered when it says false.
func (s *server) admit(w http.ResponseWriter, r *http.Request, scope string) (auth.Principal, bool) {
	p, err := s.o.Auth.Agent(r.Context(), r.Header.Get("Authorization"))
	if err == nil {
		infoOf(r.Context()).principal = p
		count(r.Context())
		err = s.limit(w, p)
	}
	if err == nil {
		err = allowed(p, scope)
	}
	if err != nil {
		s.fail(w, r, err)
	}
	return p, err == nil
}

func allowed(p auth.Principal, scope string) error {
	if p.May(scope) {
		return nil
	}
	return schemas.Errorf(schemas.Forbidden, "missing_scope", "this key does not have the scope %s", scope)
}

// host serves the host that the path names.
func (s *server) host(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := s.ownPath(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		s.serve(w, r.WithContext(ctx), p, e)
	}
}

// hostLimited is host for what a host may do so often a minute only.
func (s *server) hostLimited(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.host(func(r *http.Request, p auth.Principal) (answer, error) {
			if err := s.limitSends(w, p.Host); err != nil {
				return answer{}, err
			}
			return e(r, p)
		})(w, r)
	}
}

// hostAnywhere serves a host on a path that names none.
func (s *server) hostAnywhere(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := s.admitHost(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		s.serve(w, r.WithContext(ctx), p, e)
	}
}

// either serves agents in one way and hosts in another, by what they bring.
func either(agent, host http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if auth.IsKey(r.Header.Get("Authorization")) {
			agent(w, r)
			return
		}
		host(w, r)
	}
}

// admitHost recognises a host by its token and counts the request.
func (s *server) admitHost(w http.ResponseWriter, r *http.Request) (auth.Principal, error) {
	p, err := s.o.Auth.Host(r.Header.Get("Authorization"))
	if err != nil {
		return p, err
	}
	infoOf(r.Context()).principal = p
	return p, s.limitHost(w, r, p.Host)
}

// ownPath is admitHost on a path that names the host.
func (s *server) ownPath(w http.ResponseWriter, r *http.Request) (auth.Principal, error) {
	p, err := s.admitHost(w, r)
	if err != nil {
		return p, err
	}
	if host, err := pathID(r, "host_id"); err != nil || schemas.HostID(host) != p.Host {
		return p, schemas.Errorf(schemas.Forbidden, "not_your_host", "the token is of another host than the path")
	}
	return p, nil
}

// pathID reads an id from the path. Ids are opaque text; one that no id can be is
// not found, as any other that does not exist.
func pathID(r *http.Request, name string) (string, error) {
	id := chi.URLParam(r, name)
	if r.URL.RawPath != "" { // then chi has matched the escaped path
		if plain, err := url.PathUnescape(id); err == nil {
			id = plain
		}
	}
	if id == "" || len(id) > 255 || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
		return "", schemas.Errorf(schemas.NotFound, "not_found", "there is nothing with this %s", name)
	}
	return id, nil
}

// idempotency reads the header that makes a repeated POST harmless; nil without.
func idempotency(r *http.Request, body []byte) (*producers.Once, error) {
	given, ok := r.Header["Idempotency-Key"]
	if !ok {
		return nil, nil // none is an answer
	}
	hidden := func(c rune) bool { return c <= ' ' || c > '~' }
	if key := given[0]; len(given) > 1 || key == "" || len(key) > 255 || strings.ContainsFunc(key, hidden) {
		return nil, schemas.Refuse(schemas.Malformed, "invalid_idempotency_key", "Idempotency-Key", "format",
			"Idempotency-Key must be 1 to 255 visible ASCII characters")
	}
	return infoOf(r.Context()).remember(r, given[0], body), nil
}

// remember makes what identifies the request, for its API key only.
func (i *info) remember(r *http.Request, key string, body []byte) *producers.Once {
	i.once = &producers.Once{Method: r.Method, Path: r.URL.EscapedPath(), Key: key, Body: body, By: i.principal.KeyID}
	return i.once
}

// decodeOnce is decode of a POST that creates, with what makes it harmless to repeat.
func decodeOnce[T any](r *http.Request) (T, *producers.Once, error) {
	in, body, err := decode[T](r, strict)
	if err != nil {
		return in, nil, err
	}
	once, err := idempotency(r, body)
	return in, once, err
}
