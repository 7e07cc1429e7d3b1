package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/krib-ai/krib/schemas"
)

const (
	maxBody   = 1 << 20
	maxDepth  = 32
	maxErrors = 50 // of one request; a body of nothing but errors has many more
)

// A strictness says what becomes of members that a body's type does not name.
type strictness bool

const (
	strict  strictness = false // refused
	lenient strictness = true  // skipped
)

// decode is the only way in for a body. It reads JSON into T by T's tags (see
// bind) and returns the bytes too. Everything that is wrong with the body is told
// at once; a body that is no JSON at all has one error.
func decode[T any](r *http.Request, how strictness) (T, []byte, error) {
	body, err := readBody(r)
	if err != nil {
		var zero T
		return zero, nil, err
	}
	return decodeBytes[T](body, how)
}

func decodeBytes[T any](body []byte, how strictness) (T, []byte, error) {
	var v T
	b := &binder{lenient: how == lenient}
	root, err := parse(body, b)
	if err != nil {
		return v, nil, err
	}
	b.into(root, &v)
	return v, body, b.err()
}

// A listed value is one item of a list, or what is wrong with it.
type listed[T any] struct {
	value T
	err   error
	node  *node
}

// text is a member as it was given, if it is a string; for naming an item that is
// wrong.
func (l *listed[T]) text(name string) string {
	if m := l.node.member(name); m != nil && m.kind == text && len(m.text) <= 255 {
		return m.text
	}
	return "unknown"
}

// decodeList reads a bare JSON list of up to most objects. What is wrong with one
// of them is its own error.
func decodeList[T any](r *http.Request, most int) ([]listed[T], []byte, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, nil, err
	}
	whole := &binder{}
	root, err := parseValue(body, whole)
	switch {
	case err != nil:
		return nil, nil, err
	case root.kind != array:
		return nil, nil, notJSON("type", "the body must be a JSON list")
	case len(root.values) == 0 || len(root.values) > most:
		return nil, nil, schemas.Refuse(schemas.Malformed, "invalid_request", "", "length", "the body must have between 1 and %d items", most)
	}
	if err := whole.err(); err != nil { // what is wrong with the JSON itself has no item
		return nil, nil, err
	}
	items := make([]listed[T], len(root.values))
	for i, n := range root.values {
		items[i].node = n
		if n.kind != object {
			items[i].err = schemas.Refuse(schemas.Malformed, "invalid_request", "", "type", "must be a JSON object")
			continue
		}
		b := &binder{}
		b.into(n, &items[i].value)
		items[i].err = b.err()
	}
	return items, body, nil
}

// decodeOptional is decode for a body that may be left out: then T has its
// defaults.
func decodeOptional[T any](r *http.Request) (T, []byte, error) {
	body, err := readBody(r)
	if err != nil {
		var zero T
		return zero, nil, err
	}
	if len(body) == 0 {
		v, _, err := decodeBytes[T]([]byte("{}"), strict)
		return v, nil, err
	}
	return decodeBytes[T](body, strict)
}

// query reads the URL's parameters into T by the same tags. An empty value is an
// absent one, and names that T does not have are skipped: clients and what stands
// before them add some of their own.
func query[T any](r *http.Request) (T, error) {
	var v T
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return v, schemas.Refuse(schemas.Malformed, "invalid_query", "", "format", "the query is not well-formed")
	}
	b := &binder{}
	root := &node{kind: object}
	for _, f := range fieldsOf(reflect.TypeFor[T]()) { // in their order, so that errors have one
		switch given := values[f.name]; {
		case len(given) > 1:
			b.add(f.name, "duplicate", "is given more than once")
		case len(given) == 0 || given[0] == "":
		case !plainText(given[0]):
			b.add(f.name, "format", "must be UTF-8 without U+0000")
		default:
			root.add(f.name, &node{kind: loose, text: given[0]})
		}
	}
	b.into(root, &v)
	return v, b.err()
}

func plainText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, schemas.Errorf(schemas.TooLarge, "body_too_large", "the body may have at most %d bytes", maxBody)
	case err != nil:
		return nil, schemas.Errorf(schemas.Malformed, "incomplete_body", "the body ended early")
	}
	return body, nil
}

func notJSON(rule, detail string) error {
	return schemas.Refuse(schemas.Malformed, "invalid_json", "", rule, "%s", detail)
}

type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	array
	object
	loose // a query parameter: whatever its target makes of it
)

// A node is one JSON value. Numbers stay text, so that none is rounded before its
// target is known, and members keep their order, so that errors do.
type node struct {
	kind   kind
	text   string
	names  []string // of an object's members
	values []*node  // of an object or an array
}

func (n *node) add(name string, v *node) {
	n.names, n.values = append(n.names, name), append(n.values, v)
}

func (n *node) member(name string) *node {
	for i := range n.names {
		if n.names[i] == name {
			return n.values[i]
		}
	}
	return nil
}

// parse reads exactly one JSON object.
func parse(body []byte, b *binder) (*node, error) {
	root, err := parseValue(body, b)
	if err == nil && root.kind != object {
		err = notJSON("type", "the body must be a JSON object")
	}
	return root, err
}

// parseValue reads exactly one JSON value. The standard decoder is lax about
// members that stand twice and about U+0000; both are added to b's errors.
func parseValue(body []byte, b *binder) (*node, error) {
	if !utf8.Valid(body) {
		return nil, notJSON("format", "the body must be JSON in UTF-8")
	}
	if !json.Valid(body) { // one whole value, and nothing after it
		return nil, notJSON("format", "the body must be one JSON object and nothing else")
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(body)), b: b}
	p.dec.UseNumber()
	return p.value(0, "")
}

type parser struct {
	dec *json.Decoder
	b   *binder
}

func (p *parser) value(depth int, path string) (*node, error) {
	tok, err := p.dec.Token()
	if err != nil {
		return nil, notJSON("format", "the body must be JSON")
	}
	switch t := tok.(type) {
	case json.Delim:
		if depth == maxDepth {
			return nil, notJSON("depth", "the body may be nested "+strconv.Itoa(maxDepth)+" deep at most")
		}
		if t == '{' {
			return p.object(depth+1, path)
		}
		return p.array(depth+1, path)
	case json.Number:
		return &node{kind: number, text: t.String()}, nil
	case string:
		if strings.Contains(t, "\x00") {
			p.b.add(path, "format", "must not hold U+0000")
		}
		return &node{kind: text, text: t}, nil
	case bool:
		return &node{kind: boolean, text: strconv.FormatBool(t)}, nil
	}
	return &node{kind: null}, nil
}

func (p *parser) object(depth int, path string) (*node, error) {
	n := &node{kind: object}
	seen := map[string]bool{}
	for p.dec.More() {
		tok, err := p.dec.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return nil, notJSON("format", "the body must be JSON")
		}
		at := join(path, name)
		switch {
		case seen[name]:
			p.b.add(at, "duplicate", "is given more than once")
		case strings.Contains(name, "\x00"):
			p.b.add(path, "format", "must not hold U+0000 in a name")
		}
		v, err := p.value(depth, at)
		if err != nil {
			return nil, err
		}
		if !seen[name] {
			n.add(name, v)
		}
		seen[name] = true
	}
	return n, p.end()
}

func (p *parser) array(depth int, path string) (*node, error) {
	n := &node{kind: array}
	for p.dec.More() {
		v, err := p.value(depth, join(path, strconv.Itoa(len(n.values))))
		if err != nil {
			return nil, err
		}
		n.values = append(n.values, v)
	}
	return n, p.end()
}

func (p *parser) end() error {
	if _, err := p.dec.Token(); err != nil {
		return notJSON("format", "the body must be JSON")
	}
	return nil
}

// join makes a dotted path. Names are the caller's: what is shown of one is short.
func join(path, name string) string {
	if len(name) > 64 {
		name = strings.ToValidUTF8(name[:64], "") + "…"
	}
	if path == "" {
		return name
	}
	if len(path) > 512 {
		return path
	}
	return path + "." + name
}
