package fanout

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

// emptyTable is one that nobody feeds but the test.
func emptyTable() *table {
	log := slog.New(slog.DiscardHandler)
	return &table{
		log: log, filters: newFilters(log),
		byID: map[schemas.SubscriptionID]*schemas.Subscription{}, byAgent: map[schemas.AgentID][]subscriber{},
	}
}

func (t *table) applyText(tb testing.TB, id, filter string) {
	tb.Helper()
	s := schemas.Subscription{ID: schemas.SubscriptionID(id), AgentID: "agent_1", Filter: filter, Events: []schemas.EventType{schemas.BookingCreated}}
	v, err := schemas.Encode(s)
	if err != nil {
		tb.Fatal(err)
	}
	t.apply(&kgo.Record{Key: []byte(id), Value: v})
}

// What the table holds of filters is bounded by its subscriptions, however often
// they change.
func TestAFilterIsKeptAsLongAsASubscriptionHasIt(t *testing.T) {
	t.Parallel()
	table := emptyTable()
	texts := func() int { return len(table.filters.byText) }
	table.applyText(t, "sub_1", "booking.guests == 1")
	table.applyText(t, "sub_2", "booking.guests == 1")
	first := table.byAgent["agent_1"][0].filter
	if texts() != 1 || first == nil || table.byAgent["agent_1"][1].filter != first {
		t.Fatalf("%d filters, want one of both", texts())
	}
	table.applyText(t, "sub_1", "booking.guests == 1") // replaced by the same
	if got := table.byAgent["agent_1"][1].filter; got != first {
		t.Error("the same text was compiled again")
	}
	for i := range 100 {
		table.applyText(t, "sub_1", fmt.Sprintf("booking.guests == %d", i%3+2))
	}
	if texts() != 2 {
		t.Errorf("%d filters, want 2", texts())
	}
	table.applyText(t, "sub_1", "no such thing")
	table.applyText(t, "sub_1", "")
	table.apply(&kgo.Record{Key: []byte("sub_2")})
	if texts() != 0 {
		t.Errorf("%d filters are left", texts())
	}
}

// An event of many subscriptions that have a few filters among them, and of as
// many that have none.
func BenchmarkWanted(b *testing.B) {
	e := &schemas.Event{Type: schemas.BookingCreated, Booking: schemas.Booking{Guests: 2, AgentID: "agent_1"}}
	for _, distinct := range []int{0, 1, 10, 100} {
		table := emptyTable()
		for i := range 100 {
			text := ""
			if distinct > 0 {
				text = fmt.Sprintf("booking.guests >= 1 && booking.id != '%d'", i%distinct)
			}
			table.applyText(b, fmt.Sprintf("sub_%03d", i), text)
		}
		b.Run(fmt.Sprintf("100 subscriptions, %d filters", distinct), func(b *testing.B) {
			for b.Loop() {
				if subs, asked := newBudget().wanted(table.matching("agent_1", e.Type), e); len(subs) != 100 || asked.evaluations != distinct {
					b.Fatal(len(subs), asked)
				}
			}
		})
	}
}
