package mcp

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An object is one of JSON.
type object = map[string]any

// A document is what is read of an OpenAPI document.
type document struct {
	operations map[string]located // by operationId
	schemas    map[string]json.RawMessage
}

// located is an operation as it stands in the document, and where.
type located struct {
	OperationID  string
	Parameters   []parameter
	RequestBody  *content
	Responses    map[string]content
	method, path string
}

// read panics at a document that is none.
func read(raw []byte) document {
	var d struct {
		Paths      map[string]map[string]located
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		panic(fmt.Sprintf("mcp: reading the API's document: %v", err))
	}
	out := document{map[string]located{}, d.Components.Schemas}
	for path, methods := range d.Paths {
		for method, o := range methods {
			o.method, o.path = strings.ToUpper(method), path
			out.operations[o.OperationID] = o
		}
	}
	return out
}

// A place is where an argument goes in the request.
type place uint8

const (
	inBody place = iota
	inPath
	inQuery
	inHeader
)

// headers are the ones that are arguments; others serve caches and the like.
var headers = map[string]string{"Idempotency-Key": "idempotency_key"}

// An argument is one member of a tool's input.
type argument struct {
	place    place
	name     string   // in the request
	fallback any      // nil for none, or for one that the API has too
	types    []string // of JSON Schema; none for any
}

// takes says whether a value is of the argument's type. A URL would carry the text "2"
// as well as the number: here it is what the tool's schema says, as in a body.
func (a *argument) takes(v json.RawMessage) bool {
	of := map[byte][]string{'"': {"string"}, 't': {"boolean"}, 'f': {"boolean"}, '{': {"object"}, '[': {"array"}}[v[0]]
	if of == nil {
		of = []string{"number", "integer"} // which of them, the API says
	}
	return len(a.types) == 0 && v[0] != '{' && v[0] != '[' || slices.ContainsFunc(of, func(t string) bool { return slices.Contains(a.types, t) })
}

// must is what a value of another type is refused with.
func (a *argument) must() string {
	if len(a.types) == 0 {
		return "a single value"
	}
	switch a.types[0] {
	case "integer":
		return "an integer"
	case "boolean":
		return "true or false"
	}
	return "a " + a.types[0]
}

// typesOf are those that a schema names.
func typesOf(s object) []string {
	switch t := s["type"].(type) {
	case string:
		return []string{t}
	case []any:
		var types []string
		for _, v := range t {
			if name, ok := v.(string); ok && name != "null" { // null is absent
				types = append(types, name)
			}
		}
		return types
	}
	return nil
}

// An operation is how a call becomes a request, and its schemas.
type operation struct {
	method, path  string
	arguments     map[string]argument
	body          bool
	input, output object
}

// operation panics when the document has none of the tool's name.
func (d document) operation(t *tool) operation {
	o, ok := d.operations[t.operation]
	if !ok {
		panic(fmt.Sprintf("mcp: the API's document has no operation %q for the tool %s", t.operation, t.name))
	}
	op := operation{method: o.method, path: o.path, arguments: map[string]argument{}}
	in := newSchema(d)
	for i := range o.Parameters {
		op.parameter(in, &o.Parameters[i])
	}
	if o.RequestBody != nil {
		op.body = true
		op.members(in, d.resolve(o.RequestBody.schema()))
	}
	op.replace(in, t)
	op.input = in.finish(object{"type": "object", "additionalProperties": false})
	out := newSchema(d)
	op.output = out.finish(out.adopt(d.resolve(o.Responses["200"].schema())))
	return op
}

type parameter struct {
	Name, In, Description string
	Required              bool
	Schema                object
}

type content struct {
	Content map[string]struct{ Schema object }
}

func (c content) schema() object { return c.Content["application/json"].Schema }

// parameter makes an argument of a parameter.
func (op *operation) parameter(in *schema, p *parameter) {
	name, where := p.Name, map[string]place{"path": inPath, "query": inQuery, "header": inHeader}[p.In]
	if where == inHeader {
		if name = headers[p.Name]; name == "" {
			return
		}
	}
	s := in.adopt(p.Schema)
	if p.Description != "" {
		s["description"] = p.Description
	}
	op.arguments[name] = argument{place: where, name: p.Name, types: typesOf(in.d.resolve(p.Schema))}
	in.add(name, s, p.Required)
}

// members makes an argument of each member of a body.
func (op *operation) members(in *schema, body object) {
	required, _ := body["required"].([]any)
	properties, _ := body["properties"].(object)
	for name, s := range properties {
		op.arguments[name] = argument{place: inBody, name: name}
		in.add(name, in.adopt(s.(object)), slices.Contains(required, any(name)))
	}
}

// replace puts the tool's defaults in the place of the operation's.
func (op *operation) replace(in *schema, t *tool) {
	for name, v := range t.defaults {
		a, ok := op.arguments[name]
		if !ok {
			panic(fmt.Sprintf("mcp: %s has no argument %q", t.name, name))
		}
		a.fallback = v
		op.arguments[name] = a
		in.properties[name].(object)["default"] = v
	}
}

const componentPrefix = "#/components/schemas/"

// resolve follows a reference, if it is one.
func (d document) resolve(s object) object {
	ref, _ := s["$ref"].(string)
	name, ok := strings.CutPrefix(ref, componentPrefix)
	if !ok {
		return s
	}
	var to object
	if err := json.Unmarshal(d.schemas[name], &to); err != nil {
		panic(fmt.Sprintf("mcp: the API's document has no schema %q: %v", name, err))
	}
	return d.resolve(to)
}

// A schema gathers one that stands by itself: what it refers to is in its $defs.
type schema struct {
	d                document
	properties, defs object
	required         []string
}

func newSchema(d document) *schema {
	return &schema{d: d, properties: object{}, defs: object{}}
}

// add makes s a property, with words for a model if the document has none.
func (b *schema) add(name string, s object, required bool) {
	describe(name, s)
	b.properties[name] = s
	if required {
		b.required = append(b.required, name)
	}
}

// describe gives a schema and those of its members the words that are missing.
func describe(name string, s object) {
	if _, ok := s["description"]; !ok && words[name] != "" {
		s["description"] = words[name]
	}
	properties, _ := s["properties"].(object)
	for member, p := range properties {
		describe(member, p.(object))
	}
}

// adopt copies a schema, its references turned to this one's $defs.
func (b *schema) adopt(s object) object {
	out := make(object, len(s))
	for k, v := range s {
		out[k] = b.adoptValue(v)
	}
	if ref, ok := s["$ref"].(string); ok {
		if to := b.d.resolve(s); to["enum"] != nil { // models follow values that stand in place more surely
			delete(out, "$ref")
			out["type"], out["enum"] = to["type"], to["enum"]
			return out
		}
		if name, ok := strings.CutPrefix(ref, componentPrefix); ok {
			out["$ref"] = "#/$defs/" + name
			b.define(name)
		}
	}
	return out
}

func (b *schema) adoptValue(v any) any {
	switch v := v.(type) {
	case object:
		return b.adopt(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = b.adoptValue(v[i])
		}
		return out
	}
	return v
}

func (b *schema) define(name string) {
	if _, ok := b.defs[name]; ok {
		return
	}
	b.defs[name] = nil // one that refers to itself ends here
	b.defs[name] = b.adopt(b.d.resolve(object{"$ref": componentPrefix + name}))
}

// finish lays what was gathered over s.
func (b *schema) finish(s object) object {
	out := maps.Clone(s)
	if len(b.properties) > 0 {
		out["properties"] = b.properties
	}
	if len(b.required) > 0 {
		slices.Sort(b.required)
		out["required"] = b.required
	}
	if len(b.defs) > 0 {
		out["$defs"] = b.defs
	}
	return out
}
