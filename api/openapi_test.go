package api_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/internal/testenv"
)

type document struct {
	paths   map[string]map[string]any
	schemas map[string]*jsonschema.Schema
	raw     map[string]map[string]any // the same, as they stand there
	routes  *chi.Mux                  // finds the pattern of a path
}

// openAPI is the document of the repository, its schemas compiled.
var openAPI = sync.OnceValues(func() (document, error) {
	raw, err := os.ReadFile("openapi.json")
	if err != nil {
		return document{}, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return document{}, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:///openapi.json", doc); err != nil {
		return document{}, err
	}
	d := document{paths: map[string]map[string]any{}, schemas: map[string]*jsonschema.Schema{}, raw: map[string]map[string]any{}, routes: chi.NewRouter()}
	root := doc.(map[string]any)
	for path, operations := range root["paths"].(map[string]any) {
		d.paths[path] = operations.(map[string]any)
		for m := range d.paths[path] {
			d.routes.Method(strings.ToUpper(m), path, http.NotFoundHandler())
		}
	}
	for name, schema := range root["components"].(map[string]any)["schemas"].(map[string]any) {
		d.raw[name] = schema.(map[string]any)
		if d.schemas[name], err = c.Compile("mem:///openapi.json#/components/schemas/" + name); err != nil {
			return document{}, err
		}
	}
	return d, nil
})

// conforms holds an answer to what the document says of its operation.
func conforms(method, path string, r reply) error {
	d, err := openAPI()
	if err != nil {
		return err
	}
	path, _, _ = strings.Cut(path, "?")
	name := d.schemaOf(method, path)
	if name == "" || !strings.Contains(r.header.Get("Content-Type"), "json") {
		return nil
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.body))
	if err != nil {
		return err
	}
	if err := d.schemas[name].Validate(v.(map[string]any)["data"]); err != nil {
		return fmt.Errorf("the answer of %s %s is not the document's %s: %w\n%s", method, path, name, err, r.body)
	}
	return nil
}

// schemaOf is the name of the schema of data in a route's answer.
func (d document) schemaOf(method, path string) string {
	pattern := d.routes.Find(chi.NewRouteContext(), method, path)
	operation, ok := d.paths[pattern][strings.ToLower(method)].(map[string]any)
	if !ok {
		return ""
	}
	var v any = operation
	for _, name := range []string{"responses", "200", "content", "application/json", "schema", "properties", "data", "$ref"} {
		at, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = at[name]
	}
	name, _ := v.(string)
	return strings.TrimPrefix(name, "#/components/schemas/")
}

func TestTheDocumentHasExactlyTheRoutes(t *testing.T) {
	d, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for path, operations := range d.paths {
		for m := range operations {
			said[strings.ToUpper(m)+" "+path] = true
		}
	}
	routes, ok := api.New(api.Options{Logger: testenv.Logger(t)}).(chi.Routes)
	if !ok {
		t.Fatal("the handler shows no routes")
	}
	err = chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if !said[method+" "+route] {
			t.Errorf("%s %s is not in the document", method, route)
		}
		delete(said, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for r := range said {
		t.Errorf("%s is in the document and no route", r)
	}
}

func TestTheDocumentIsServedToAnybody(t *testing.T) {
	r := client{w: newWorld(t)}.do("GET", "/api/openapi.json", nil).want(200)
	raw, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.body, raw) {
		t.Error("not the document of the repository")
	}
}
