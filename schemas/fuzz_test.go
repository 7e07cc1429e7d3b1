package schemas_test

import (
	"testing"

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
