package schemas_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/krib-ai/krib/schemas"
)

// personal is what the golden records say of people: their names, addresses,
// numbers, and what they wrote. Wherever it stands, its member is marked x-pii.
var personal = []string{
	"Aisha", "Khan", "aisha.khan@example.com", "501234567", "12 Marina Walk", "Cot", "We land at nine",
}

// personalNames are members that hold such things, whatever a golden record says.
var personalNames = []string{
	"first_name", "last_name", "guest_name", "email", "phone", "address", "special_requests", "message", "payload", "response_body",
}

// A personWalk goes through records with their schemas.
type personWalk struct {
	root object
	// unmarked are the members that tell of a person and have no mark; seen is what
	// of personal was found at all.
	unmarked []string
	seen     map[string]bool
}

// walk looks at a value with its schema, which is nil inside an open object.
func (w *personWalk) walk(schema object, value any, path string) {
	if schema["x-pii"] == true {
		w.tells(fmt.Sprint(value), schema)
		return
	}
	if r, ok := schema["$ref"].(string); ok {
		schema = w.root["$defs"].(object)[strings.TrimPrefix(r, "#/$defs/")].(object)
	}
	switch v := value.(type) {
	case object:
		w.members(schema, v, path)
	case []any:
		items, _ := schema["items"].(object)
		for _, m := range v {
			w.walk(items, m, path+"[]")
		}
	default:
		if w.tells(fmt.Sprint(v), schema) {
			w.unmarked = append(w.unmarked, path)
		}
	}
}

func (w *personWalk) members(schema, value object, path string) {
	members, _ := schema["properties"].(object)
	others, _ := schema["additionalProperties"].(object)
	for name, m := range value {
		of, known := members[name].(object)
		if !known {
			of = others
		}
		if known && of["x-pii"] != true && slices.Contains(personalNames, name) {
			w.unmarked = append(w.unmarked, path+"."+name)
			continue
		}
		w.walk(of, m, path+"."+name)
	}
}

// tells says whether a text tells of a person.
func (w *personWalk) tells(text string, schema object) bool {
	if schema["contentEncoding"] == "base64" {
		b, _ := base64.StdEncoding.DecodeString(text)
		text = string(b)
	}
	found := false
	for _, p := range personal {
		if strings.Contains(text, p) {
			w.seen[p], found = true, true
		}
	}
	return found
}

// unmarked lists the members of all golden records that tell of a person and are
// not marked in the schemas that of gives, and what of personal was found.
func unmarked(t *testing.T, of func(string) object) (paths, seen []string) {
	t.Helper()
	w := personWalk{seen: map[string]bool{}}
	for _, g := range goldens(t) {
		w.root = of(g.schema)
		w.walk(w.root, parsed(t, g.value), g.schema)
	}
	slices.Sort(w.unmarked)
	return slices.Compact(w.unmarked), slices.Sorted(maps.Keys(w.seen))
}

func TestPersonalDataIsMarked(t *testing.T) {
	paths, seen := unmarked(t, func(name string) object { return document(t, name) })
	for _, p := range paths {
		t.Errorf("%s tells of a person and is not marked x-pii", p)
	}
	for _, p := range personal {
		if !slices.Contains(seen, p) {
			t.Errorf("no golden record holds %q: what is looked for is not what is there", p)
		}
	}
}

// A mark is a member that is marked, and its place.
type mark struct {
	path   string
	member object
}

func marks(v any, path string) (out []mark) {
	o, ok := v.(object)
	if !ok {
		return nil
	}
	if o["x-pii"] == true {
		out = append(out, mark{path, o})
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		out = append(out, marks(o[name], path+"."+name)...)
	}
	return out
}

// Each mark has a golden record that needs it: none can be taken away unseen.
func TestAMarkOfPersonalDataThatIsTakenAwayIsMissed(t *testing.T) {
	for _, name := range schemas.SchemaNames() {
		for i, m := range marks(document(t, name), name) {
			less := func(schema string) object {
				d := document(t, schema)
				if schema == name {
					delete(marks(d, "")[i].member, "x-pii")
				}
				return d
			}
			if paths, _ := unmarked(t, less); len(paths) == 0 {
				t.Errorf("without the mark of %s every golden record passes", m.path)
			}
		}
	}
}
