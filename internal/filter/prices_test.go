package filter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// A function that a later version of the library brings, or that was forgotten,
// would cost a filter nothing.
func TestEveryFunctionOfTheLanguageHasAPrice(t *testing.T) {
	t.Parallel()
	priced := map[string]bool{}
	for _, ids := range library {
		for id := range ids {
			priced[id] = true
		}
	}
	for _, f := range timeParts {
		priced[f.zoned] = true
	}
	n := 0
	for name, f := range language().Functions() {
		for _, o := range f.OverloadDecls() {
			n++
			own := strings.Contains(o.ID(), "_equals_") && !strings.HasPrefix(o.ID(), "less_") && !strings.HasPrefix(o.ID(), "greater_")
			if !priced[o.ID()] && !own && !strings.Contains(o.ID(), "_differs_from_") && !strings.Contains(o.ID(), "_in_") {
				t.Errorf("%s has an overload without a price: %s%v", name, o.ID(), o.ArgTypes())
			}
		}
	}
	if n < 100 {
		t.Errorf("the language has %d overloads; the test looks at the wrong ones", n)
	}
}

// longest is an event with the longest texts that the API takes, in characters that
// have four bytes.
func longest() *schemas.Event {
	at := time.Date(2026, 5, 1, 20, 30, 0, 0, time.UTC)
	text := strings.Repeat("𝛀", maxText)
	e := &schemas.Event{ID: "evt_1", Type: schemas.BookingCreated, OccurredAt: at, Booking: schemas.Booking{
		SpecialRequests: text, Guests: 2, Nights: 3, CheckIn: "2026-06-01", CreatedAt: at, TotalAmount: 95000,
		Property: schemas.PropertyRef{Title: text, Address: text}, Guest: schemas.Guest{FirstName: text, Email: strings.Repeat("a", 254)},
	}}
	for i := range maxChanged {
		e.Changed = append(e.Changed, fmt.Sprintf("member_%d", i))
	}
	return e
}

// dearest repeats an expression in a loop over numbers for as long as the filter is
// accepted, first in the loop's length and then in its body.
func dearest(expression string) (text string, steps int) {
	for _, body := range []int{1, 2, 4, 8, 16} {
		for n := 900; n > 0; n = n * 3 / 4 {
			list := "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]"
			candidate := list + ".exists(i, " + strings.TrimSuffix(strings.Repeat("("+expression+") || ", body), " || ") + ")"
			if _, err := Compile(candidate); err == nil {
				if n*body > steps {
					text, steps = candidate, n*body
				}
				break
			}
		}
	}
	return text, steps
}

// What each function costs at its dearest: no filter that is accepted may take more
// than about a millisecond.
func BenchmarkFunctions(b *testing.B) {
	for _, expression := range []string{
		`event.occurred_at.getHours('Asia/Dubai') > 99`, `event.occurred_at.getDayOfYear('America/St_Johns') > 999`, `event.occurred_at.getFullYear() < 0`,
		`event.occurred_at + duration('1h') < booking.created_at`, `string(event.occurred_at) == ''`, `string(booking.total_amount) == ''`, `string(event.occurred_at - booking.created_at) == 'x'`,
		`int(booking.guest.first_name) == 1`, `double(booking.guest.email) == 1.0`, `timestamp(booking.check_in) < event.occurred_at`, `duration(booking.id) == duration('1s')`, `bool(booking.special_requests)`,
		`booking.special_requests.contains('𝛀𝛀𝛀𝛀x')`, `booking.special_requests.contains(booking.property.title + 'x')`, `booking.special_requests == booking.property.title + 'x'`,
		`booking.special_requests < booking.property.title + 'x' && i > booking.nights`, `booking.special_requests.startsWith(booking.property.title) && i > booking.nights`, `size(booking.special_requests) == i`,
		`i / (booking.guests - 2) == 1`, `i % (booking.guests - 2) == 1`, `event.changed[i + 99] == ''`, `booking.guests * 9223372036854775807 == 1`,
		`'x' in event.changed`, `booking.nights in [4,4,4,5,6,7,8,9,10,11,12,13,14,15]`, `i in [booking.guests, 3,4,5,6,7,8,9,10,11,12,13]`, `event.changed == ['x']`, `event.actor == event.actor && i > booking.nights`,
		`booking == booking && i > booking.nights`, `false || false || false || false || false || i > booking.nights`, `i > booking.nights ? true : i > booking.nights + 1`, `!(!(i > booking.nights))`, `has(event.payment) || event.payment.amount > 1`, `booking.confirmed_at > event.occurred_at`,
		`booking.guest.email.matches('a+b')`, `booking.special_requests.matches('(𝛀|x)*y')`,
	} {
		text, n := dearest(expression)
		if n == 0 {
			b.Errorf("%s is refused once in a loop of one", expression)
			continue
		}
		f, err := Compile(text)
		if err != nil {
			b.Fatal(err)
		}
		e := longest()
		b.Run(expression, func(b *testing.B) {
			for b.Loop() {
				_, _ = f.Matches(b.Context(), e)
			}
			b.ReportMetric(float64(n), "times")
		})
	}
	for _, pattern := range []string{`(𝛀|x)*y`, `[^@]+@example[.]com`, `^(𝛀?){40}$`, `(a|𝛀𝛀|x)+(b|c)$`, `.*.*.*x`} {
		text := ""
		for n := 1; ; n++ {
			next := strings.TrimSuffix(strings.Repeat("booking.special_requests.matches('"+pattern+"') || ", n), " || ")
			if _, err := Compile(next); err != nil {
				break
			}
			text = next
		}
		if text == "" {
			continue // refused alone
		}
		f, err := Compile(text)
		if err != nil {
			b.Fatal(err)
		}
		e := longest()
		b.Run("patterns "+pattern, func(b *testing.B) {
			for b.Loop() {
				_, _ = f.Matches(b.Context(), e)
			}
			b.ReportMetric(float64(strings.Count(text, "matches")), "times")
		})
	}
}
