package api

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/krib-ai/krib/schemas"
)

const (
	maxDepth  = 32
	maxErrors = 50 // of one request; a body of nothing but errors has many more
	// maxValues bounds what one body costs: a value takes up to fifty times the two bytes
	// that it has in a list of zeros. A full batch of notifications has some 1,400.
	maxValues = 5_000
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
	root, err := parse(body, b, reflect.TypeFor[T]())
	if err == nil && root.kind != object {
		err = notJSON("type", "the body must be a JSON object")
	}
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
	root, err := parse(body, whole, reflect.TypeFor[[]T]())
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
// absent one. What T does not name is takes's to refuse; what it names and the document
// does not is a fault of the program.
func query[T any](r *http.Request) (T, error) {
	var v T
	values, err := parseQuery(r)
	if err != nil {
		return v, err
	}
	op := infoOf(r.Context()).operation
	b := &binder{}
	root := &node{kind: object}
	for _, f := range fieldsOf(reflect.TypeFor[T]()) { // in their order, so that errors have one
		if op != nil && op.bound && !slices.Contains(op.parameters, f.name) {
			return v, fmt.Errorf("the parameter %s is not in the API's document", f.name)
		}
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
	b.hintAtPlus(r.URL.RawQuery, values)
	return v, b.err()
}

// hintAtPlus names the likely cause of an error in a value that has a space where the
// query has a plus: as that of a time zone, which a client did not escape.
func (b *binder) hintAtPlus(raw string, values url.Values) {
	if !strings.Contains(raw, "+") {
		return
	}
	for i := range b.errs {
		if e := &b.errs[i]; e.Rule != "duplicate" && strings.Contains(values.Get(e.Field), " ") {
			e.Message += "; a + in a query is a space: write it as %2B"
		}
	}
}

func plainText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func notJSON(rule, detail string) error {
	return schemas.Refuse(schemas.Malformed, "invalid_json", "", rule, "%s", detail)
}
