package schemas_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A comparison finds what of a schema breaks the promise to those who know an
// older version of it: readers that validate with that, and records that were
// written by it.
//
// What a version may do is add: an optional member, a value of an enum, a mark
// that a member is of people, words for people. A member that an old schema does
// not know is valid by it, for none is closed. A value that an old enum does not
// know is not valid by it, and is allowed all the same: readers skip what they do
// not know. Everything else is a break, also in keywords that nobody thought of
// here.
type comparison struct {
	old, now object // the documents, for their references
	breaks   []string
}

// breaksOf compares two versions of one document.
func breaksOf(old, now object) []string {
	c := comparison{old: old, now: now}
	c.schema(old, now, "")
	return c.breaks
}

func (c *comparison) found(path, format string, args ...any) {
	if path == "" {
		path = "the value"
	}
	c.breaks = append(c.breaks, path+" "+fmt.Sprintf(format, args...))
}

// Keywords that are words for people, and those that have a rule below. All
// others, such as format, pattern, const, bounds, encodings, default, if and not,
// stay as they are.
var (
	annotations = []string{"title", "description", "$comment", "examples", "deprecated"}
	ruled       = []string{
		"$defs", "type", "required", "enum", "x-pii", "properties",
		"items", "additionalProperties", "then", "else", "allOf", "anyOf", "oneOf",
	}
)

// schema compares two schemas at one place.
func (c *comparison) schema(old, now any, path string) {
	o, is := old.(object)
	n, still := now.(object)
	if !is || !still { // true and false are schemas too
		if !reflect.DeepEqual(old, now) {
			c.found(path, "is %v, and was %v", now, old)
		}
		return
	}
	o, n = c.resolved(o, n)
	c.keywords(o, n, path)
	if was, is := texts(o["type"]), texts(n["type"]); !slices.Equal(was, is) {
		c.found(path, "has type %v, and had %v", is, was)
	}
	c.enum(o, n, path)
	c.required(texts(o["required"]), texts(n["required"]), path)
	if o["x-pii"] == true && n["x-pii"] != true {
		c.found(path, "is not marked x-pii any more")
	}
	c.members(o, n, path)
	c.defs(o, n)
	for _, word := range []string{"items", "additionalProperties", "then", "else"} {
		c.schema(orTrue(o, word), orTrue(n, word), under(path, word))
	}
	for _, word := range []string{"allOf", "anyOf", "oneOf"} {
		c.branches(o, n, word, path)
	}
}

// under is a place inside another.
func under(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// orTrue is the schema of a keyword, which allows everything where it is not
// there.
func orTrue(s object, word string) any {
	if v, ok := s[word]; ok {
		return v
	}
	return true
}

// resolved lays what references name beside what stands beside them. Two that
// name the same definition are left out: definitions are compared by name.
func (c *comparison) resolved(old, now object) (o, n object) {
	if old["$ref"] != nil && now["$ref"] != nil {
		return old, now
	}
	return flat(c.old, old), flat(c.now, now)
}

func flat(root, s object) object {
	ref, _ := s["$ref"].(string)
	defs, _ := root["$defs"].(object)
	def, ok := defs[strings.TrimPrefix(ref, "#/$defs/")].(object)
	if !ok {
		return s
	}
	laid := maps.Clone(def)
	maps.Copy(laid, s)
	delete(laid, "$ref")
	return flat(root, laid)
}

func (c *comparison) keywords(o, n object, path string) {
	both := maps.Clone(o)
	maps.Copy(both, n)
	for _, word := range slices.Sorted(maps.Keys(both)) {
		if !slices.Contains(annotations, word) && !slices.Contains(ruled, word) && !reflect.DeepEqual(o[word], n[word]) {
			c.found(path, "has %s %v, and had %v", word, n[word], o[word])
		}
	}
}

// texts is a word, or a list of words, in order.
func texts(v any) (out []string) {
	switch v := v.(type) {
	case string:
		out = []string{v}
	case []any:
		for _, s := range v {
			out = append(out, fmt.Sprint(s))
		}
	}
	slices.Sort(out)
	return out
}

func (c *comparison) enum(o, n object, path string) {
	old, was := o["enum"].([]any)
	now, is := n["enum"].([]any)
	switch {
	case was && !is:
		c.found(path, "has no enum any more")
	case is && !was:
		c.found(path, "has an enum, and had none")
	}
	for _, v := range old {
		if is && !slices.Contains(now, v) {
			c.found(path, "does not have %v in its enum any more", v)
		}
	}
}

// required stays: a new one makes old records invalid, and one that is gone makes
// new records invalid for old readers.
func (c *comparison) required(old, now []string, path string) {
	for _, name := range now {
		if !slices.Contains(old, name) {
			c.found(path, "requires %s, and did not", name)
		}
	}
	for _, name := range old {
		if !slices.Contains(now, name) {
			c.found(path, "does not require %s any more", name)
		}
	}
}

// members compares the members of an object. More may come, unless those without
// a name were refused, or had a schema.
func (c *comparison) members(o, n object, path string) {
	old, _ := o["properties"].(object)
	now, _ := n["properties"].(object)
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if now[name] == nil {
			c.found(under(path, name), "is gone")
			continue
		}
		c.schema(old[name], now[name], under(path, name))
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if old[name] != nil {
			continue
		}
		switch others := orTrue(o, "additionalProperties"); {
		case others == false || o["unevaluatedProperties"] != nil:
			c.found(under(path, name), "is new, and its object was closed")
		case others != true:
			c.schema(others, now[name], under(path, name))
		}
	}
}

// defs compares the definitions of a document by their names.
func (c *comparison) defs(o, n object) {
	old, _ := o["$defs"].(object)
	now, _ := n["$defs"].(object)
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if now[name] == nil {
			c.found("$defs."+name, "is gone")
			continue
		}
		c.schema(old[name], now[name], "$defs."+name)
	}
}

// branches compares lists of schemas, whatever their order.
func (c *comparison) branches(o, n object, word, path string) {
	old, _ := o[word].([]any)
	now, _ := n[word].([]any)
	left, lost := slices.Clone(now), false
	for i, b := range old {
		j := slices.IndexFunc(left, func(s any) bool { return len(c.apart(b, s)) == 0 })
		if j < 0 {
			lost = true
			c.found(fmt.Sprintf("%s[%d]", under(path, word), i), "has nothing like it any more")
			continue
		}
		left = slices.Delete(left, j, j+1)
	}
	for _, b := range left {
		if !lost && (word != "allOf" || !ofNewValue(o, b)) {
			c.found(under(path, word), "has a branch more")
		}
	}
}

// apart compares two schemas beside the rest.
func (c *comparison) apart(old, now any) []string {
	d := comparison{old: c.old, now: c.now}
	d.schema(old, now, "")
	return d.breaks
}

// ofNewValue says whether a branch of allOf in s binds only what could not be
// before: an object with a member whose value is new in its enum.
func ofNewValue(s object, branch any) bool {
	b, _ := branch.(object)
	condition, _ := b["if"].(object)
	members, _ := s["properties"].(object)
	bound, _ := condition["properties"].(object)
	for name, m := range bound {
		is, _ := m.(object)
		was, _ := members[name].(object)
		enum, closed := was["enum"].([]any)
		if closed && is["const"] != nil && !slices.Contains(enum, is["const"]) && slices.Contains(texts(condition["required"]), name) {
			return len(b) == 2 && b["then"] != nil
		}
	}
	return false
}
