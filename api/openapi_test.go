package api_test

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

type document struct {
	paths   map[string]map[string]any
	schemas map[string]*jsonschema.Schema
	raw     map[string]map[string]any // the same, as they stand there
	tags    map[string]bool           // that have a description
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
	c.AssertFormat()
	if err := c.AddResource("mem:///openapi.json", doc); err != nil {
		return document{}, err
	}
	d := document{paths: map[string]map[string]any{}, schemas: map[string]*jsonschema.Schema{}, raw: map[string]map[string]any{}, tags: map[string]bool{}}
	root := doc.(map[string]any)
	for path, operations := range root["paths"].(map[string]any) {
		d.paths[path] = operations.(map[string]any)
	}
	for _, tag := range root["tags"].([]any) {
		d.tags[tag.(map[string]any)["name"].(string)] = tag.(map[string]any)["description"] != ""
	}
	for name, schema := range root["components"].(map[string]any)["schemas"].(map[string]any) {
		d.raw[name] = schema.(map[string]any)
		if d.schemas[name], err = c.Compile("mem:///openapi.json#/components/schemas/" + name); err != nil {
			return document{}, err
		}
	}
	return d, nil
})

// contract is what every answer of these tests is held to.
var contract = sync.OnceValues(func() (*testenv.Contract, error) {
	raw, err := os.ReadFile("openapi.json")
	if err != nil {
		return nil, err
	}
	return testenv.NewContract(raw)
})

// held puts the contract before a server's client.
func held(t testing.TB, c *http.Client) {
	t.Helper()
	k, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	c.Transport = k.Through(c.Transport, func(_ *http.Request, err error) { t.Error(err) })
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
	t.Parallel()
	r := client{w: newWorld(t)}.do("GET", "/api/openapi.json", nil).want(200)
	raw, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.body, raw) {
		t.Error("not the document of the repository")
	}
}

// What the AsyncAPI document describes is there as a file, too, which is the one
// that records name.
func TestTheTopicsAndTheirSchemasAreServedToAnybody(t *testing.T) {
	t.Parallel()
	c := client{w: newWorld(t)}
	doc := c.do("GET", "/api/asyncapi.json", nil).want(200)
	if got, want := len(doc.get("channels").(map[string]any)), len(topics()); got != want {
		t.Errorf("%d channels for %d topics", got, want)
	}
	for name, m := range doc.get("components").(map[string]any)["messages"].(map[string]any) {
		ref := "/api/schemas/v1/" + name + ".json"
		if of := m.(map[string]any)["payload"].(map[string]any)["schema"].(map[string]any)["$ref"]; of != "#/components/schemas/"+name {
			t.Errorf("the payload of %s is %v", name, of)
		}
		r := c.do("GET", ref, nil).want(200)
		want, err := schemas.Schema(name)
		if err != nil || !bytes.Equal(r.body, want) || r.header.Get("Content-Type") != "application/schema+json" {
			t.Errorf("%s: %v, %s", ref, err, r.header.Get("Content-Type"))
		}
	}
	for _, none := range []string{"none.json", "..%2Fcodec.json", "booking-event", ".json"} {
		c.do("GET", "/api/schemas/v1/"+none, nil).refused(404, "no_such_path")
	}
}

// references are all of a document, in whatever depth.
func references(v any) (out []string) {
	switch v := v.(type) {
	case []any:
		for _, of := range v {
			out = append(out, references(of)...)
		}
	case map[string]any:
		for k, of := range v {
			if ref, ok := of.(string); ok && k == "$ref" {
				out = append(out, ref)
				continue
			}
			out = append(out, references(of)...)
		}
	}
	return out
}

// points says whether a JSON pointer leads to something.
func points(doc any, pointer string) bool {
	for name := range strings.SplitSeq(strings.TrimPrefix(pointer, "#/"), "/") {
		o, ok := doc.(map[string]any)
		if !ok {
			return false
		}
		if doc, ok = o[strings.NewReplacer("~1", "/", "~0", "~").Replace(name)]; !ok {
			return false
		}
	}
	return strings.HasPrefix(pointer, "#/")
}

// A document that was saved has no server beside it.
func TestEveryServedDocumentStandsAlone(t *testing.T) {
	c := client{w: newWorld(t)}
	served := []string{"/api/openapi.json", "/api/asyncapi.json"}
	for _, name := range schemas.SchemaNames() {
		served = append(served, "/api/schemas/v1/"+name+".json")
	}
	all := 0
	for _, path := range served {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.do("GET", path, nil).want(200).body))
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range references(doc) {
			all++
			if !points(doc, ref) {
				t.Errorf("%s refers to %s, which is not in it", path, ref)
			}
		}
	}
	if all < 300 {
		t.Errorf("only %d references were found", all)
	}
	for _, wrong := range []string{"schemas/v1/poison.json", "#/components/none", "https://schemas.krib.ai/v1/poison.json", "#", "booking.json#/a", "#/a/b/c"} {
		if points(map[string]any{"a": map[string]any{"b": "text"}}, wrong) {
			t.Errorf("%s is taken for a reference that can be resolved", wrong)
		}
	}
}

// inline is a copy of a schema with what it refers to in the place of the
// references.
func (d document) inline(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = d.inline(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		if ref, ok := v["$ref"].(string); ok {
			maps.Copy(out, d.inline(d.raw[strings.TrimPrefix(ref, "#/components/schemas/")]).(map[string]any))
		}
		for k, of := range v {
			if k != "$ref" {
				out[k] = d.inline(of)
			}
		}
		return out
	}
	return v
}

// examplesOf are those of a body: its own, or those of the schema that it, the
// data of its envelope, or its items refer to.
func (d document) examplesOf(body map[string]any) (name string, examples []any) {
	if e, ok := body["example"]; ok {
		return "", []any{e}
	}
	schema, _ := body["schema"].(map[string]any)
	if ref, _ := schema["$ref"].(string); strings.HasSuffix(ref, "Envelope") {
		schema = d.raw[strings.TrimPrefix(ref, "#/components/schemas/")]
	}
	for _, inside := range []string{"data", "items"} {
		at := schema
		if inside == "data" {
			at, _ = schema["properties"].(map[string]any)
		}
		if in, ok := at[inside].(map[string]any); ok {
			schema = in
		}
	}
	ref, _ := schema["$ref"].(string)
	name = strings.TrimPrefix(ref, "#/components/schemas/")
	examples, _ = d.raw[name]["examples"].([]any)
	return name, examples
}

func TestEveryOperationIsUnderATagThatIsDescribed(t *testing.T) {
	d, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	for path, operations := range d.paths {
		for method, o := range operations {
			tags, _ := o.(map[string]any)["tags"].([]any)
			if len(tags) != 1 || !d.tags[tags[0].(string)] {
				t.Errorf("%s %s is under %v, of %v", strings.ToUpper(method), path, tags, d.tags)
			}
		}
	}
}

func TestEveryBodyHasAnExample(t *testing.T) {
	d, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	for path, operations := range d.paths {
		for method, o := range operations {
			bodies := map[string]any{}
			if b, ok := o.(map[string]any)["requestBody"].(map[string]any); ok {
				bodies["request"] = b["content"]
			}
			if !strings.HasSuffix(path, ".json") { // of a document the document is the example
				bodies["answer"] = o.(map[string]any)["responses"].(map[string]any)["200"].(map[string]any)["content"]
			}
			for of, content := range bodies {
				for kind, body := range content.(map[string]any) {
					if _, examples := d.examplesOf(body.(map[string]any)); len(examples) == 0 {
						t.Errorf("the %s of %s %s as %s has no example", of, strings.ToUpper(method), path, kind)
					}
				}
			}
		}
	}
}

func TestTheExamplesAreValid(t *testing.T) {
	d, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	for name, schema := range d.raw {
		examples, _ := schema["examples"].([]any)
		for _, e := range examples {
			if err := d.schemas[name].Validate(e); err != nil {
				t.Errorf("an example of %s: %v", name, err)
			}
		}
	}
}
