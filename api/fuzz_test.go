package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/stripe/stripe-go/v84"

	"github.com/krib-ai/krib/schemas"
)

// A cursor is read only if it is one that this list has written.
func FuzzBookingCursor(f *testing.F) {
	written := cursorBehind(&schemas.Booking{ID: "bkg_1", CreatedAt: time.Date(2026, 1, 1, 0, 0, 0, 1000, time.UTC)})
	for _, s := range []string{string(written), "", "MTc2NzIyNTYwMDAwMDAwMC4", "LTEuYQ", "OTk5OTk5OTk5OTk5OTk5OTk5OS5h", "=", string(written) + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := bookingCursor(s).position()
		if err != nil {
			return
		}
		again, err := cursorBehind(&schemas.Booking{ID: at.ID, CreatedAt: at.CreatedAt}).position()
		if err != nil || again.ID != at.ID || !again.CreatedAt.Equal(at.CreatedAt) || !plainText(string(at.ID)) {
			t.Errorf("%q is %+v, and that is %+v, %v", s, at, again, err)
		}
	})
}

// A telephone number that is taken is one form of itself.
func FuzzPhone(f *testing.F) {
	for _, s := range [][2]string{{"+971", "050 123 4567"}, {"", "+44 20 7946 0018"}, {"49", "(030) 901820"}, {"+0", "1"}, {"+9999", "+"}, {"1", "x" + strings.Repeat("9", 300)}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, country, number string) {
		if country != "" && checkCountryCode(country) != "" || checkPhone(number) != "" || len(number) > 32 {
			return // refused before it is read
		}
		p, field, message := parsePhone(country, number)
		if message != "" {
			if field != "phone" && field != "country_code" {
				t.Errorf("%q %q is blamed on %q", country, number, field)
			}
			return
		}
		if again, _, message := parsePhone(p.country, p.country+p.national); message != "" || again != p {
			t.Errorf("%q %q is %+v, and that is %+v: %s", country, number, p, again, message)
		}
	})
}

// A time that is taken can be written, and is the same when it is read again.
func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-02-28T23:59:59Z", "2026-02-28T23:59:59.999999999-12:00", "2026-02-28T00:00:00", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := parseTime(s)
		if err != nil {
			return
		}
		again, err := parseTime(at.Format(time.RFC3339Nano))
		if err != nil || !again.Equal(at) || at.Location() != time.UTC {
			t.Errorf("%q is %v, and that is %v, %v", s, at, again, err)
		}
	})
}

// If-Match is a version as we write it, with or without its quotes, or all.
func FuzzIfMatch(f *testing.F) {
	for _, s := range []string{`"3"`, "3", "*", "", `W/"3"`, `"03"`, `""3""`, `"-1"`, `"9223372036854775808"`, ` "3" `} {
		f.Add(s, int64(3))
	}
	f.Fuzz(func(t *testing.T, header string, inBody int64) {
		r := httptest.NewRequest(http.MethodPut, "/", nil)
		r.Header["If-Match"] = []string{header}
		v, err := ifVersion(r, nil)
		if err == nil && v != nil && (*v < 1 || strings.Trim(strings.TrimSpace(header), `"`) != strings.Trim(etag(*v), `"`)) {
			t.Errorf("%q is version %d", header, *v)
		}
		if both, err := ifVersion(r, &inBody); err == nil && (both == nil || *both != inBody) {
			t.Errorf("%q beside %d is %v", header, inBody, both)
		}
	})
}

// An Idempotency-Key is taken as it is or not at all.
func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"key", "", " ", "a b", "\x00", "\xff", strings.Repeat("k", 256), "~!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header["Idempotency-Key"] = []string{key}
		once, err := idempotency(r, nil)
		if (err == nil) != (once != nil) || once != nil && (once.Key != key || key == "" || len(key) > 255 || !plainText(key)) {
			t.Errorf("%q is %+v, %v", key, once, err)
		}
	})
}

// Whatever Stripe puts into an event, it is a payment that can be recorded, none,
// or refused.
func FuzzStripePayment(f *testing.F) {
	for _, s := range []string{
		`{"id":"pi_1","object":"payment_intent","amount_received":95000,"currency":"aed","metadata":{"booking_id":"bkg_1"}}`,
		`{"id":"cs_1","object":"checkout.session","amount_total":95000,"currency":"aed","payment_status":"paid","payment_intent":"pi_1","metadata":{"booking_id":"bkg_1"}}`,
		`{"id":"cs_1","payment_status":"paid","payment_intent":{"id":""},"amount_total":1,"metadata":{"booking_id":"\u0000"}}`,
		`{"amount_received":-1,"metadata":{"booking_id":"b"}}`, `{"amount_received":1e400}`, `{"metadata":[]}`, `null`, `[]`, `"x"`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, kind := range []stripe.EventType{stripe.EventTypePaymentIntentSucceeded, stripe.EventTypeCheckoutSessionCompleted, "charge.refunded"} {
			p, err := stripeEvent(&stripe.Event{ID: "evt_1", Type: kind, Data: &stripe.EventData{Raw: json.RawMessage(raw)}})
			switch {
			case err != nil:
				if schemas.KindOf(err) != schemas.Malformed {
					t.Errorf("%s %q: %v", kind, raw, err)
				}
			case p != nil && (p.BookingID == "" || p.Payment.Amount <= 0 || p.Payment.Reference == "" || !plainText(string(p.BookingID)+p.Payment.Reference)):
				t.Errorf("%s %q is %+v", kind, raw, p)
			}
		}
	})
}
