package api

import (
	"io"
	"net/http"
	"strings"
)

// rootLinks are where a stranger at the root goes on.
var rootLinks = []struct{ name, path, what string }{
	{"docs", "/docs/", "The API and its events, to browse"},
	{"dashboard", "/dashboard/", "The hosts' page"},
	{"openapi", "/api/openapi.json", "The contract of the API: OpenAPI"},
	{"asyncapi", "/api/asyncapi.json", "The contract of the topics: AsyncAPI"},
	{"mcp", "/mcp", "The API as tools for models: Model Context Protocol, by POST"},
	{"llms", "/llms.txt", "The same for models to read"},
	{"health", "/api/health", "Whether this process is ready"},
}

// serveRoot is the page of the address itself: links, as HTML for browsers and as JSON for
// the others. It needs no credentials and has nothing that does.
func serveRoot(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Vary", "Accept")
	h.Set("Cache-Control", "no-cache")
	var b strings.Builder
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		b.WriteString("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Krib</title>\n<h1>Krib</h1>\n<ul>\n")
		for _, l := range rootLinks {
			b.WriteString(`<li><a href="` + l.path + `">` + l.path + `</a>: ` + l.what + "</li>\n")
		}
		b.WriteString("</ul>\n</html>\n")
	} else {
		h.Set("Content-Type", "application/json")
		b.WriteString(`{"service":"Krib","links":{`)
		for i, l := range rootLinks {
			if i > 0 {
				b.WriteString(",")
			}
			b.WriteString(`"` + l.name + `":"` + l.path + `"`)
		}
		b.WriteString("}}\n")
	}
	_, _ = io.WriteString(w, b.String()) // the client may be gone
}
