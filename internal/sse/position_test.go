package sse_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/krib-ai/krib/internal/sse"
)

func TestTheNewestPositionOfARequestCounts(t *testing.T) {
	for _, c := range []struct{ header, query, want string }{
		{"", "", ""},
		{"", "after=p", "p"},
		{"", "lastEventId=c", "c"},
		{"h", "", "h"},
		{"", "lastEventId=c&after=p", "c"},
		{"", "after=p&lastEventId=c", "c"},
		{"h", "after=p", "h"},
		{"h", "lastEventId=c", "h"},
		{"h", "lastEventId=c&after=p", "h"},
		{"", "lastEventId=1&lastEventId=2&lastEventId=3", "3"},
		{"", "after=1&lastEventId=2&after=3", "2"},
		{"", "after=1&after=2", "2"},
		{"h1 h2", "after=p", "h2"},
		{"", "lastEventId=&after=p", "p"},
		{"", "lastEventId=1&lastEventId=&after=p", "1"},
		{"", "after=1&after=", "1"},
		{"", "lastEventId=", ""},
		{"", "last_event_id=p", ""},                      // another stream's
		{"", "lasteventid=c", ""},                        // names have a case
		{"", "lastEventId=nonsense&after=p", "nonsense"}, // refused where it is read
		{"", "lastEventId=a%2Bb&after=p", "a+b"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/?"+c.query, http.NoBody)
		for h := range strings.FieldsSeq(c.header) {
			r.Header.Add("Last-Event-ID", h)
		}
		if got := sse.LastEventID(r, "after"); got != c.want {
			t.Errorf("%q with %q: %q, want %q", c.header, c.query, got, c.want)
		}
	}
}
