package api_test

import (
	"strings"
	"testing"
)

// The links of the root lead somewhere, without credentials, for browsers and others.
func TestTheRootLeadsOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := client{w: w}
	for accept, kind := range map[string]string{
		"": "application/json", "application/json": "application/json", "*/*": "application/json",
		"text/html,application/xhtml+xml,*/*;q=0.8": "text/html; charset=utf-8", "text/html": "text/html; charset=utf-8",
	} {
		r := c.do("GET", "/", nil, "Accept", accept).want(200)
		if got := r.header.Get("Content-Type"); got != kind || r.header.Get("Vary") != "Accept" {
			t.Errorf("for %q it is %q, %v", accept, got, r.header)
		}
		for _, path := range []string{"/docs/", "/dashboard/", "/api/openapi.json", "/api/asyncapi.json", "/mcp", "/llms.txt", "/api/health"} {
			if !strings.Contains(string(r.body), path+`"`) {
				t.Errorf("for %q it does not lead to %s: %s", accept, path, r.body)
			}
			if path != "/mcp" && path != "/docs/" && path != "/dashboard/" {
				c.do("GET", path, nil).want(200)
			}
		}
		if strings.Contains(string(r.body), "krib_") {
			t.Errorf("it shows a key: %s", r.body)
		}
	}
	if r := c.do("HEAD", "/", nil, "Accept", "text/html"); r.status != 200 || len(r.body) != 0 {
		t.Errorf("HEAD is answered %d %s", r.status, r.body)
	}
	c.do("POST", "/", nil).want(405)
}
