package schemas_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/schemas"
)

// A release is what was published under one version: documents by the names of
// their schemas, and records of its time.
type release struct {
	version string
	schemas map[string][]byte
	samples []golden
}

func releases(t *testing.T) (out []release) {
	t.Helper()
	folders, err := filepath.Glob("released/*.*.*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no released schemas: %v", err)
	}
	for _, f := range folders {
		r := release{version: filepath.Base(f), schemas: map[string][]byte{}}
		for _, g := range goldensIn(t, f+"/*.json") {
			r.schemas[g.schema] = g.value
		}
		r.samples = goldensIn(t, f+"/samples/*.json")
		if len(r.schemas) == 0 || len(r.samples) == 0 {
			t.Fatalf("%s holds nothing", f)
		}
		out = append(out, r)
	}
	return out
}

func TestSchemasBreakNothingOfWhatWasReleased(t *testing.T) {
	for _, r := range releases(t) {
		for name, old := range r.schemas {
			now, err := schemas.Schema(name)
			if err != nil {
				t.Errorf("%s of %s is gone: %v", name, r.version, err)
				continue
			}
			for _, b := range breaksOf(parsed(t, old).(object), parsed(t, now).(object)) {
				t.Errorf("%s since %s: %s", name, r.version, b)
			}
		}
	}
}

func TestRecordsOfAReleaseAreValidAndDecodeToday(t *testing.T) {
	for _, r := range releases(t) {
		for _, g := range r.samples {
			if err := compiled(t, g.schema).Validate(parsed(t, g.value)); err != nil {
				t.Errorf("%s of %s: %v", g.file, r.version, err)
			}
			out, err := recode[g.schema](g.value)
			if err != nil {
				t.Errorf("%s of %s: %v", g.file, r.version, err)
				continue
			}
			if diff := cmp.Diff(parsed(t, g.value), parsed(t, out), sameNumbers, sameTimes); diff != "" {
				t.Errorf("%s of %s (-released +encoded):\n%s", g.file, r.version, diff)
			}
		}
	}
}

// Of today's records those are meant that have every member, too.
func TestRecordsOfTodayAreValidByWhatWasReleased(t *testing.T) {
	samples := goldens(t)
	for _, c := range types {
		if c.def == "" {
			p := reflect.New(reflect.TypeOf(c.value))
			fill(t, p.Elem())
			b, err := schemas.Encode(p.Interface())
			if err != nil {
				t.Fatal(err)
			}
			samples = append(samples, golden{c.schema + " with every member", c.schema, b})
		}
	}
	for _, r := range releases(t) {
		for _, g := range samples {
			old, ok := r.schemas[g.schema]
			if !ok {
				continue // a schema that is younger
			}
			if err := readByOlder(t, old, document(t, g.schema), g.value); err != nil {
				t.Errorf("%s by %s: %v", g.file, r.version, err)
			}
		}
	}
}

// readByOlder is what a reader with an older schema makes of a record. It skips a
// value that its enum does not have and that today's has at the same place.
func readByOlder(t *testing.T, old []byte, now object, record []byte) error {
	t.Helper()
	grown := parsed(t, old).(object)
	grow(grown, now)
	return compiledFrom(t, grown).Validate(parsed(t, record))
}

// grow lays today's enums into an older document, place by place.
func grow(old, now any) {
	switch o := old.(type) {
	case object:
		n, _ := now.(object)
		if o["enum"] != nil && n["enum"] != nil {
			o["enum"] = n["enum"]
		}
		for name := range o {
			grow(o[name], n[name])
		}
	case []any:
		n, _ := now.([]any)
		for i := range min(len(o), len(n)) {
			grow(o[i], n[i])
		}
	}
}

func TestWhatWasReleasedIsNotTouched(t *testing.T) {
	sums, err := os.ReadFile("released/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	err = filepath.WalkDir("released", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".json" {
			return err
		}
		b, err := os.ReadFile(path)
		sum := sha256.Sum256(b)
		have[strings.TrimPrefix(filepath.ToSlash(path), "released/")] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		want[name] = sum
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("released (-SHA256SUMS +files):\n%s", diff)
	}
}
