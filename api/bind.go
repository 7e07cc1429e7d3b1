package api

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/krib-ai/krib/schemas"
)

// A binder fills structs from nodes and gathers everything that is wrong.
//
// A field's json tag names its member. Its check tag is a list of:
//
//	required      it must be there; null is absent
//	min=n max=n   bounds of a number, of a string's characters, of a list's or map's items
//	each=n        the longest item of a list or value of a map, in characters
//	enum=a|b      the only values
//	line          a string without control characters and line separators
//	as=name       a form of formats.go
//
// Its default tag stands in where it is absent.
type binder struct {
	lenient bool
	errs    []schemas.FieldError
}

// A checked value has rules between its fields. It is asked after they are bound;
// fields that are wrong already are zero.
type checked interface {
	check(add func(field, rule, message string))
}

func (b *binder) add(field, rule, message string) {
	if len(b.errs) < maxErrors && !slices.ContainsFunc(b.errs, func(e schemas.FieldError) bool { return e.Field == field }) {
		b.errs = append(b.errs, schemas.FieldError{Field: field, Rule: rule, Message: strings.TrimSpace(field + " " + message)})
	}
}

func (b *binder) err() error {
	if len(b.errs) == 0 {
		return nil
	}
	e := schemas.Errorf(schemas.Malformed, "invalid_request", "%s", b.errs[0].Message)
	if n := len(b.errs) - 1; n > 0 {
		e.Detail += fmt.Sprintf(" (and %d more)", n)
	}
	e.Fields = b.errs
	return e
}

func (b *binder) into(root *node, target any) {
	b.object(root, reflect.ValueOf(target).Elem(), "")
	if c, ok := target.(checked); ok {
		c.check(b.add)
	}
}

// A field is what its tags say, read once a type.
type field struct {
	index          int
	name, format   string
	required, line bool
	fallback       *node
	min, max       string
	each           int
	enum           []string
}

var fieldCache sync.Map // reflect.Type to []field

func fieldsOf(t reflect.Type) []field {
	if f, ok := fieldCache.Load(t); ok {
		return f.([]field) // nothing else is stored
	}
	var fields []field
	for i := range t.NumField() {
		if tag := t.Field(i).Tag; tag.Get("json") != "" {
			fields = append(fields, parseField(i, tag))
		}
	}
	fieldCache.Store(t, fields)
	return fields
}

func parseField(i int, tag reflect.StructTag) field {
	f := field{index: i, name: tag.Get("json")}
	if d, ok := tag.Lookup("default"); ok {
		f.fallback = &node{kind: loose, text: d}
	}
	for word := range strings.SplitSeq(tag.Get("check"), ",") {
		switch name, arg, _ := strings.Cut(word, "="); name {
		case "required":
			f.required = true
		case "line":
			f.line = true
		case "min":
			f.min = arg
		case "max":
			f.max = arg
		case "each":
			f.each, _ = strconv.Atoi(arg)
		case "enum":
			f.enum = strings.Split(arg, "|")
		case "as":
			f.format = arg
		}
	}
	return f
}

func (b *binder) object(n *node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type())
	for i := range fields {
		f := &fields[i]
		at, m := join(path, f.name), n.member(f.name)
		if m == nil || m.kind == null {
			if f.required {
				b.add(at, "required", "is required")
			}
			m = f.fallback
		}
		if m != nil {
			b.value(m, v.Field(f.index), f, at)
		}
	}
	if b.lenient {
		return
	}
	for _, name := range n.names {
		if !slices.ContainsFunc(fields, func(f field) bool { return f.name == name }) {
			b.add(join(path, name), "unknown", "is not known here")
		}
	}
}

func (b *binder) value(n *node, v reflect.Value, f *field, path string) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch target := v.Addr().Interface().(type) {
	case *schemas.Amount:
		b.amount(n, target, f, path)
		return
	case *schemas.Date:
		b.textual(n, path, "must be a date as 2006-01-02", func(s string) (err error) { *target, err = schemas.ParseDate(s); return err })
		return
	case *time.Time:
		b.textual(n, path, "must be a time as 2006-01-02T15:04:05Z", func(s string) (err error) { *target, err = parseTime(s); return err })
		return
	}
	switch v.Kind() {
	case reflect.String:
		b.str(n, v, f, path)
	case reflect.Int, reflect.Int64:
		b.integer(n, v, f, path)
	case reflect.Float64:
		b.float(n, v, f, path)
	case reflect.Bool:
		b.boolean(n, v, path)
	case reflect.Slice:
		b.list(n, v, f, path)
	case reflect.Map:
		b.mapping(n, v, f, path)
	case reflect.Struct:
		if n.kind != object {
			b.add(path, "type", "must be an object")
			return
		}
		b.object(n, v, path)
	default:
		panic("no binding for " + v.Type().String())
	}
}

func (b *binder) textual(n *node, path, must string, parse func(string) error) {
	if n.kind != text && n.kind != loose {
		b.add(path, "type", must)
	} else if err := parse(n.text); err != nil {
		b.add(path, "format", must)
	}
}

func (b *binder) str(n *node, v reflect.Value, f *field, path string) {
	if n.kind != text && n.kind != loose {
		b.add(path, "type", "must be a string")
		return
	}
	s := n.text
	if rule, message := f.refuses(s); rule != "" {
		b.add(path, rule, message)
		return
	}
	v.SetString(s)
}

// refuses names the first rule that a string breaks.
func (f *field) refuses(s string) (rule, message string) {
	least, _ := strconv.Atoi(f.min)
	most, bounded := atoi(f.max)
	switch {
	case utf8.RuneCountInString(strings.TrimSpace(s)) < least:
		return "length", "must have at least " + f.min + " characters"
	case bounded && utf8.RuneCountInString(s) > most:
		return "length", "must have at most " + f.max + " characters"
	case f.line && strings.ContainsFunc(s, breaks):
		return "format", "must not hold control characters or line separators"
	case f.enum != nil && !slices.Contains(f.enum, s):
		return "enum", "must be one of " + strings.Join(f.enum, ", ")
	case f.format != "":
		if message := formats[f.format](s); message != "" {
			return "format", message
		}
	}
	return "", ""
}

// breaks says whether a character ends a line somewhere, or controls something: U+0085
// and its neighbours, U+2028 and U+2029 do beside the ASCII ones.
func breaks(c rune) bool { return unicode.IsControl(c) || unicode.In(c, unicode.Zl, unicode.Zp) }

func atoi(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil
}

func (b *binder) integer(n *node, v reflect.Value, f *field, path string) {
	i, ok := parseInteger(n.text)
	if n.kind != number && n.kind != loose || !ok {
		b.add(path, "type", "must be an integer")
		return
	}
	if message := f.outside(float64(i)); message != "" {
		b.add(path, "range", message)
		return
	}
	v.SetInt(i)
}

func (b *binder) float(n *node, v reflect.Value, f *field, path string) {
	x, err := strconv.ParseFloat(n.text, 64)
	if n.kind != number && n.kind != loose || err != nil || math.IsNaN(x) || math.IsInf(x, 0) || strings.ContainsAny(n.text, "xX_") { // no form of JSON's
		b.add(path, "type", "must be a number")
		return
	}
	if message := f.outside(x); message != "" {
		b.add(path, "range", message)
		return
	}
	v.SetFloat(x)
}

// amount never goes through a float: the bounds are compared in minor units.
func (b *binder) amount(n *node, target *schemas.Amount, f *field, path string) {
	if n.kind != number && n.kind != loose {
		b.add(path, "type", "must be a number")
		return
	}
	a, err := schemas.ParseAmount(n.text)
	if err != nil {
		b.add(path, "format", err.Error())
		return
	}
	if least, err := schemas.ParseAmount(f.min); err == nil && a < least {
		b.add(path, "range", "must be at least "+f.min)
		return
	}
	most, err := schemas.ParseAmount(f.max)
	if err != nil {
		most = schemas.MaxAmount
	}
	if a > most {
		b.add(path, "range", "must be at most "+most.String())
		return
	}
	*target = a
}

func (f *field) outside(x float64) string {
	least, lower := strconv.ParseFloat(f.min, 64)
	most, upper := strconv.ParseFloat(f.max, 64)
	switch {
	case lower == nil && x < least && upper == nil, lower == nil && upper == nil && x > most:
		return "must be between " + f.min + " and " + f.max
	case lower == nil && x < least:
		return "must be at least " + f.min
	case upper == nil && x > most:
		return "must be at most " + f.max
	}
	return ""
}

func (b *binder) boolean(n *node, v reflect.Value, path string) {
	value, ok := parseBoolean(n.text)
	if n.kind != boolean && n.kind != loose || !ok {
		b.add(path, "type", "must be true or false")
		return
	}
	v.SetBool(value)
}

// list binds strings only; no body has a list of anything else.
func (b *binder) list(n *node, v reflect.Value, f *field, path string) {
	if n.kind != array {
		b.add(path, "type", "must be a list")
		return
	}
	if message := f.outside(float64(len(n.values))); message != "" {
		b.add(path, "length", "must have "+strings.TrimPrefix(message, "must be ")+" items")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.values), len(n.values))
	item := field{max: strconv.Itoa(f.each), line: true}
	for i, c := range n.values {
		b.str(c, out.Index(i), &item, join(path, strconv.Itoa(i)))
	}
	v.Set(out)
}

// mapping binds an object whose members are its sender's own; its values are
// strings of one line. An empty object is a map without members, and not nil.
func (b *binder) mapping(n *node, v reflect.Value, f *field, path string) {
	if n.kind != object {
		b.add(path, "type", "must be an object")
		return
	}
	if message := f.outside(float64(len(n.values))); message != "" {
		b.add(path, "length", "must have "+strings.TrimPrefix(message, "must be ")+" members")
		return
	}
	out := reflect.MakeMap(v.Type())
	item := field{max: strconv.Itoa(f.each), line: true}
	for i, c := range n.values {
		value := reflect.New(v.Type().Elem()).Elem()
		b.str(c, value, &item, join(path, n.names[i]))
		out.SetMapIndex(reflect.ValueOf(n.names[i]), value)
	}
	v.Set(out)
}
