package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

type eventsQuery struct {
	After string    `json:"after"`
	Since time.Time `json:"since"`
	Types string    `json:"types"`
	Limit int       `json:"limit" check:"min=1,max=1000" default:"100"`
	Wait  int       `json:"wait" check:"min=0,max=30" default:"0"`
}

func (q *eventsQuery) check(add func(field, rule, message string)) {
	(&followQuery{After: q.After, Since: q.Since, Types: q.Types}).check(add)
}

// maxWait is the longest wait for an event that a request may ask for.
const maxWait = 30 * time.Second

type followQuery struct {
	LastEventID string    `json:"lastEventId"`
	After       string    `json:"after"`
	Since       time.Time `json:"since"`
	Types       string    `json:"types"`
}

func (q *followQuery) check(add func(field, rule, message string)) {
	if q.After != "" && !q.Since.IsZero() {
		add("since", "exclusive", "cannot be given with after")
	}
	for _, t := range eventTypes(q.Types) {
		if !slices.Contains(schemas.BookingEventTypes(), t) {
			add("types", "enum", fmt.Sprintf("must be some of %v, separated by commas", schemas.BookingEventTypes()))
		}
	}
}

// eventTypes are those of a list that is separated by commas; an empty one is all.
func eventTypes(list string) []schemas.EventType {
	var out []schemas.EventType
	for t := range strings.SplitSeq(list, ",") {
		if t = strings.TrimSpace(t); t != "" {
			out = append(out, schemas.EventType(t))
		}
	}
	if out == nil {
		return schemas.BookingEventTypes()
	}
	return out
}

// sight is what a key sees of the events, in the form in which it is asked of every
// webhook too.
func sight(p auth.Principal, types string) schemas.Subscription {
	return schemas.Subscription{AgentID: p.Agent, Platform: p.Platform, Events: eventTypes(types)}
}

var errNoFeed = schemas.Errorf(schemas.Unavailable, "no_feed", "this process does not serve events")

// pullEvents answers with a page of the caller's events.
func (s *server) pullEvents(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[eventsQuery](r)
	if err != nil {
		return answer{}, err
	}
	if s.o.Pull == nil {
		return answer{}, errNoFeed
	}
	if err := longer(r, time.Duration(q.Wait)*time.Second+patience); err != nil {
		return answer{}, err
	}
	v, err := s.o.Pull(r.Context(), schemas.Pull{
		For: sight(p, q.Types), Key: p.KeyID, After: q.After, Since: q.Since, Limit: q.Limit, Wait: time.Duration(q.Wait) * time.Second,
	})
	if err != nil {
		return answer{}, err
	}
	if q.Wait > 0 { // a key may have ended meanwhile
		if _, err := s.renew(r)(r.Context()); err != nil {
			return answer{}, err
		}
	}
	return answer{data: v}, nil
}

// latest is the request with the last of several positions in its URL: a client may
// add one at each reconnect, and the binder refuses repetitions.
func latest(r *http.Request) *http.Request {
	q := r.URL.Query()
	if len(q["after"]) < 2 && len(q["lastEventId"]) < 2 {
		return r
	}
	for _, name := range []string{"after", "lastEventId"} {
		given := slices.DeleteFunc(q[name], func(v string) bool { return v == "" })
		if len(given) > 1 {
			given = given[len(given)-1:]
		}
		q[name] = given
	}
	out := r.Clone(r.Context())
	out.URL.RawQuery = q.Encode()
	return out
}

// followEvents hands the connection over. The position that a client sends when it
// comes back is newer than what stands in its URL.
func (s *server) followEvents(w http.ResponseWriter, r *http.Request) {
	p, ok := s.admit(w, r, auth.EventsRead)
	if !ok {
		return
	}
	err := takes(r)
	var q followQuery
	if err == nil {
		q, err = query[followQuery](latest(r))
	}
	if err == nil && s.o.Follow == nil {
		err = errNoFeed
	}
	if err == nil {
		err = settle(r)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if last := sse.LastEventID(r, "after"); last != "" {
		q.After, q.Since = last, time.Time{}
	}
	renew := s.renew(r)
	sees := func(ctx context.Context) (schemas.Subscription, error) {
		p, err := renew(ctx)
		return sight(p, q.Types), err
	}
	ask := schemas.Pull{For: sight(p, q.Types), Key: p.KeyID, After: q.After, Since: q.Since}
	if err := s.o.Follow(w, r, ask, sees); err != nil {
		s.fail(w, r, err)
	}
}

// renew recognises the caller of a long request again. It counts no request.
func (s *server) renew(r *http.Request) func(context.Context) (auth.Principal, error) {
	header := r.Header.Get("Authorization")
	return func(ctx context.Context) (auth.Principal, error) {
		p, err := s.o.Auth.Agent(ctx, header)
		if err == nil {
			err = allowed(p, auth.EventsRead)
		}
		return p, err
	}
}
