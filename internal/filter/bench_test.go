package filter_test

import (
	"strings"
	"testing"

	"github.com/krib-ai/krib/internal/filter"
	"github.com/krib-ai/krib/schemas"
)

// What a filter adds to an event, beside what a subscription without one costs:
// the question whether its agent and the type match.
func BenchmarkMatches(b *testing.B) {
	e := paid()
	b.Run("none", func(b *testing.B) {
		s := &schemas.Subscription{AgentID: "agent_1", Events: schemas.SubscribableEvents()}
		b.ReportAllocs()
		for b.Loop() {
			if !s.Matches("agent_1", e.Type) {
				b.Fatal("no match")
			}
		}
	})
	for name, text := range map[string]string{
		"type":    `event.type == 'payment.received'`,
		"three":   `booking.total_amount >= 900 && booking.property.city == 'Dubai' && event.type in ['booking.created', 'payment.received']`,
		"loop":    `event.changed.exists(c, c == 'status')`,
		"pattern": `booking.guest.email.matches('@example[.](com|org)$')`,
		"dearest": strings.Repeat(`booking.special_requests.matches('(a|b|c)*d(e|f|g)*h') || `, 15) + `true`,
	} {
		f := compile(b, text)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := f.Matches(b.Context(), e); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := filter.Compile(`booking.total_amount >= 900 && booking.property.city == 'Dubai'`); err != nil {
			b.Fatal(err)
		}
	}
}
