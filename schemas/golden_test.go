package schemas_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/krib-ai/krib/schemas"
)

// recode decodes a value with its Go type and encodes it again, for each schema.
var recode = map[string]func([]byte) ([]byte, error){
	schemas.SchemaEvent:        recodeAs[schemas.Event],
	schemas.SchemaSubscription: recodeAs[schemas.Subscription],
	schemas.SchemaDelivery:     recodeAs[schemas.Delivery],
	schemas.SchemaHold:         recodeAs[schemas.Hold],
	schemas.SchemaAttempt:      recodeAs[schemas.Attempt],
	schemas.SchemaFeed:         recodeAs[schemas.FeedRecord],
	schemas.SchemaProgress:     recodeAs[schemas.Progress],
	schemas.SchemaPoison:       recodeAs[schemas.Poison],
}

func recodeAs[T any](b []byte) ([]byte, error) {
	v, err := schemas.Decode[T](b)
	if err != nil {
		return nil, err
	}
	return schemas.Encode(v)
}

type golden struct {
	file, schema string
	value        []byte
}

func goldens(tb testing.TB) []golden { tb.Helper(); return goldensIn(tb, "testdata/v1/*.json") }

func goldensIn(tb testing.TB, pattern string) []golden {
	tb.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		tb.Fatal(err)
	}
	var gs []golden
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			tb.Fatal(err)
		}
		name, _, _ := strings.Cut(filepath.Base(p), ".")
		gs = append(gs, golden{filepath.Base(p), name, b})
	}
	return gs
}

func compiled(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	return compiledFrom(t, document(t, name))
}

// compiledFrom makes a strict validator of a document.
func compiledFrom(t *testing.T, doc object) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.AssertContent()
	id := doc["$id"].(string)
	if err := c.AddResource(id, doc); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	s, err := c.Compile(id)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return s
}

func parsed(t *testing.T, b []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}

// sameNumbers compares numbers as values: 950 and 950.00 are one.
var sameNumbers = cmp.Comparer(func(a, b json.Number) bool {
	x, _ := new(big.Rat).SetString(a.String())
	y, _ := new(big.Rat).SetString(b.String())
	return x.Cmp(y) == 0
})

// sameTimes compares times as instants: with and without a fraction they are one.
var sameTimes = cmp.Comparer(func(a, b string) bool {
	x, errX := time.Parse(time.RFC3339Nano, a)
	y, errY := time.Parse(time.RFC3339Nano, b)
	return a == b || errX == nil && errY == nil && x.Equal(y)
})

func TestGoldenRecordsDecodeAndEncodeToTheSameValue(t *testing.T) {
	for _, g := range goldens(t) {
		out, err := recode[g.schema](g.value)
		if err != nil {
			t.Errorf("%s: %v", g.file, err)
			continue
		}
		if diff := cmp.Diff(parsed(t, g.value), parsed(t, out), sameNumbers); diff != "" {
			t.Errorf("%s (-golden +encoded):\n%s", g.file, diff)
		}
	}
}

func TestGoldenRecordsAreValidByTheirSchemas(t *testing.T) {
	for _, g := range goldens(t) {
		if err := compiled(t, g.schema).Validate(parsed(t, g.value)); err != nil {
			t.Errorf("%s: %v", g.file, err)
		}
	}
}

func TestEverySchemaHasABareAndAFullGoldenRecord(t *testing.T) {
	var have []string
	for _, g := range goldens(t) {
		have = append(have, g.file)
	}
	for _, name := range schemas.SchemaNames() {
		for _, kind := range []string{".bare.json", ".full.json"} {
			if !slices.Contains(have, name+kind) {
				t.Errorf("no golden record %s%s", name, kind)
			}
		}
	}
}

// A golden record that loses a required member must be refused, or validity
// would mean nothing.
func TestSchemasRefuseARecordWithoutARequiredMember(t *testing.T) {
	for _, g := range goldens(t) {
		if !strings.HasSuffix(g.file, ".bare.json") {
			continue
		}
		s := compiled(t, g.schema)
		for name := range parsed(t, g.value).(map[string]any) {
			v := parsed(t, g.value).(map[string]any)
			delete(v, name)
			if s.Validate(v) == nil {
				t.Errorf("%s is still valid without %s", g.file, name)
			}
		}
	}
}

func TestReadersSkipMembersThatTheyDoNotKnow(t *testing.T) {
	for _, g := range goldens(t) {
		newer := append([]byte(`{"from_a_newer_writer":{"a":[1,null]},`), bytes.TrimLeft(g.value, "{ \n")...)
		if _, err := recode[g.schema](newer); err != nil {
			t.Errorf("%s with a new member: %v", g.file, err)
		}
		if err := compiled(t, g.schema).Validate(parsed(t, newer)); err != nil {
			t.Errorf("%s with a new member is not valid: %v", g.file, err)
		}
	}
}

func TestDecodeRefusesWhatIsNoObject(t *testing.T) {
	for _, s := range []string{"", " ", "null", "[]", `"x"`, "1", "{", `{"id":1}`, `{"id":"a"} x`, "{}{}", "\x00", "{\"id\":\"\xff\"}"} {
		if v, err := schemas.Decode[schemas.Event]([]byte(s)); err == nil {
			t.Errorf("Decode(%q) = %+v, want an error", s, v)
		}
	}
}
