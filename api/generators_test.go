package api_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/encoding/json"
)

type object = map[string]any

// A lint finds in an OpenAPI document what breaks generators of clients:
// openapi-typescript 7, @hey-api/openapi-ts 0.99, openapi-python-client 0.29,
// openapi-generator 7.26 (Go, Python), oapi-codegen 2.8 and ogen 1.24 were run
// on the document, and what they made was compiled. Each rule is what at least
// one of them failed at, or made a wrong type of.
type lint struct {
	doc     object
	schemas object
	names   map[string]string // of the types that generators make, folded: where they are from
	found   []string
}

func linted(doc object) []string {
	components, _ := doc["components"].(object)
	schemas, _ := components["schemas"].(object)
	l := &lint{doc: doc, schemas: schemas, names: map[string]string{}}
	l.servers()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		l.name(name, "schema "+name)
	}
	schemes, _ := components["securitySchemes"].(object)
	for _, name := range slices.Sorted(maps.Keys(schemes)) {
		l.name(name, "security scheme "+name)
	}
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		l.schema(schemas[name].(object), name, "schema "+name)
	}
	paths, _ := doc["paths"].(object)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, method := range slices.Sorted(maps.Keys(paths[path].(object))) {
			l.operation(paths[path].(object)[method].(object), path, strings.ToUpper(method)+" "+path)
		}
	}
	l.constructors()
	l.constants()
	return l.found
}

func (l *lint) add(format string, args ...any) {
	l.found = append(l.found, fmt.Sprintf(format, args...))
}

// servers: generators write the first one's address into the client.
func (l *lint) servers() {
	servers, _ := l.doc["servers"].([]any)
	if len(servers) == 0 {
		l.add("no servers")
		return
	}
	if url, _ := servers[0].(object)["url"].(string); !strings.HasPrefix(url, "http") || strings.Contains(url, "{") {
		l.add("the first server %q is no address", url)
	}
}

// fold is a name as the least careful generator compares it.
func fold(name string) string {
	return strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]`).ReplaceAllString(name, ""))
}

// name takes a type's name.
func (l *lint) name(name, of string) {
	if before, ok := l.names[fold(name)]; ok {
		l.add("%s and %s are both called %s", before, of, name)
		return
	}
	l.names[fold(name)] = of
}

// schema looks at one and at what is inside. called is the name that generators
// give it when it stands in line.
func (l *lint) schema(s object, called, at string) {
	l.types(s, at)
	if ref, ok := s["$ref"].(string); ok {
		if name, ok := strings.CutPrefix(ref, "#/components/schemas/"); !ok || l.schemas[name] == nil {
			l.add("%s refers to %s, which is no schema", at, ref)
		}
	}
	properties, _ := s["properties"].(object)
	required, _ := s["required"].([]any)
	for _, r := range required {
		if properties[r.(string)] == nil {
			l.add("%s requires %s, which is no property", at, r)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		p, at := properties[name].(object), at+", "+name
		if _, ok := p["default"]; ok {
			l.add("%s has a default, which makes the member required", at)
		}
		l.inline(p, called+"_"+name, at)
	}
	if items, ok := s["items"].(object); ok {
		l.inline(items, called+"_item", at+", an item")
	}
	if more, ok := s["additionalProperties"].(object); ok {
		l.inline(more, called+"_additional_property", at+", another member")
	}
	for _, of := range []string{"oneOf", "anyOf", "allOf"} {
		all, _ := s[of].([]any)
		for i, one := range all {
			l.schema(one.(object), fmt.Sprint(called, "_", of, i), fmt.Sprint(at, ", ", of, " ", i))
		}
	}
}

// inline is a schema inside another: generators name its type after where it is.
func (l *lint) inline(s object, called, at string) {
	if s["enum"] != nil || s["properties"] != nil {
		l.name(called, at)
	}
	l.schema(s, called, at)
}

func (l *lint) types(s object, at string) {
	var types []string
	switch t := s["type"].(type) {
	case string:
		types = []string{t}
	case []any:
		for _, one := range t {
			types = append(types, one.(string))
		}
	}
	real := slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == "null" })
	switch {
	case len(types) > 0 && len(real) == 0:
		l.add("%s is null alone", at)
	case len(real) > 1:
		l.add("%s has the types %v", at, real)
	case len(real) == 0 && (s["const"] != nil || s["enum"] != nil):
		l.add("%s has values and no type", at)
	case slices.Contains(real, "array") && s["items"] == nil:
		l.add("%s is an array without items", at)
	case slices.Contains(real, "number") && s["format"] != "double":
		l.add("%s is a number that is not double: single precision loses cents", at)
	}
	switch s["default"].(type) {
	case object, []any:
		l.add("%s has a default that is no scalar", at)
	}
}

// operation: its id names a method, and types that belong to it.
func (l *lint) operation(o object, path, at string) {
	id, _ := o["operationId"].(string)
	if !regexp.MustCompile(`^[a-z]+[A-Z][A-Za-z]+$`).MatchString(id) {
		l.add("%s has the id %q, which is no verb with a noun", at, id)
	}
	l.name(id, at)
	for _, made := range []string{"Data", "Error", "Errors", "Response", "Responses", "Params", "Request", "JSONBody", "JSONRequestBody"} {
		l.name(id+made, at+"'s "+made)
	}
	declared := map[string]bool{}
	parameters, _ := o["parameters"].([]any)
	for _, p := range parameters {
		p := p.(object)
		name, _ := p["name"].(string)
		if p["in"] == "path" {
			declared[name] = p["required"] == true
		}
		s, _ := p["schema"].(object)
		l.inline(s, id+"_"+name, at+", "+name)
	}
	for _, m := range regexp.MustCompile(`\{([^}]*)\}`).FindAllStringSubmatch(path, -1) {
		if !declared[m[1]] {
			l.add("%s does not declare %s as required", at, m[1])
		}
	}
	bodies, _ := o["requestBody"].(object)
	l.contents(bodies, id+"_body", at+", its body")
	responses, _ := o["responses"].(object)
	for _, status := range slices.Sorted(maps.Keys(responses)) {
		l.contents(responses[status].(object), id+"_response_"+status, at+", "+status)
	}
}

func (l *lint) contents(body object, called, at string) {
	contents, _ := body["content"].(object)
	for _, kind := range slices.Sorted(maps.Keys(contents)) {
		if s, ok := contents[kind].(object)["schema"].(object); ok {
			l.inline(s, called, at)
		}
	}
}

// constructors: openapi-generator makes functions NewX and NewXWithDefaults and a
// type NullableX for each type X of Go.
func (l *lint) constructors() {
	for _, name := range slices.Sorted(maps.Keys(l.names)) {
		for _, made := range []string{"new" + name, "new" + name + "withdefaults", "nullable" + name} {
			if of, ok := l.names[made]; ok {
				l.add("%s is called as what is made for %s", of, l.names[name])
			}
		}
	}
}

// constants: openapi-generator calls constants of Go after the values alone.
func (l *lint) constants() {
	from := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(l.schemas)) {
		values, _ := l.schemas[name].(object)["enum"].([]any)
		for _, v := range values {
			key := fold(fmt.Sprint(v))
			if before, ok := from[key]; ok {
				l.add("%v is a value of %s and of %s", v, before, name)
			}
			from[key] = name
		}
	}
}

func TestTheDocumentHasNothingThatBreaksGenerators(t *testing.T) {
	raw, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc object
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	for _, f := range linted(doc) {
		t.Error(f)
	}
}

// soundDocument is one that no rule finds anything in.
const soundDocument = `{
	"servers": [{"url": "http://127.0.0.1:8080"}],
	"paths": {"/stays/{stay_id}": {"get": {
		"operationId": "getStay",
		"parameters": [
			{"name": "stay_id", "in": "path", "required": true, "schema": {"type": "string"}},
			{"name": "sort", "in": "query", "schema": {"type": "string", "enum": ["up", "down"], "default": "up"}}],
		"responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Stay"}}}}}}}},
	"components": {
		"securitySchemes": {"agentKey": {"type": "http"}},
		"schemas": {
			"Stay": {"type": "object", "required": ["id"], "properties": {
				"id": {"type": "string"}, "price": {"type": ["number", "null"], "format": "double"},
				"state": {"$ref": "#/components/schemas/Phase"}, "host": {"type": "object", "properties": {"name": {"type": "string"}}},
				"tags": {"type": "array", "items": {"type": "string"}}}},
			"Phase": {"type": "string", "enum": ["open", "shut"]}}}}`

func TestTheRulesFindWhatBreaksGenerators(t *testing.T) {
	var sound object
	if err := json.Unmarshal([]byte(soundDocument), &sound); err != nil {
		t.Fatal(err)
	}
	if found := linted(sound); len(found) > 0 {
		t.Fatalf("the sound document: %q", found)
	}
	for _, broken := range []struct{ from, to, want string }{
		{`"Phase": {`, `"StayHost": {"type": "object"}, "Phase": {`, "both called Stay_host"},
		{`"Phase": {`, `"Stay_Host": {"type": "object"}, "Phase": {`, "both called Stay_host"},
		{`"Phase": {`, `"GetStaySort": {"type": "object"}, "Phase": {`, "both called getStay_sort"},
		{`"Phase": {`, `"GetStay": {"type": "object"}, "Phase": {`, "both called getStay"},
		{`"Phase": {`, `"getStayResponse": {"type": "object"}, "Phase": {`, "both called getStayResponse"},
		{`"Phase": {`, `"PHASE": {"type": "object"}, "Phase": {`, "both called Phase"},
		{`"agentKey"`, `"stay"`, "security scheme stay are both called stay"},
		{`"Phase": {`, `"NewStay": {"type": "object"}, "Phase": {`, "made for schema Stay"},
		{`"Phase": {`, `"NewStayWithDefaults": {"type": "object"}, "Phase": {`, "made for schema Stay"},
		{`"Phase": {`, `"NullablePhase": {"type": "object"}, "Phase": {`, "made for schema Phase"},
		{`"Phase": {`, `"NewStayHost": {"type": "object"}, "Phase": {`, "made for schema Stay, host"},
		{`"id": {"type": "string"}`, `"id": {"type": "null"}`, "id is null alone"},
		{`"id": {"type": "string"}`, `"id": {"type": ["null"]}`, "id is null alone"},
		{`"stay_id", "in": "path", "required": true, "schema": {"type": "string"}`, `"stay_id", "in": "path", "required": true, "schema": {"type": "null"}`, "stay_id is null alone"},
		{`"id": {"type": "string"}`, `"id": {"type": ["string", "integer"]}`, "id has the types [string integer]"},
		{`"items": {"type": "string"}`, `"items": {"type": ["boolean", "null", "object"]}`, "an item has the types [boolean object]"},
		{`"name": {"type": "string"}`, `"name": {"type": ["number", "string"]}`, "host, name has the types"},
		{`, "items": {"type": "string"}`, ``, "tags is an array without items"},
		{`"name": {"type": "string"}`, `"name": {"type": ["array", "null"]}`, "name is an array without items"},
		{`{"$ref": "#/components/schemas/Stay"}`, `{"type": "array"}`, "200 is an array without items"},
		{`"id": {"type": "string"}`, `"id": {"type": "string", "default": "x"}`, "id has a default"},
		{`"name": {"type": "string"}`, `"name": {"type": "string", "default": ""}`, "host, name has a default"},
		{`{"type": ["number", "null"], "format": "double"}`, `{"type": ["number", "null"], "format": "double", "default": null}`, "price has a default"},
		{`"default": "up"`, `"default": ["up"]`, "default that is no scalar"},
		{`"default": "up"`, `"default": {"up": 1}`, "default that is no scalar"},
		{`[{"url": "http://127.0.0.1:8080"}]`, `[]`, "no servers"},
		{`"servers"`, `"x-servers"`, "no servers"},
		{`"http://127.0.0.1:8080"`, `"/"`, "is no address"},
		{`"http://127.0.0.1:8080"`, `"http://{host}"`, "is no address"},
		{`"required": ["id"]`, `"required": ["id", "missing"]`, "requires missing"},
		{`"properties": {"name"`, `"required": ["nam"], "properties": {"name"`, "host requires nam"},
		{`{"$ref": "#/components/schemas/Stay"}`, `{"type": "object", "required": ["a"]}`, "requires a, which"},
		{`, "format": "double"`, ``, "price is a number"},
		{`, "format": "double"`, `, "format": "float"`, "price is a number"},
		{`"id": {"type": "string"}`, `"id": {"const": "x"}`, "id has values and no type"},
		{`"Phase": {"type": "string", `, `"Phase": {`, "Phase has values and no type"},
		{`"Phase": {`, `"Way": {"type": "string", "enum": ["in", "SHUT"]}, "Phase": {`, "is a value of"},
		{`"getStay"`, `"stay"`, `the id "stay"`},
		{`"getStay"`, `"get-stay"`, `the id "get-stay"`},
		{`"operationId": "getStay",`, ``, `the id ""`},
		{`"in": "path", "required": true`, `"in": "path"`, "does not declare stay_id"},
		{`"name": "stay_id"`, `"name": "id"`, "does not declare stay_id"},
		{`#/components/schemas/Stay"`, `#/components/schemas/Stey"`, "is no schema"},
		{`"#/components/schemas/Phase"`, `"phase.json"`, "is no schema"},
	} {
		text := strings.Replace(soundDocument, broken.from, broken.to, 1)
		var doc object
		if err := json.Unmarshal([]byte(text), &doc); err != nil || text == soundDocument {
			t.Fatalf("%s: the document is not broken: %v", broken.to, err)
		}
		if found := linted(doc); !strings.Contains(strings.Join(found, "\n"), broken.want) {
			t.Errorf("%s: found %q, want %q", broken.to, found, broken.want)
		}
	}
}
