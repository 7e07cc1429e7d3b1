package api

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/segmentio/encoding/json"
)

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

// A parser reads one body into nodes: what its target names, and of the rest no more
// than that it is there. All of it is looked through, since some bodies are passed on
// as they are.
type parser struct {
	tokens *json.Tokenizer
	b      *binder
	values int
	at     []step
}

// A step leads to a member by its name or to an item of a list by its number.
type step struct {
	name string
	item int // -1 for a member
}

// parse reads exactly one JSON value for a target. The standard decoder is lax about
// members that stand twice, about U+0000, and about halves of surrogate pairs, which no
// UTF-8 holds and many readers refuse; all are added to b's errors.
func parse(body []byte, b *binder, target reflect.Type) (*node, error) {
	if !utf8.Valid(body) {
		return nil, notJSON("format", "the body must be JSON in UTF-8")
	}
	if !stdjson.Valid(body) { // one whole value, and nothing after it
		return nil, notJSON("format", "the body must be one JSON object and nothing else")
	}
	p := parser{tokens: json.NewTokenizer(body), b: b}
	defer p.tokens.Reset(nil) // gives its stack back
	p.next()
	return p.value(target)
}

// next goes to the next token that says something: what separates them was found in
// its place.
func (p *parser) next() {
	for p.tokens.Next() {
		if p.tokens.Delim != ',' && p.tokens.Delim != ':' {
			return
		}
	}
}

// errTokens is for a document that is valid and that the tokenizer cannot read: a fault
// of one of them.
var errTokens = errors.New("the tokens of a valid document ended early")

// shape says how the values of a target are bound; Invalid is for those that are not,
// with all that is in them.
func shape(target reflect.Type) (reflect.Type, reflect.Kind) {
	if target == nil {
		return nil, reflect.Invalid
	}
	if target.Kind() == reflect.Pointer {
		target = target.Elem()
	}
	if target == reflect.TypeFor[time.Time]() { // a text
		return target, reflect.String
	}
	return target, target.Kind()
}

// value reads the one at which the tokens stand. It is nil where there is no target.
func (p *parser) value(target reflect.Type) (*node, error) {
	if p.values++; p.values > maxValues {
		return nil, notJSON("values", "the body may have at most "+strconv.Itoa(maxValues)+" values")
	}
	switch p.tokens.Delim {
	case '{', '[':
		if len(p.at) >= maxDepth {
			return nil, notJSON("depth", "the body may be nested "+strconv.Itoa(maxDepth)+" deep at most")
		}
		if p.tokens.Delim == '{' {
			return p.object(target)
		}
		return p.array(target)
	}
	raw := p.tokens.Value
	if len(raw) == 0 {
		return nil, errTokens
	}
	isText := raw.String()
	if isText {
		if wrong := flaw(raw); wrong != "" {
			p.refuse("format", wrong)
			raw = raw[:0] // what it says is of no use any more
		}
	}
	if target == nil {
		return nil, nil
	}
	switch {
	case isText && len(raw) == 0:
		return &node{kind: text}, nil
	case isText:
		return &node{kind: text, text: unquote(raw)}, nil
	case raw.Number():
		return &node{kind: number, text: string(raw)}, nil
	case raw.Null():
		return &node{kind: null}, nil
	}
	return &node{kind: boolean, text: string(raw)}, nil
}

// passed stands for a member that the target does not name.
var passed = &node{kind: null}

func (p *parser) object(target reflect.Type) (*node, error) {
	t, form := shape(target)
	n := &node{kind: object}
	seen := map[string]bool{}
	unknown := 0
	for p.next(); p.tokens.Delim != '}'; p.next() {
		raw := p.tokens.Value
		if len(raw) < 2 {
			return nil, errTokens
		}
		name := unquote(raw)
		if wrong := flaw(raw); wrong != "" {
			p.refuse("format", wrong+" in a name")
		}
		again := seen[name]
		seen[name] = true
		p.at = append(p.at, step{name, -1})
		if again {
			p.refuse("duplicate", "is given more than once")
		}
		inside, known := member(t, form, name)
		p.next()
		v, err := p.value(inside)
		if err != nil {
			return nil, err
		}
		p.at = p.at[:len(p.at)-1]
		switch {
		case again:
		case known:
			n.add(name, v)
		case !p.b.lenient && target != nil && unknown < maxErrors: // to be named
			unknown++
			n.add(name, passed)
		}
	}
	if target == nil {
		return nil, nil
	}
	return n, nil
}

// member is the target of a member, if the object's target has one.
func member(t reflect.Type, form reflect.Kind, name string) (reflect.Type, bool) {
	switch form {
	case reflect.Map:
		return t.Elem(), true
	case reflect.Struct:
		fields := fieldsOf(t)
		if i := slices.IndexFunc(fields, func(f field) bool { return f.name == name }); i >= 0 {
			return t.Field(fields[i].index).Type, true
		}
	default: // no other has members
	}
	return nil, false
}

func (p *parser) array(target reflect.Type) (*node, error) {
	t, form := shape(target)
	var inside reflect.Type
	if form == reflect.Slice {
		inside = t.Elem()
	}
	n := &node{kind: array}
	p.at = append(p.at, step{})
	for p.next(); p.tokens.Delim != ']'; p.next() {
		v, err := p.value(inside)
		if err != nil {
			return nil, err
		}
		if inside != nil {
			n.values = append(n.values, v)
		}
		p.at[len(p.at)-1].item++
	}
	p.at = p.at[:len(p.at)-1]
	if target == nil {
		return nil, nil
	}
	return n, nil
}

// refuse blames the value at which the parser is. Its path is put together here only.
func (p *parser) refuse(rule, message string) {
	if len(p.b.errs) == maxErrors {
		return
	}
	path := ""
	for _, s := range p.at {
		if s.item >= 0 {
			s.name = strconv.Itoa(s.item)
		}
		path = join(path, s.name)
	}
	p.b.add(path, rule, message)
}

// unquote reads a text of a valid document.
func unquote(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	_ = stdjson.Unmarshal(raw, &s) // it is valid
	return s
}

// flaw says what a quoted text of a valid document may not hold here. A valid document
// can hold it as an escape only.
func flaw(raw []byte) string {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if i++; raw[i] != 'u' {
			continue
		}
		unit := codeUnit(raw[i+1:])
		i += 4
		switch {
		case unit == 0:
			return "must not hold U+0000"
		case unit >= 0xD800 && unit < 0xDC00 && len(raw) > i+6 && raw[i+1] == '\\' && raw[i+2] == 'u':
			if low := codeUnit(raw[i+3:]); low >= 0xDC00 && low < 0xE000 {
				i += 6
				continue
			}
			return halfPair
		case unit >= 0xD800 && unit < 0xE000:
			return halfPair
		}
	}
	return ""
}

const halfPair = `must not hold half of a surrogate pair, as \ud800 is`

// codeUnit reads the four digits of an escape.
func codeUnit(digits []byte) (unit uint16) {
	n, _ := strconv.ParseUint(string(digits[:4]), 16, 16) // they are valid
	return uint16(n)
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
