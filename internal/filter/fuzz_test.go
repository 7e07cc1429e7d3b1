package filter_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/krib-ai/krib/internal/filter"
)

// Whatever an agent sends as a filter: it is refused with a place that is in it,
// or it can be evaluated, with the same answer each time.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		"", "true", "booking.total_amount == 950", "'status' in event.changed", "booking.guest.email.matches('@x{3}')", "1/0 == 1",
		"event.changed.exists(c, c == booking.id)", "event.occurred_at.getHours('+05:30') > 1", "event.changed[-1] == '' || [1][3] == booking.guests", "has(event.payment) ? event.payment.amount > 1.0 : false", "booking.id +\n 'é' == ''",
		"event.occurred_at > timestamp('2026-01-01T00:00:00Z')", "b'\\xff' == b''", "{'a': [1]}['a'][0] == 1u", "r'\\d' == \"\"\"x\"\"\"", "\x00\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		compiled, err := filter.Compile(text)
		if err != nil {
			e, ok := errors.AsType[*filter.Error](err)
			lines := strings.Split(text, "\n")
			if !ok || e.Message == "" || e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > utf8.RuneCountInString(lines[e.Line-1])+1 {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		first, firstErr := compiled.Matches(t.Context(), paid())
		if again, err := compiled.Matches(t.Context(), paid()); again != first || (err == nil) != (firstErr == nil) {
			t.Errorf("%v, %v and then %v, %v", first, firstErr, again, err)
		}
		_, _ = compiled.Matches(t.Context(), bare())
	})
}
