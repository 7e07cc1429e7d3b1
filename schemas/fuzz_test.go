package schemas_test

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/krib-ai/krib/schemas"
)

// What decodes can be written, and what was written reads as the same event.
func FuzzDecodeEvent(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"id":"evt_1","booking":{"total_amount":9.5e2,"check_in":"2026-04-10"},"changed":["status"],"payment":{}}`,
		`{"booking":{"total_amount":-92233720368547758.08}}`, `{"id":"\ud800","changed":null}`, `[]`, `{"id":{"id":[[[]]]}}`,
	} {
		f.Add([]byte(s))
	}
	for _, g := range goldens(f) {
		if g.schema == schemas.SchemaEvent {
			f.Add(g.value)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := schemas.Decode[schemas.Event](b)
		if err != nil {
			return
		}
		out, err := schemas.Encode(e)
		if err != nil {
			return // a year that RFC 3339 does not have
		}
		if e.Booking.CheckIn == "" || e.Booking.CheckOut == "" {
			return // written as it is; no date is a reader's error
		}
		again, err := schemas.Decode[schemas.Event](out)
		if err != nil {
			t.Fatalf("%v in %s, which was written for %q", err, out, b)
		}
		if diff := cmp.Diff(e, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q came back different:\n%s", b, diff)
		}
	})
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"950", "950.0", "9.5e2", "950.005", "1e999999999", "1/3", "-92233720368547758.08", "0x1p-2", "1_0", "", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := schemas.ParseAmount(s)
		if err != nil {
			return
		}
		again, err := schemas.ParseAmount(a.String())
		if err != nil || again != a {
			t.Errorf("%q was read as %d and written as %s, which reads as %d, %v", s, int64(a), a, int64(again), err)
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"0123456789-1-2", "0123456789-01-2", "", "--", "abcdefabcd-0-9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := schemas.ParseCursor(s)
		if err == nil && c.String() != s {
			t.Errorf("%q was read as %s", s, c)
		}
	})
}

// The values of every topic: what decodes and can be written comes back as it was
// written.
func FuzzDecodeValues(f *testing.F) {
	for _, s := range []string{`{}`, `{"id":"a","version":-1,"events":null}`, `{"at":"0000-01-01T00:00:00+23:59"}`, `{"headers":{"":""},"value":"AA=="}`, `[]`, `{"ids":[1e3]}`} {
		f.Add([]byte(s))
	}
	for _, g := range goldens(f) {
		f.Add(g.value)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, again := range recode {
			if name == schemas.SchemaEvent {
				continue // has a target of its own, for the dates of its booking
			}
			once, err := again(b)
			if err != nil || bytes.Contains(once, []byte(`"check_in":""`)) || bytes.Contains(once, []byte(`"check_out":""`)) {
				continue // no date is written as it is, and is a reader's error
			}
			twice, err := again(once)
			if err != nil {
				t.Fatalf("%s %q was written as %s, and that cannot be read: %v", name, b, once, err)
			}
			if diff := cmp.Diff(parsed(t, once), parsed(t, twice)); diff != "" { // members of a map have no order
				t.Errorf("%s %q was written differently the second time:\n%s", name, b, diff)
			}
		}
	})
}

func FuzzParseDate(f *testing.F) {
	for _, s := range []string{"2026-02-28", "2026-02-30", "1999-12-31", "10000-01-01", "2026-1-1", "", "2026-02-28T00:00:00Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := schemas.ParseDate(s)
		if err != nil {
			return
		}
		if schemas.DateOf(d.Time()) != d || string(d) != s || d.AddDays(1) <= d && d != "9999-12-31" {
			t.Errorf("%q was read as %s", s, d)
		}
	})
}

func FuzzParseLadder(f *testing.F) {
	for _, s := range []string{"5s,30s,5m,30m,2h,5h,10h,10h", "", ",", "1ns", "24h,1s", "100ms, 100ms", "-5s", "9223372036854775807ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := schemas.ParseLadder(s)
		if err != nil {
			return
		}
		if len(l) == 0 || len(l) > 50 || !slices.IsSorted(l) || l[0] < 100*time.Millisecond || l[len(l)-1] > 24*time.Hour {
			t.Errorf("%q was read as %v", s, l)
		}
		for _, d := range l {
			if got, ok := l.Covering(d); !ok || got != d {
				t.Errorf("%v covers %v with %v", l, d, got)
			}
		}
	})
}

func FuzzParseSigningSecret(f *testing.F) {
	_, made := schemas.NewSigningSecret()
	for _, s := range []string{made.Reveal(), "whsec_", "whsec_AA==", made.Reveal() + "\n", strings.ToUpper(made.Reveal()), ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := schemas.ParseSigningSecret(schemas.Secret(s))
		if err == nil && (len(raw) < 24 || schemas.SigningPrefix+base64.StdEncoding.EncodeToString(raw) != s) {
			t.Errorf("%q was read as %d bytes of another secret", s, len(raw))
		}
	})
}
