package export

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/schemas"
)

// A Redaction says what becomes of personal data.
type Redaction string

// The redactions. Hash keeps equal values equal, so that they can still be counted
// and joined.
const (
	Drop Redaction = "drop"
	Hash Redaction = "hash"
)

// HashPrefix begins what stands in the place of a hashed value; 64 hexadecimal
// digits follow.
const HashPrefix = "hmac-sha256:"

// A Redactor takes out of values what their schemas mark with x-pii. It goes by the
// schemas that this program knows, and lets through only what they describe: a
// member that a newer writer added, or one of another type than its schema says, is
// dropped, since nobody here can tell what is in it. Not for concurrent use.
type Redactor struct {
	how   Redaction
	key   []byte
	known map[string]bool  // headers
	roots map[string]*node // by $id; nil for a schema that is not known
}

// NewRedactor makes one. The key is for Hash; without one it is random, and then
// hashes equal those of no other Redactor.
func NewRedactor(how Redaction, key schemas.Secret) *Redactor {
	r := &Redactor{how: how, key: []byte(key.Reveal()), known: map[string]bool{}, roots: map[string]*node{}}
	if len(r.key) == 0 {
		r.key = make([]byte, sha256.Size)
		_, _ = rand.Read(r.key) // never fails
	}
	for _, h := range (schemas.Meta{TraceParent: "x"}).Headers() {
		r.known[h.Key] = true
	}
	return r
}

// knows says whether a header is one that every record has. What is in others
// nobody can tell.
func (r *Redactor) knows(header string) bool { return r.known[header] }

// Value is what may be shown of a valid JSON value, in its order and with its
// digits. It is nil and not ok when no known schema describes it.
func (r *Redactor) Value(schema string, value []byte) (out []byte, ok bool) {
	root, asked := r.roots[schema]
	if !asked {
		root = rootOf(schema)
		r.roots[schema] = root
	}
	w := walk{Redactor: r, in: value, t: json.NewTokenizer(value), out: make([]byte, 0, len(value))}
	if !w.t.Next() || !w.value(root) || w.t.Err != nil {
		return nil, false
	}
	return w.out, true
}

// A walk goes through a value with its schema, once.
type walk struct {
	*Redactor

	in  []byte
	t   *json.Tokenizer
	out []byte
}

// value goes from the first token of a value to its last, and says whether anything
// of it may be shown; that is in out then.
func (w *walk) value(n *node) bool {
	kind := kindOf(w.t.Value)
	switch {
	case n == nil || !n.takes(kind):
		w.skip()
		return false
	case n.pii:
		return w.hide(kind)
	case kind == "object":
		w.object(n)
	case kind == "array":
		w.array(n)
	default:
		w.out = append(w.out, w.t.Value...)
	}
	return true
}

func (w *walk) object(n *node) {
	w.out = append(w.out, '{')
	first := len(w.out)
	for w.t.Next() && w.t.Delim != '}' {
		if w.t.Delim != 0 {
			continue
		}
		before, name := len(w.out), string(w.t.String())
		if before > first {
			w.out = append(w.out, ',')
		}
		w.out = append(append(w.out, w.t.Value...), ':')
		w.t.Next() // the colon
		if !w.t.Next() || !w.value(n.member(name)) {
			w.out = w.out[:before]
		}
	}
	w.out = append(w.out, '}')
}

func (w *walk) array(n *node) {
	w.out = append(w.out, '[')
	first := len(w.out)
	for w.t.Next() && w.t.Delim != ']' {
		if w.t.Delim == ',' {
			continue
		}
		before := len(w.out)
		if before > first {
			w.out = append(w.out, ',')
		}
		if !w.value(n.item()) {
			w.out = w.out[:before]
		}
	}
	w.out = append(w.out, ']')
}

// skip goes to the last token of the value.
func (w *walk) skip() {
	depth := 0
	for {
		switch w.t.Delim {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth == 0 || !w.t.Next() {
			return
		}
	}
}

// hide drops or hashes. What is empty tells nothing of anybody and stays.
func (w *walk) hide(kind string) bool {
	start := len(w.in) - w.t.Remaining() - len(w.t.Value)
	w.skip()
	if w.how != Hash {
		return false
	}
	v := w.in[start : len(w.in)-w.t.Remaining()]
	text := plainText(v, kind)
	if text == "" || kind == "null" {
		w.out = append(w.out, v...)
		return true
	}
	mac := hmac.New(sha256.New, w.key)
	mac.Write([]byte(text))
	w.out = append(append(w.out, '"'), HashPrefix...)
	w.out = append(hex.AppendEncode(w.out, mac.Sum(nil)), '"')
	return true
}

// plainText is the same for equal values, however they are written.
func plainText(v []byte, kind string) (text string) {
	if kind == "string" {
		_ = json.Unmarshal(v, &text) // it is valid
		return text
	}
	var b bytes.Buffer
	_ = json.Compact(&b, v)
	return b.String()
}

// kindOf is the JSON type of a valid value, by its first byte.
func kindOf(v []byte) string {
	switch v[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

type object = map[string]any

// A node is everything that a schema says of one place in a value: the subschemas
// that may apply there, taken together. What one of them marks is personal data,
// whichever of them it is that applies.
type node struct {
	pii      bool
	kinds    []string // empty for any
	views    []view
	children map[string]*node
	items    *node
	asked    bool // for the items
}

// A view is a subschema, with the document that its references point into.
type view struct{ doc, schema object }

// rootOf is nil for a schema that is not of this program.
func rootOf(id string) *node {
	doc := documentOf(id)
	if doc == nil {
		return nil
	}
	return nodeOf([]view{{doc, doc}})
}

func documentOf(id string) (doc object) {
	name, ours := strings.CutPrefix(id, schemas.SchemaBase)
	name, named := strings.CutSuffix(name, ".json")
	if b, err := schemas.Schema(name); ours && named && err == nil {
		_ = json.Unmarshal(b, &doc) // embedded, and tested to be JSON
	}
	return doc
}

func nodeOf(views []view) *node {
	if len(views) == 0 {
		return nil
	}
	n := &node{children: map[string]*node{}}
	for len(views) > 0 {
		v := views[0]
		views = views[1:]
		if v.schema == nil || slices.ContainsFunc(n.views, func(w view) bool { return same(v.schema, w.schema) }) {
			continue
		}
		n.views = append(n.views, v)
		n.pii = n.pii || v.schema["x-pii"] == true
		n.kinds = append(n.kinds, texts(v.schema["type"])...)
		views = append(views, v.applied()...)
	}
	return n
}

// same compares identities: a reference that comes back to itself ends there.
func same(a, b object) bool { return fmt.Sprintf("%p", a) == fmt.Sprintf("%p", b) }

func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			out = append(out, texts(e)...)
		}
		return out
	}
	return nil
}

// applied are the subschemas that may apply to the same value as v.
func (v view) applied() (out []view) {
	if ref, ok := v.schema["$ref"].(string); ok {
		out = append(out, v.resolve(ref))
	}
	for _, word := range []string{"allOf", "anyOf", "oneOf"} {
		list, _ := v.schema[word].([]any)
		for _, s := range list {
			out = append(out, v.sub(s))
		}
	}
	for _, word := range []string{"if", "then", "else"} {
		out = append(out, v.sub(v.schema[word]))
	}
	return out
}

func (v view) sub(schema any) view {
	s, _ := schema.(object)
	return view{v.doc, s}
}

// resolve follows a reference inside its document, or to another one of this
// program. One that leads nowhere describes nothing.
func (v view) resolve(ref string) view {
	file, pointer, _ := strings.Cut(ref, "#")
	doc := v.doc
	if file != "" {
		doc = documentOf(schemas.SchemaBase + strings.TrimPrefix(strings.TrimPrefix(file, schemas.SchemaBase), "./"))
	}
	at := doc
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if step != "" {
			at, _ = at[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)].(object)
		}
	}
	return view{doc, at}
}

// takes says whether a value of this kind is what the schema means here. Null holds
// nothing, and integer is no kind of its own.
func (n *node) takes(kind string) bool {
	return len(n.kinds) == 0 || kind == "null" || slices.Contains(n.kinds, kind) || kind == "number" && slices.Contains(n.kinds, "integer")
}

// member is what is said of an object's member; nil when nothing is.
func (n *node) member(name string) *node {
	if c, ok := n.children[name]; ok {
		return c
	}
	var views []view
	for _, v := range n.views {
		properties, _ := v.schema["properties"].(object)
		s, ok := properties[name].(object)
		if !ok {
			s, ok = v.schema["additionalProperties"].(object)
		}
		if ok {
			views = append(views, view{v.doc, s})
		}
	}
	c := nodeOf(views)
	if len(n.children) < maxRemembered {
		n.children[name] = c
	}
	return c
}

// maxRemembered bounds what names that nobody knows may cost.
const maxRemembered = 1000

// item is what is said of an array's items; nil when nothing is.
func (n *node) item() *node {
	if n.asked {
		return n.items
	}
	n.asked = true
	var views []view
	for _, v := range n.views {
		if s, ok := v.schema["items"].(object); ok {
			views = append(views, view{v.doc, s})
		}
	}
	n.items = nodeOf(views)
	return n.items
}
