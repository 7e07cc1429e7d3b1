package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// A Stream serves hosts' events. It is handed in, since the hub behind it is a
// sink.
type Stream interface {
	// Serve answers with the host's events until the client leaves or until is near.
	Serve(w http.ResponseWriter, r *http.Request, host schemas.HostID, until time.Time, f schemas.FeedFilter)
	// Refuse asks the client to come back later, without ending it for ever.
	Refuse(w http.ResponseWriter, r *http.Request, host schemas.HostID, reason string)
	// Of is how many streams a host has in this process, and how late they are.
	Of(host schemas.HostID) (connections int, lag time.Duration)
	// State is of all streams of this process.
	State() StreamState
}

// passCookie carries a producers.Pass. Its path is the stream's, and no other route
// looks at it: what a page can make a browser send without the page's own doing
// reads the stream, and changes nothing.
const passCookie = "krib_stream"

// redeemTimeout bounds the look-up of a ticket; the stream itself has no bound.
const redeemTimeout = 5 * time.Second

// A visitor is who opens a stream.
type visitor struct {
	host  schemas.HostID
	until time.Time
	pass  *producers.Pass // to be kept by the browser
}

// stream hands the connection of the path's host over.
func (s *server) stream(w http.ResponseWriter, r *http.Request) {
	var (
		v   visitor
		f   schemas.FeedFilter
		err error
	)
	aside(func() { v, f, err = s.letIn(w, r) })
	if err == nil {
		host := schemas.HostID(strings.Clone(string(v.host))) // it outlives the request where a stream takes over
		infoOf(r.Context()).principal = auth.Principal{Host: host, Until: v.until}
		s.o.Stream.Serve(w, r, v.host, v.until, f)
		return
	}
	kind := classify(err).Kind
	if v.host != "" && s.o.Stream != nil && (kind == schemas.Unavailable || kind == schemas.Conflict || kind == schemas.TooMany) {
		// Any status but 200 would end an EventSource for ever, for a ticket that may
		// be good.
		why := "the ticket cannot be looked up now"
		if kind == schemas.TooMany {
			why = "the host opens too many streams"
		}
		s.o.Stream.Refuse(w, r, v.host, why)
		return
	}
	s.fail(w, r, err)
}

// letIn recognises whoever opens a stream, and reads what is asked for.
func (s *server) letIn(w http.ResponseWriter, r *http.Request) (visitor, schemas.FeedFilter, error) {
	v, err := s.visit(w, r)
	var f schemas.FeedFilter
	if err == nil {
		err = takes(r)
	}
	if err == nil {
		f, err = streamFilter(r)
	}
	if err == nil && s.o.Stream == nil {
		err = errNoStream
	}
	if err == nil {
		err = settle(r)
	}
	if err == nil && v.pass != nil {
		err = s.keep(w, r, &v)
	}
	return v, f, err
}

// aside runs what needs a deep stack on one of its own, which is given back: the
// stack of a request that stays open for hours stays as large as it once was.
func aside(f func()) {
	done := make(chan any)
	go func() {
		defer func() {
			p := recover()
			if p != nil && p != any(http.ErrAbortHandler) {
				p = fmt.Sprintf("%v\n%s", p, debug.Stack()) // the place is lost otherwise
			}
			done <- p
		}()
		f()
	}()
	if p := <-done; p != nil {
		panic(p) // for recovered
	}
}

// visit recognises whoever opens a stream: by the token of the path's host, by a
// ticket, or by the pass that the ticket's redemption left with the browser.
func (s *server) visit(w http.ResponseWriter, r *http.Request) (visitor, error) {
	ticket := r.URL.Query().Get("ticket")
	cookie, err := r.Cookie(passCookie)
	if ticket == "" && err != nil || r.Header.Get("Authorization") != "" {
		p, err := s.ownPath(w, r)
		return visitor{host: p.Host, until: p.Until}, err
	}
	id, err := pathID(r, "host_id")
	if err != nil {
		return visitor{}, err
	}
	if !s.ours(r) {
		return visitor{}, schemas.Errorf(schemas.Forbidden, "foreign_origin", "a page of this origin may not open the stream by ticket or cookie")
	}
	v, err := s.byTicket(r, schemas.HostID(id), ticket, cookie)
	if err == nil {
		err = s.limitHost(w, r, v.host)
	}
	return v, err
}

// byTicket redeems the ticket, unless the pass is of this very one: it has been
// redeemed then, and reconnects need no Postgres. Any pass of the host will do for
// a ticket that is used up: another tab has come later with another one.
func (s *server) byTicket(r *http.Request, host schemas.HostID, ticket string, cookie *http.Cookie) (visitor, error) {
	v := visitor{host: host}
	old, have := producers.Pass{}, false
	if cookie != nil {
		p, err := s.o.Producer.OpenPass(host, cookie.Value, time.Now())
		old, have = p, err == nil
	}
	if have && (ticket == "" || old.IsOf(ticket)) {
		v.until = old.Until
		return v, nil
	}
	if ticket == "" {
		return visitor{}, schemas.Errorf(schemas.Unauthorized, "invalid_cookie", "the stream's cookie has ended or is of another host; ask for a ticket")
	}
	ctx, cancel := context.WithTimeout(r.Context(), redeemTimeout)
	defer cancel()
	var p producers.Pass
	err := s.o.Auth.Guarded(ctx, func(ctx context.Context) (err error) {
		p, err = s.o.Producer.RedeemTicket(ctx, host, ticket)
		return err
	})
	var refused *schemas.Error
	switch {
	case err == nil:
		v.until, v.pass = p.Until, &p
	case have && errors.As(err, &refused) && refused.Kind == schemas.Unauthorized:
		v.until = old.Until
	default:
		return v, err
	}
	return v, nil
}

// ours says whether a request that a browser may have sent by itself comes from a
// page of ours or of the listed origins. What is not a browser says nothing and
// has no cookies of others.
func (s *server) ours(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		site := r.Header.Get("Sec-Fetch-Site")
		return site == "" || site == "same-origin" || site == "none" // typed into the address bar
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" && u.Host == r.Host {
		return true
	}
	return slices.Contains(s.o.CORSOrigins, origin)
}

// keep leaves the pass with the browser, for this stream's path only and for as
// long as the token lives that the ticket was given for. X-Forwarded-Proto is
// believed: whoever forges it gets a cookie that is sent less often.
func (s *server) keep(w http.ResponseWriter, r *http.Request, v *visitor) error {
	sealed, err := s.o.Producer.SealPass(v.host, *v.pass)
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever the browser came over https; without it there is no cookie at all in development
		Name: passCookie, Value: sealed.Reveal(), Path: r.URL.EscapedPath(), Expires: v.until, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	})
	return nil
}

// streamQuery are the filters; unknown values are refused, since a wrong parameter
// does not heal by coming back.
type streamQuery struct {
	Events      string           `json:"events" check:"max=500,as=feedkinds"`
	Types       string           `json:"types" check:"max=500,as=notificationtypes"`
	MinPriority schemas.Priority `json:"min_priority" check:"enum=high|medium|low"`
	PropertyID  string           `json:"property_id" check:"max=255,line"`
}

func streamFilter(r *http.Request) (schemas.FeedFilter, error) {
	q, err := query[streamQuery](r)
	return schemas.FeedFilter{
		Kinds: wordsOf[schemas.FeedKind](q.Events), Types: wordsOf[schemas.NotificationType](q.Types), MinPriority: q.MinPriority, Property: q.PropertyID,
	}, err
}

func wordsOf[T ~string](s string) []T {
	var out []T
	for v := range strings.SplitSeq(s, ",") {
		if v != "" {
			out = append(out, T(v))
		}
	}
	return out
}

type ticketView struct {
	Ticket    string         `json:"ticket"`
	HostID    schemas.HostID `json:"host_id"`
	ExpiresIn int            `json:"expires_in"` // seconds
	URL       string         `json:"url"`
}

func (s *server) issueTicket(r *http.Request, p auth.Principal) (answer, error) {
	if _, _, err := decodeOptional[struct{}](r); err != nil {
		return answer{}, err
	}
	ticket, err := s.o.Producer.IssueTicket(r.Context(), p.Scope(), p.Until)
	if err != nil {
		return answer{}, err
	}
	life := min(producers.TicketLife, time.Until(p.Until))
	stream := strings.TrimSuffix(r.URL.EscapedPath(), "/ticket")
	return answer{data: ticketView{ticket.Reveal(), p.Host, int(life.Seconds()), stream + "?ticket=" + ticket.Reveal()}}, nil
}
