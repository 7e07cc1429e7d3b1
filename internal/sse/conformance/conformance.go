// Package conformance is what the tests of browsers expect of an EventSource, turned
// around: what a server of events has to do so that every client understands it, goes
// on after it was cut off, and is not given up for ever. It knows a server by its URL
// and nothing of what is behind it. It also has the list of how a client must read.
//
// The expectations are those of the HTML standard and of web-platform-tests
// (eventsource/): the file of theirs stands beside each.
package conformance

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
)

// ErrNotApplicable is what an item answers that has nothing to look at: the target
// does not say what it would need.
var ErrNotApplicable = errors.New("not applicable")

// A Target is a server of events. Only URL is required; what else is said makes
// more items applicable.
type Target struct {
	URL string
	// Header goes with every request: credentials, say.
	Header http.Header
	// Client makes the requests; nil for one that verifies certificates and speaks
	// HTTP/2 to https.
	Client *http.Client
	// Control are the names of events that the server sends of its own accord, and
	// not because something happened.
	Control []string
	// Publish makes an event happen. Nil waits for events that come by themselves.
	Publish func(ctx context.Context, text string) error
	// Verbatim says that what is published stands in the event: in a string of its
	// JSON, or as its data.
	Verbatim bool
	// Position is the parameter that carries an id in place of the header.
	Position string
	// Origin is that of a page which may read the stream.
	Origin string
	// Open counts the streams that the server has open, when nobody else opens any.
	Open func(ctx context.Context) (int, error)
	// End makes the server end its streams. It is called by the last item, once.
	End func(ctx context.Context) error
	// Patience is how long an item waits for what has to come. Default a minute:
	// the standard advises a sign of life every 15 s.
	Patience time.Duration

	once    sync.Once
	sampled *sample
	failed  error
}

// An Item is one expectation, as a sentence. From names the file of
// web-platform-tests that it was turned around from, or the section of the standard.
type Item struct {
	Name, From string

	check func(context.Context, *Target) error
}

// Check asks the target. An error says what it did instead.
func (i Item) Check(ctx context.Context, t *Target) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(t.Patience, time.Minute))
	defer cancel()
	return i.check(ctx, t)
}

// Items are all expectations, in the order in which they have to be checked: the
// last one ends the server's streams.
func Items() []Item { return slices.Concat(answerItems(), formatItems(), lifeItems()) }

// client never follows a redirect: an item looks at the answer itself.
func (t *Target) client() *http.Client {
	c := http.Client{}
	if t.Client != nil {
		c = *t.Client
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// own says whether an event is one of the server's own accord.
func (t *Target) own(e *event) bool { return slices.Contains(t.Control, e.name) }
