package schemas_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/krib-ai/krib/schemas"
)

// before is a document with one of everything that the comparison has a rule for.
const before = `{
  "$id": "https://schemas.krib.ai/v1/thing.json",
  "title": "A thing",
  "type": "object",
  "required": ["kind", "guest"],
  "properties": {
    "kind": {"type": "string", "enum": ["plain", "priced"], "description": "What it is."},
    "at": {"type": "string", "format": "date-time"},
    "note": {"type": ["string", "null"], "x-pii": true},
    "code": {"type": "string", "pattern": "^[A-Z]{3}$", "minLength": 3},
    "count": {"type": "integer", "minimum": 1},
    "sealed": {"type": "string", "contentEncoding": "base64"},
    "guest": {"$ref": "#/$defs/guest", "description": "Who."},
    "others": {"type": "array", "items": {"$ref": "#/$defs/guest"}},
    "nested": {"type": "object", "required": ["deep"], "properties": {"deep": {"type": "object", "properties": {"deeper": {"type": "string"}}}}},
    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
    "closed": {"type": "object", "additionalProperties": false, "properties": {"only": {"type": "string"}}},
    "either": {"oneOf": [{"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}, {"const": "none"}]},
    "some": {"anyOf": [{"type": "string", "format": "date"}, {"type": "integer"}]}
  },
  "allOf": [
    {"if": {"properties": {"kind": {"const": "priced"}}, "required": ["kind"]}, "then": {"required": ["count"]}}
  ],
  "$defs": {
    "guest": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "x-pii": true}, "plan": {"type": "string", "enum": ["a", "b"]}}}
  }
}`

// Each change is one text for another in before; of what breaks, the message tells
// the place.
func TestEachKindOfBreakIsFound(t *testing.T) {
	for _, c := range []struct{ what, old, now, want string }{
		{"a removed member", `"at": {"type": "string", "format": "date-time"},`, ``, "at is gone"},
		{"a renamed member", `"code":`, `"kode":`, "code is gone"},
		{"a removed member of an object inside", `"deeper": {"type": "string"}`, ``, "nested.deep.deeper is gone"},
		{"a removed member of a definition", `, "plan": {"type": "string", "enum": ["a", "b"]}`, ``, "$defs.guest.plan is gone"},
		{"a removed definition", `"guest": {"type": "object", "required": ["name"]`, `"person": {"type": "object", "required": ["name"]`, "$defs.guest is gone"},
		{"another definition", `"guest": {"$ref": "#/$defs/guest"`, `"guest": {"$ref": "#/$defs/host"`, "guest has $ref #/$defs/host"},
		{"another type", `"type": "integer", "minimum": 1`, `"type": "number", "minimum": 1`, "count has type [number]"},
		{"a type more", `"deeper": {"type": "string"}`, `"deeper": {"type": ["string", "null"]}`, "nested.deep.deeper has type [null string]"},
		{"a type less", `["string", "null"]`, `"string"`, "note has type [string]"},
		{"another type of items", `"items": {"$ref": "#/$defs/guest"}`, `"items": {"type": "string"}`, "others.items has type [string]"},
		{"no schema of items", `, "items": {"$ref": "#/$defs/guest"}`, ``, "others.items is true"},
		{"another type of what has no name", `"additionalProperties": {"type": "string"}`, `"additionalProperties": {"type": "integer"}`, "headers.additionalProperties has type [integer]"},
		{"a closed object", `"required": ["deep"],`, `"required": ["deep"], "additionalProperties": false,`, "nested.additionalProperties is false"},
		{"a member more of a closed object", `"only": {"type": "string"}`, `"only": {"type": "string"}, "more": {}`, "closed.more is new, and its object was closed"},
		{"a member that those without a name could not be", `"additionalProperties": {"type": "string"}`, `"additionalProperties": {"type": "string"}, "properties": {"ttl": {"type": "integer"}}`, "headers.ttl has type [integer]"},
		{"another format", `"format": "date-time"`, `"format": "date"`, "at has format date,"},
		{"no format", `, "format": "date-time"`, ``, "at has format <nil>"},
		{"another pattern", `^[A-Z]{3}$`, `^[A-Z]{4}$`, "code has pattern"},
		{"a new pattern", `"deeper": {`, `"deeper": {"pattern": "^x",`, "nested.deep.deeper has pattern ^x"},
		{"another bound", `"minimum": 1`, `"minimum": 0`, "count has minimum 0"},
		{"a new bound", `"minLength": 3`, `"minLength": 3, "maxLength": 3`, "code has maxLength 3"},
		{"another encoding", `"base64"`, `"base16"`, "sealed has contentEncoding base16"},
		{"another constant", `{"const": "none"}`, `{"const": "nothing"}`, "either.oneOf[1] has nothing like it any more"},
		{"a default", `"minimum": 1`, `"minimum": 1, "default": 1`, "count has default 1"},
		{"a keyword of tomorrow", `"minimum": 1`, `"minimum": 1, "x-unit": "cents"`, "count has x-unit cents"},
		{"a new requirement", `["kind", "guest"]`, `["kind", "guest", "at"]`, "the value requires at"},
		{"a new requirement inside", `"required": ["deep"]`, `"required": ["deep", "x"]`, "nested requires x"},
		{"a new requirement of a definition", `"required": ["name"]`, `"required": ["name", "plan"]`, "$defs.guest requires plan"},
		{"a requirement less", `["kind", "guest"]`, `["kind"]`, "the value does not require guest any more"},
		{"a value less", `["plain", "priced"]`, `["plain"]`, "kind does not have priced in its enum"},
		{"a value less in a definition", `["a", "b"]`, `["a", "c"]`, "$defs.guest.plan does not have b in its enum"},
		{"an opened enum", `, "enum": ["a", "b"]`, ``, "$defs.guest.plan has no enum any more"},
		{"a new enum", `"contentEncoding": "base64"`, `"contentEncoding": "base64", "enum": ["a"]`, "sealed has an enum"},
		{"a mark less", `["string", "null"], "x-pii": true`, `["string", "null"]`, "note is not marked x-pii any more"},
		{"a mark less in a definition", `"name": {"type": "string", "x-pii": true}`, `"name": {"type": "string"}`, "$defs.guest.name is not marked x-pii any more"},
		{"a branch of oneOf less", `, {"const": "none"}`, ``, "either.oneOf[1] has nothing like it"},
		{"a branch of oneOf more", `{"const": "none"}`, `{"const": "none"}, {"const": "all"}`, "either.oneOf has a branch more"},
		{"a member less in oneOf", `"properties": {"a": {"type": "string"}}`, `"properties": {}`, "either.oneOf[0] has nothing like it"},
		{"another format in anyOf", `"format": "date"`, `"format": "time"`, "some.anyOf[0] has nothing like it"},
		{"a branch of anyOf more", `{"type": "integer"}]`, `{"type": "integer"}, {"type": "boolean"}]`, "some.anyOf has a branch more"},
		{"a condition that asks for more", `"then": {"required": ["count"]}`, `"then": {"required": ["count", "at"]}`, "allOf[0] has nothing like it"},
		{"another condition", `{"kind": {"const": "priced"}}`, `{"kind": {"const": "plain"}}`, "allOf[0] has nothing like it"},
		{"a condition more on a known value", `"allOf": [`, `"allOf": [{"if": {"properties": {"kind": {"const": "plain"}}, "required": ["kind"]}, "then": {"required": ["at"]}},`, "allOf has a branch more"},
		{"a condition more on a member that may be missing", `"allOf": [`, `"allOf": [{"if": {"properties": {"kind": {"const": "new"}}}, "then": {"required": ["at"]}},`, "allOf has a branch more"},
		{"something new of all", `"allOf": [`, `"allOf": [{"required": ["at"]},`, "allOf has a branch more"},
		{"another id", `v1/thing`, `v2/thing`, "the value has $id"},
	} {
		if !strings.Contains(before, c.old) {
			t.Fatalf("%s: %s is not there", c.what, c.old)
		}
		if got := breaksBetween(t, before, mended(strings.Replace(before, c.old, c.now, 1))); !slices.ContainsFunc(got, func(b string) bool { return strings.HasPrefix(b, c.want) }) {
			t.Errorf("%s: found %q, want %q", c.what, got, c.want)
		}
	}
}

func TestWhatOnlyAddsIsNoBreak(t *testing.T) {
	for _, c := range []struct{ what, old, now string }{
		{"nothing", ``, ``},
		{"an optional member", `"at": {`, `"until": {"type": "string", "format": "date-time"}, "at": {`},
		{"an optional member inside", `"deeper": {`, `"other": {"type": "integer"}, "deeper": {`},
		{"an optional member of a definition", `"plan": {`, `"age": {"type": "integer"}, "plan": {`},
		{"an optional member that those without a name could be", `"additionalProperties": {"type": "string"}`, `"additionalProperties": {"type": "string"}, "properties": {"ttl": {"type": "string"}}`},
		{"a definition", `"$defs": {`, `"$defs": {"host": {"type": "object"},`},
		{"a value of an enum", `["plain", "priced"]`, `["plain", "free", "priced"]`},
		{"a value of an enum that has requirements of its own", `"allOf": [`, `"allOf": [{"if": {"properties": {"kind": {"const": "new"}}, "required": ["kind"]}, "then": {"required": ["at"]}},`},
		{"a mark", `"deeper": {`, `"deeper": {"x-pii": true,`},
		{"words", `"A thing"`, `"Some thing"`},
		{"words of a member", `"What it is."`, `"What it is, in short."`},
		{"another order", `["kind", "guest"]`, `["guest", "kind"]`},
		{"another order of branches", `[{"type": "string", "format": "date"}, {"type": "integer"}]`, `[{"type": "integer"}, {"type": "string", "format": "date"}]`},
		{"the same without a reference", `"items": {"$ref": "#/$defs/guest"}`, `"items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "x-pii": true}, "plan": {"type": "string", "enum": ["a", "b"]}}}`},
	} {
		if got := breaksBetween(t, before, strings.Replace(before, c.old, c.now, 1)); len(got) > 0 {
			t.Errorf("%s: found %q", c.what, got)
		}
	}
}

// mended takes out the commas that a removed text left.
func mended(doc string) string {
	return strings.NewReplacer(",\n  }", "\n  }", `{, `, `{`).Replace(doc)
}

func breaksBetween(t *testing.T, old, now string) []string {
	t.Helper()
	return breaksOf(parsed(t, []byte(old)).(object), parsed(t, []byte(now)).(object))
}

// Wherever a thing stands in our own schemas: taken away, it is missed.
func TestNothingCanBeTakenFromASchemaUnseen(t *testing.T) {
	for _, name := range schemas.SchemaNames() {
		n := len(cuts(document(t, name), ""))
		if n < 10 {
			t.Errorf("only %d things can be taken from %s", n, name)
		}
		for i := range n {
			now := document(t, name)
			cut := cuts(now, "")[i]
			cut.take()
			if len(breaksOf(document(t, name), now)) == 0 {
				t.Errorf("%s without %s breaks nothing", name, cut.what)
			}
		}
	}
}

type cut struct {
	what string
	take func()
}

// cuts are all that can be taken from a document: members, definitions, keywords,
// and the last of each list.
func cuts(v any, path string) (out []cut) {
	switch v := v.(type) {
	case object:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if _, words := v[name].(string); words && slices.Contains(annotations, name) {
				continue
			}
			at := path + "/" + name
			out = append(out, cut{at, func() { delete(v, name) }})
			if l, ok := v[name].([]any); ok && len(l) > 0 {
				out = append(out, cut{fmt.Sprintf("%s/%d", at, len(l)-1), func() { v[name] = l[:len(l)-1] }})
			}
			out = append(out, cuts(v[name], at)...)
		}
	case []any:
		for i, m := range v {
			out = append(out, cuts(m, fmt.Sprintf("%s/%d", path, i))...)
		}
	}
	return out
}
