package docs_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// route is what documents write for one: a method, a path whose beginning may be
// left out, and perhaps a query.
var route = regexp.MustCompile("`(?:(GET|POST|PUT|PATCH|DELETE) )?((?:…|/api|/mcp|/llms)[^`?#]*)[^`]*`")

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// routes are those of the OpenAPI document, as method and path with {} for each
// parameter.
func routes(t *testing.T) (out []string) {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(read(t, "../api/openapi.json")), &doc); err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths {
		for method := range item {
			out = append(out, strings.ToUpper(method)+" "+parameter.ReplaceAllString(path, "{}"))
		}
	}
	return out
}

// A route that a document names is one that there is.
func TestTheRoutesThatDocumentsNameAreThere(t *testing.T) {
	t.Parallel()
	all, n := routes(t), 0
	documents, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range append(documents, readme) {
		for _, m := range route.FindAllStringSubmatch(read(t, document), -1) {
			method, path := m[1], parameter.ReplaceAllString(m[2], "{}")
			if strings.HasSuffix(path, "…") {
				continue // a group of them
			}
			n++
			if !slices.ContainsFunc(all, func(r string) bool {
				verb, at, _ := strings.Cut(r, " ")
				rest, short := strings.CutPrefix(path, "…")
				return (method == "" || method == verb) && (at == path || short && strings.HasSuffix(at, rest))
			}) {
				t.Errorf("%s: there is no route %s", document, m[0])
			}
		}
	}
	if n < 20 {
		t.Errorf("%d routes: the search for them is wrong", n)
	}
}
