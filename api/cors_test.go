package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/krib-ai/krib/api"
)

// What a page may send beyond what every page may, and what it may read.
var (
	allowedHeaders = []string{
		"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-Id", "Mcp-Method", "Mcp-Name", "Mcp-Protocol-Version", "X-Request-Id",
		"Traceparent", "Tracestate", "Webhook-Id", "Webhook-Signature", "Webhook-Timestamp",
	}
	exposedHeaders = []string{"Allow", "Etag", "Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset", "Retry-After", "Www-Authenticate", "X-Request-Id"}
	// unread are headers that are for the browser itself, or that pages may read
	// without leave (https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name).
	unread = []string{
		"Cache-Control", "Content-Length", "Content-Type", "Date", "Vary", "X-Content-Type-Options", "X-Accel-Buffering", "Connection", "Transfer-Encoding",
		"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
	}
)

// preflight asks as a browser does before a request of a page.
func (c client) preflight(from, method, path string) http.Header {
	c.w.t.Helper()
	return client{w: c.w}.do("OPTIONS", path, nil, "Origin", from, "Access-Control-Request-Method", method,
		"Access-Control-Request-Headers", strings.ToLower(strings.Join(allowedHeaders, ", "))).header
}

// listed says whether a header's list has a name, in any case.
func listed(h http.Header, header, name string) bool {
	for given := range strings.SplitSeq(h.Get(header), ",") {
		if strings.EqualFold(strings.TrimSpace(given), name) {
			return true
		}
	}
	return false
}

// mayRead fails the test unless a browser would show the answer to a page of the
// origin, and the headers that it needs.
func mayRead(t *testing.T, what string, h http.Header) {
	t.Helper()
	if h.Get("Access-Control-Allow-Origin") != origin || h.Get("Access-Control-Allow-Credentials") != "true" || !listed(h, "Vary", "Origin") {
		t.Errorf("%s: a page cannot read it: %v", what, h)
	}
	for _, name := range exposedHeaders {
		if !listed(h, "Access-Control-Expose-Headers", name) {
			t.Errorf("%s: a page cannot read %s: %v", what, name, h)
		}
	}
	for name := range h {
		if !slices.Contains(unread, name) && !listed(h, "Access-Control-Expose-Headers", name) {
			t.Errorf("%s: the answer has %s, which a page cannot read", what, name)
		}
	}
}

// nothing fails the test if the answer says anything to the origin that asked.
func nothing(t *testing.T, what string, h http.Header) {
	t.Helper()
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("%s: %s: %s", what, name, h.Get(name))
		}
	}
}

// foreign are origins that resemble the listed one.
var foreign = []string{
	"https://evil.example", "null", "http://host.krib.test", origin + ":8443", origin + ".evil.example", "https://evil." + strings.TrimPrefix(origin, "https://"), "",
}

// Every request that needs leave gets it before it is sent, on every route.
func TestEveryRouteTellsABrowserThatItMayCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := client{w: w}
	routes := protected(t)
	for name := range open {
		_, routes[name], _ = strings.Cut(name, " ")
	}
	for name, path := range routes {
		method, _, _ := strings.Cut(name, " ")
		for _, m := range []string{method, "PATCH"} { // the second one is no route's: its answer is to be read too
			h := c.preflight(origin, m, path)
			if h.Get("Access-Control-Allow-Origin") != origin || h.Get("Access-Control-Allow-Credentials") != "true" || h.Get("Access-Control-Allow-Methods") != m {
				t.Errorf("%s %s: preflight %v", m, path, h)
			}
			for _, name := range allowedHeaders {
				if !listed(h, "Access-Control-Allow-Headers", name) {
					t.Errorf("%s %s: %s is not allowed: %v", m, path, name, h)
				}
			}
		}
		nothing(t, "preflight of "+name, c.preflight(foreign[0], method, path))
	}
	nothing(t, "a header that nobody needs", c.do("OPTIONS", bookings, nil, "Origin", origin, "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "x-secret").header)
	nothing(t, "a method that is none", c.do("OPTIONS", bookings, nil, "Origin", origin, "Access-Control-Request-Method", "TRACE").header)
}

// What the document says that an operation reads, a page may send.
func TestEveryHeaderOfTheDocumentMayBeSentByAPage(t *testing.T) {
	d, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for path, operations := range d.paths {
		for method, o := range operations {
			parameters, _ := o.(map[string]any)["parameters"].([]any)
			for _, p := range parameters {
				p := p.(map[string]any)
				if p["in"] != "header" || path == "/api/v1/integrations/stripe/webhook" { // no page is Stripe
					continue
				}
				n++
				if name := http.CanonicalHeaderKey(p["name"].(string)); !slices.Contains(allowedHeaders, name) {
					t.Errorf("%s %s reads %s, which no page may send", method, path, name)
				}
			}
		}
	}
	if n < 5 {
		t.Errorf("the document has %d headers", n)
	}
}

// Answers of every kind can be read by the listed pages, refusals too, and by no
// others.
func TestBrowsersOfTheListedOriginsMayReadEveryAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, limited, h, nobody := w.key("bookings:read", "bookings:write"), w.key("bookings:read"), w.host(hostOne), client{w: w}
	w.exec(`update api_keys set rate_limit_per_minute = 1 where id = $1`, limited.key)
	limited.do("GET", statusPath("x"), nil).want(404)
	id := a.book(7)
	for name, ask := range map[string]func(from string) reply{
		"an open route":      func(from string) reply { return nobody.do("GET", "/api/health", nil, "Origin", from).want(200) },
		"the document":       func(from string) reply { return nobody.do("GET", "/api/openapi.json", nil, "Origin", from).want(200) },
		"an agent's booking": func(from string) reply { return a.do("GET", statusPath(id), nil, "Origin", from).want(200) },
		"the booking unchanged": func(from string) reply {
			return a.do("GET", statusPath(id), nil, "Origin", from, "If-None-Match", `"2"`).want(http.StatusNotModified)
		},
		"a repeated booking": func(from string) reply {
			return a.do("POST", bookings, stay(7), "Origin", from, "Idempotency-Key", "k").want(200)
		},
		"the host's inbox": func(from string) reply { return h.do("GET", inbox(hostOne), nil, "Origin", from).want(200) },
		"the host's stream": func(from string) reply {
			defer func() { <-w.streamed }()
			return h.do("GET", "/api/v1/hosts/host_one/events", nil, "Origin", from, "Last-Event-ID", "x").want(200)
		},
		"a change of another version": func(from string) reply {
			return a.do("PUT", statusPath(id), map[string]any{"status": "confirmed"}, "Origin", from, "If-Match", `"9"`).want(409)
		},
		"without credentials": func(from string) reply { return nobody.do("GET", inbox(hostOne), nil, "Origin", from).want(401) },
		"a stream without them": func(from string) reply {
			return nobody.do("GET", "/api/v1/hosts/host_one/events", nil, "Origin", from).want(401)
		},
		"another's path": func(from string) reply { return h.do("GET", inbox(hostTwo), nil, "Origin", from).want(403) },
		"what is not":    func(from string) reply { return a.do("GET", statusPath("none"), nil, "Origin", from).want(404) },
		"no route":       func(from string) reply { return nobody.do("GET", "/api/v1/none", nil, "Origin", from).want(404) },
		"no such method": func(from string) reply { return nobody.do("PATCH", statusPath(id), nil, "Origin", from).want(405) },
		"too large a body": func(from string) reply {
			return a.do("POST", bookings, strings.Repeat(" ", 2<<20), "Origin", from).want(413)
		},
		"nonsense": func(from string) reply { return a.do("POST", bookings, "{", "Origin", from).want(422) },
		"too many": func(from string) reply { return limited.do("GET", statusPath("x"), nil, "Origin", from).want(429) },
		"unsigned payment": func(from string) reply {
			return nobody.do("POST", "/api/v1/integrations/stripe/webhook", "{}", "Origin", from).want(503)
		},
	} {
		mayRead(t, name, ask(origin).header)
		for _, from := range foreign {
			nothing(t, name+" by "+from, ask(from).header)
		}
	}
	none := newWorld(t, func(o *api.Options) { o.CORSOrigins = nil })
	nothing(t, "an empty list", client{w: none}.do("GET", "/api/health", nil, "Origin", origin).header)
}
