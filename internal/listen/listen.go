// Package listen is what krib listen does: it follows an agent's events over the
// API and posts each to a local URL as a webhook would be, for a developer whose
// machine has no public address. It is a client of the API and knows nothing of
// what is behind it.
//
// Nothing is lost between two connections: it goes on from the cursor of the last
// event that it has dealt with. An event that the receiver refuses is told and not
// sent again.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// Options of a run. APIURL, APIKey, Out and Notes are required.
type Options struct {
	APIURL string // without a path
	APIKey schemas.Secret
	// ForwardTo is where events are posted; without it they are printed only.
	ForwardTo string
	// Types are the events to listen for; none is all.
	Types []string
	// Since is from when on; zero is from now on.
	Since time.Time
	// Secret signs what is posted. Without one, a secret is made and told.
	Secret schemas.Secret
	// Bearer is sent as the receiver's own key, if there is one.
	Bearer schemas.Secret
	// JSON prints a line of JSON for each event, with the event in it.
	JSON bool
	// Out gets a line for each event, Notes all else.
	Out, Notes io.Writer
}

const (
	dialTimeout = 10 * time.Second
	// answerTimeout is for the head of a stream's answer; the server itself may wait
	// for its start before that.
	answerTimeout = 30 * time.Second
	// quietTimeout is how long a stream may be silent at least. Heartbeats come in
	// between, and a stream may say that they are further apart.
	quietTimeout = 30 * time.Second
	// Between two connections there is at least this, and at most the other.
	firstWait = 500 * time.Millisecond
	longWait  = 15 * time.Second
)

// A listener is one run.
type listener struct {
	o        Options
	out      printer
	forward  *forwarder // nil to print only
	api      *http.Client
	position string        // the cursor behind the last event that was dealt with
	known    bool          // it has been connected
	quiet    time.Duration // how long the stream may be silent
	wait     time.Duration // before the next connection
}

// Run listens until ctx ends, and then says what came. It comes back by itself
// when a connection is lost, but not when the first cannot be made or the key is
// refused: that is its error, of one line.
func Run(ctx context.Context, o Options) error {
	l := &listener{o: o, out: printer{json: o.JSON, out: o.Out, notes: o.Notes}, quiet: quietTimeout, wait: firstWait, api: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout,
			ResponseHeaderTimeout: answerTimeout, ForceAttemptHTTP2: true,
		},
		// The key is for the server that was named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	defer l.api.CloseIdleConnections()
	if o.ForwardTo != "" {
		f, err := newForwarder(&o)
		if err != nil {
			return err
		}
		defer f.close()
		l.forward = f
	}
	err := l.run(ctx)
	if l.known {
		l.out.summary(l.forward != nil)
	}
	return err
}

func (l *listener) run(ctx context.Context) error {
	for {
		err := l.listen(ctx)
		switch fatal, refused := errors.AsType[*refusal](err); {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // asked to stop; what failed, failed for that
		case refused && (!l.known || fatal.final()):
			return err
		case !l.known:
			return fmt.Errorf("reaching %s: %w", l.o.APIURL, plain(err))
		}
		l.out.note("the connection is lost (%v); trying again in %s", plain(err), l.wait.Round(100*time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(sse.Between(l.wait/2, l.wait)):
		}
		l.wait = min(2*l.wait, longWait)
	}
}

// listen is one connection. It ends with an error.
func (l *listener) listen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end, or is given up
	silence := time.AfterFunc(l.quiet, cancel)
	defer silence.Stop()
	r := sse.NewReader(resp.Body)
	for {
		silence.Reset(l.quiet)
		e, err := r.Next()
		silence.Stop() // a slow receiver is no silence of the server
		switch {
		case errors.Is(err, io.EOF):
			return errEnded
		case err != nil:
			return err
		}
		if err := l.take(ctx, e); err != nil {
			return err
		}
	}
}

var errEnded = errors.New("the server has ended it")

func (l *listener) open(ctx context.Context) (*http.Response, error) {
	q := url.Values{}
	if len(l.o.Types) > 0 {
		q.Set("types", strings.Join(l.o.Types, ","))
	}
	if l.position == "" && !l.o.Since.IsZero() {
		q.Set("since", l.o.Since.UTC().Format(time.RFC3339Nano))
	}
	target := strings.TrimSuffix(l.o.APIURL, "/") + "/api/v1/external/events/stream?" + q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+l.o.APIKey.Reveal())
	req.Header.Set("Accept", "text/event-stream")
	if l.position != "" {
		req.Header.Set("Last-Event-ID", l.position)
	}
	resp, err := l.api.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // what it said is read
	return nil, refusalOf(l.o.APIURL, resp)
}

// take deals with one frame. The position moves behind an event when it has been
// dealt with, and not before.
func (l *listener) take(ctx context.Context, e sse.Event) error {
	switch e.Name {
	case "connected":
		l.welcome(e)
	case "heartbeat":
	case "disconnect":
		if err := l.farewell(e); err != nil {
			return err
		}
	default:
		if err := l.event(ctx, e); err != nil {
			return err
		}
	}
	if e.ID != "" {
		l.position = e.ID
	}
	return nil
}

func (l *listener) welcome(e sse.Event) {
	var hello struct {
		HeartbeatMS int64 `json:"heartbeat_ms"`
	}
	_ = json.Unmarshal([]byte(e.Data), &hello) // without it the default stands
	l.quiet = max(quietTimeout, 3*time.Duration(hello.HeartbeatMS)*time.Millisecond)
	l.wait = firstWait
	if l.known {
		l.out.note("connected again")
		return
	}
	l.known = true
	if l.forward != nil {
		l.out.note("forwarding to %s; a failure is told and not tried again", l.forward.url)
	}
	if l.forward != nil && l.o.Secret == "" {
		l.out.note("signing secret: %s", l.forward.text.Reveal())
	}
	l.out.note("listening to %s", l.o.APIURL)
}

// farewell is why the server ends the connection.
func (l *listener) farewell(e sse.Event) error {
	var bye struct {
		Reason   string `json:"reason"`
		RetryMS  int64  `json:"retry_ms"`
		Terminal bool   `json:"terminal"`
	}
	if err := json.Unmarshal([]byte(e.Data), &bye); err != nil {
		return errEnded
	}
	if bye.Terminal || !l.known {
		return &refusal{text: bye.Reason, status: http.StatusForbidden}
	}
	l.wait = min(max(time.Duration(bye.RetryMS)*time.Millisecond, firstWait), longWait)
	return errors.New(bye.Reason)
}

func (l *listener) event(ctx context.Context, e sse.Event) error {
	body, err := schemas.Decode[schemas.WebhookBody]([]byte(e.Data))
	if err != nil {
		return fmt.Errorf("reading an event: %w", err)
	}
	var a answer
	if l.forward != nil {
		if a = l.forward.post(ctx, body); ctx.Err() != nil {
			return ctx.Err() // it was cut off and counts as not dealt with
		}
	}
	l.out.event(&body, e.Data, l.forward != nil, a)
	return nil
}

// A refusal is an answer of the API that is no stream.
type refusal struct {
	text   string
	status int
}

func (r *refusal) Error() string { return r.text }

// final says that the same request will be refused again: the key, the cursor or
// the server is the wrong one.
func (r *refusal) final() bool {
	return r.status < http.StatusInternalServerError && r.status != http.StatusTooManyRequests && r.status != http.StatusRequestTimeout
}

func refusalOf(api string, resp *http.Response) *refusal {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what could not be read says nothing
	var problem struct {
		Detail string `json:"detail"`
	}
	r := &refusal{status: resp.StatusCode}
	if err := json.Unmarshal(b, &problem); err != nil || problem.Detail == "" {
		r.text = fmt.Sprintf("%s answered %s, which is not Krib's API", api, resp.Status)
		return r
	}
	r.text = fmt.Sprintf("%s answered %d: %s", api, resp.StatusCode, problem.Detail)
	return r
}

// plain is the part of a network error that a person needs, without the URL.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, context.Canceled) { // nobody has asked to stop: it was the silence
		return errors.New("nothing came for too long")
	}
	return err
}
