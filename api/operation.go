package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/krib-ai/krib/schemas"
)

// An operation is what every request of a route is held to before its endpoint reads
// it.
type operation struct {
	// parameters are the names that the query may have, as openapi.json lists them. They
	// bind operations that ask for credentials: pages, documents, probes and Stripe's
	// callback take any query, and ignore it.
	parameters []string
	bound      bool
	body       int64 // the most bytes of a body
}

// Bounds of bodies. An ordinary one holds the longest texts that its operation takes,
// each character escaped; a batch of notifications holds maxBulk of them. Stripe's
// events hold whole objects of Stripe's, expanded ones too.
const (
	defaultBody = 128 << 10
	bulkBody    = 1 << 20
	stripeBody  = 256 << 10
)

// bodies are the bounds that differ from the ordinary one, by path.
var bodies = map[string]int64{
	"/api/v1/external/notifications/bulk": bulkBody,
	"/api/v1/integrations/stripe/webhook": stripeBody,
	mcpPath:                               2 * defaultBody,          // a call wraps the body of its operation
	"/api/v1/external/sse/broadcast":      2 * schemas.MaxOpenBytes, // white space between members does not count
	"/api/v1/hosts/{host_id}/events/send": 2 * schemas.MaxOpenBytes,
}

// operations reads the served document, which a test holds to the routes. It panics at
// a document that is none: it is part of the program.
func operations(document []byte) map[string]*operation {
	type parameter struct{ Name, In string }
	var d struct {
		Paths map[string]map[string]struct {
			Parameters []parameter
			Security   []map[string][]string
		}
		Components struct{ SecuritySchemes map[string]parameter }
	}
	if err := json.Unmarshal(document, &d); err != nil {
		panic(fmt.Sprintf("api: reading the API's document: %v", err))
	}
	out := map[string]*operation{}
	for path, methods := range d.Paths {
		for method, o := range methods {
			op := operation{bound: len(o.Security) > 0, body: defaultBody}
			if most, ok := bodies[path]; ok {
				op.body = most
			}
			given := o.Parameters
			for _, alternative := range o.Security { // a ticket is a parameter too
				for scheme := range alternative {
					given = append(given, d.Components.SecuritySchemes[scheme])
				}
			}
			for _, p := range given {
				if p.In == "query" {
					op.parameters = append(op.parameters, p.Name)
				}
			}
			out[strings.ToUpper(method)+" "+path] = &op
		}
	}
	return out
}

// within lets a request know its operation.
func within(op *operation, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		infoOf(r.Context()).operation = op
		next(w, r)
	}
}

// takes refuses parameters that the request's operation does not name: who mistypes a
// filter would take the answer for a filtered one. It is asked behind authentication,
// once for each request.
func takes(r *http.Request) error {
	op := infoOf(r.Context()).operation
	if op == nil || !op.bound || r.URL.RawQuery == "" {
		return nil
	}
	given, err := parseQuery(r)
	if err != nil {
		return err
	}
	b := &binder{}
	names := make([]string, 0, len(given))
	for name := range given {
		if !slices.Contains(op.parameters, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	known := "it takes none"
	if len(op.parameters) > 0 {
		known = "it takes " + strings.Join(op.parameters, ", ")
	}
	for _, name := range names {
		b.add(join("", strings.ToValidUTF8(name, "\uFFFD")), "unknown", "is not a parameter of this operation: "+known)
	}
	return b.err()
}

func parseQuery(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, schemas.Refuse(schemas.Malformed, "invalid_query", "", "format", "the query is not well-formed: write %% as %%25, and ; as %%3B")
	}
	return values, nil
}
