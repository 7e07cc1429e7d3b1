package sse

import (
	"net/http"
	"slices"
)

// LastEventID is the position that a client resumes from, the newest first: the
// header Last-Event-ID, which browsers send at each reconnect; the parameter
// lastEventId, in which polyfills of EventSource send the same where they cannot
// set headers; and the page's own parameter, which stands in the URL since the
// stream was first opened. Of several of one name the last is the newest, and an
// empty one is none. It is not validated: a newest position that is no cursor is
// not passed over for an older one, which would repeat events.
func LastEventID(r *http.Request, page string) string {
	q := r.URL.Query()
	for _, given := range [][]string{r.Header.Values("Last-Event-ID"), q["lastEventId"], q[page]} {
		for _, g := range slices.Backward(given) {
			if g != "" {
				return g
			}
		}
	}
	return ""
}
