package schemas_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

var timestamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`)

// Wherever a time stands in a value, and whatever it is, it has the one form.
func TestEveryTimeIsWrittenWith27Characters(t *testing.T) {
	t.Parallel()
	dubai, behind := time.FixedZone("", 4*3600), time.FixedZone("", -12*3600)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC), "2026-03-01T09:30:00.000000Z"},
		{time.Date(2026, 3, 1, 9, 30, 0, 250e6, time.UTC), "2026-03-01T09:30:00.250000Z"},
		{time.Date(2026, 3, 1, 9, 30, 0, 1000, time.UTC), "2026-03-01T09:30:00.000001Z"},
		{time.Date(2026, 3, 1, 9, 30, 0, 999, time.UTC), "2026-03-01T09:30:00.000000Z"},
		{time.Date(2026, 3, 1, 9, 30, 0, 123456789, time.UTC), "2026-03-01T09:30:00.123456Z"},
		{time.Date(2026, 12, 31, 23, 59, 59, 999999999, time.UTC), "2026-12-31T23:59:59.999999Z"},
		{time.Date(2027, 1, 1, 3, 59, 59, 999999500, dubai), "2026-12-31T23:59:59.999999Z"},
		{time.Date(2026, 12, 31, 12, 0, 0, 0, behind), "2027-01-01T00:00:00.000000Z"},
		{time.Date(2028, 2, 29, 23, 59, 59, 100e6, time.UTC), "2028-02-29T23:59:59.100000Z"},
		{time.Time{}, "0001-01-01T00:00:00.000000Z"},
		{time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), "9999-12-31T23:59:59.999999Z"},
		{time.UnixMilli(-1), "1969-12-31T23:59:59.999000Z"},
	} {
		quoted := `"` + c.want + `"`
		type inner struct {
			At time.Time `json:"at"`
		}
		for _, v := range []struct {
			is   any
			want string
		}{
			{c.at, quoted},
			{&c.at, quoted},
			{inner{c.at}, `{"at":` + quoted + `}`},
			{map[string]any{"at": c.at}, `{"at":` + quoted + `}`},
			{[]*inner{{c.at}, nil}, `[{"at":` + quoted + `},null]`},
			{[]any{c.at, "2026-03-01T09:30:00Z"}, `[` + quoted + `,"2026-03-01T09:30:00Z"]`},
		} {
			b, err := schemas.Encode(v.is)
			if err != nil || string(b) != v.want {
				t.Errorf("%T of %v: %s, %v, want %s", v.is, c.at, b, err, v.want)
			}
		}
		if got := schemas.FormatTime(c.at); got != c.want || len(got) != 27 {
			t.Errorf("%v: %s, want %s", c.at, got, c.want)
		}
		back, err := time.Parse(time.RFC3339, c.want)
		if err != nil || !back.Equal(c.at.Truncate(time.Microsecond)) && c.at.Year() > 1 {
			t.Errorf("%s is read as %v, %v", c.want, back, err)
		}
	}
	if b, err := schemas.Encode(map[string]*time.Time{"at": nil}); err != nil || string(b) != `{"at":null}` {
		t.Errorf("no time is %s, %v", b, err)
	}
}

// Records of older writers, with times of 20 to 27 characters, are read, and written
// anew in the one form.
func TestReleasedRecordsAreWrittenAnewWithTimesOf27Characters(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("released/*/samples/*.json")
	if err != nil {
		t.Fatal(err)
	}
	all := goldens(t)
	for _, p := range paths {
		all = append(all, goldensIn(t, p)...)
	}
	n := 0
	for _, g := range all {
		if recode[g.schema] == nil { // a schema itself
			continue
		}
		out, err := recode[g.schema](g.value)
		if err != nil {
			continue // another test holds them
		}
		var v any
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatal(err)
		}
		for _, at := range times(v) {
			if n++; !timestamp.MatchString(at) {
				t.Errorf("%s has the time %s", g.file, at)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d times were found", n)
	}
}

// times are the texts of a value that are times.
func times(v any) (out []string) {
	switch v := v.(type) {
	case string:
		if _, err := time.Parse(time.RFC3339, v); err == nil {
			out = append(out, v)
		}
	case []any:
		for _, of := range v {
			out = append(out, times(of)...)
		}
	case map[string]any:
		for _, of := range v {
			out = append(out, times(of)...)
		}
	}
	return out
}

func TestTheHeaderOfARecordHasTheSameTimestamp(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC), time.Date(2026, 12, 31, 23, 59, 59, 999999999, time.UTC), time.UnixMilli(5)} {
		for _, h := range (schemas.Meta{Time: at}).Headers() {
			if h.Key == "ce_time" && !timestamp.MatchString(h.Value) {
				t.Errorf("ce_time of %v is %s", at, h.Value)
			}
		}
	}
}
