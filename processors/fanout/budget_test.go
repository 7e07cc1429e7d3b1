package fanout

import (
	"fmt"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// A bench is a budget with clocks of the test: each evaluation takes `each`.
type bench struct {
	*budget
	wall time.Time
	each time.Duration
	work time.Duration
	// tables are those of the agents, which compile their filters once.
	tables map[string]*table
}

func newBench(each time.Duration) *bench {
	b := &bench{budget: newBudget(), wall: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), each: each, tables: map[string]*table{}}
	b.now = func() time.Time { return b.wall }
	half := false
	b.took = func() time.Duration {
		if half {
			b.work += b.each
		}
		half = !half
		return b.work
	}
	return b
}

// table has so many subscriptions of an agent, each with a filter of its own.
func (b *bench) table(id schemas.AgentID, filters int) *table {
	key := fmt.Sprint(id, filters)
	if b.tables[key] == nil {
		table := emptyTable()
		for n := range filters {
			s := schemas.Subscription{ID: schemas.SubscriptionID(fmt.Sprintf("sub_%03d", n)), AgentID: id, Filter: fmt.Sprintf("booking.guests == %d", n), Events: []schemas.EventType{schemas.BookingCreated}}
			table.put(s.ID, subscriber{Subscription: &s, filter: table.filters.take(&s)})
		}
		b.tables[key] = table
	}
	return b.tables[key]
}

// batch fans one event of each agent out and returns, by agent, how many filters
// were not asked.
func (b *bench) batch(t *testing.T, agents, filters int) (notAsked []int) {
	t.Helper()
	b.begin()
	defer b.end()
	for i := range agents {
		id := schemas.AgentID(fmt.Sprintf("agent_%02d", i))
		table := b.table(id, filters)
		e := &schemas.Event{Type: schemas.BookingCreated, Booking: schemas.Booking{Guests: -1, AgentID: id}}
		out, a := b.wanted(table.matching(id, e.Type), e)
		flagged := 0
		for _, s := range out {
			if s.notAsked {
				flagged++
			}
		}
		if flagged != a.notAsked || len(out) != a.notAsked || a.evaluations+a.notAsked != filters || a.filtered != a.evaluations {
			t.Fatalf("%d delivered, %d of them marked, of %+v", len(out), flagged, a)
		}
		notAsked = append(notAsked, a.notAsked)
	}
	return notAsked
}

func TestFiltersOfOneEventHaveTwoMillisecondsOfAnAgent(t *testing.T) {
	t.Parallel()
	for each, want := range map[time.Duration]int{
		5 * time.Microsecond: 0, 20 * time.Microsecond: 0, 100 * time.Microsecond: 80, 600 * time.Microsecond: 96, 300 * time.Millisecond: 99,
	} {
		if got := newBench(each).batch(t, 1, 100)[0]; got != want {
			t.Errorf("at %s each, %d of 100 filters are not asked, want %d", each, got, want)
		}
	}
}

// What the filters of many agents take together is bounded as well: it is the time
// by which they delay the events of others.
func TestFiltersOfFortyAgentsTakeTheirShareOfTheTime(t *testing.T) {
	t.Parallel()
	b := newBench(500 * time.Microsecond)
	b.batch(t, 40, 100) // fills the debts
	before, began := b.work, b.wall
	for range 1_000 {
		b.wall = b.wall.Add(5 * time.Millisecond)
		worked := b.work
		b.batch(t, 40, 100)
		if took := b.work - worked; took > 2*maxDebt {
			t.Fatalf("one batch's filters took %s", took)
		}
	}
	if part := float64(b.work-before) / float64(b.wall.Sub(began)); part > share*1.1 {
		t.Errorf("filters took %.0f%% of the time", 100*part)
	}
}

func TestAnAgentWhoseFiltersAreCheapIsAskedBesideThoseWhoseFiltersAreNot(t *testing.T) {
	t.Parallel()
	b := newBench(600 * time.Microsecond)
	for range 50 {
		b.wall = b.wall.Add(5 * time.Millisecond)
		b.each = 600 * time.Microsecond
		b.batch(t, 39, 100)
		b.each = 3 * time.Microsecond
		b.begin()
		s := schemas.Subscription{ID: "sub_other", AgentID: "agent_other", Filter: "booking.guests == 2", Events: []schemas.EventType{schemas.BookingCreated}}
		table := emptyTable()
		out, a := b.wanted([]subscriber{{Subscription: &s, filter: table.filters.take(&s)}}, &schemas.Event{Type: schemas.BookingCreated})
		b.end()
		if len(out) != 0 || a.notAsked != 0 || a.filtered != 1 {
			t.Fatalf("the other agent's filter: %d delivered, %+v", len(out), a)
		}
	}
	b.wall = b.wall.Add(time.Hour)
	if b.begin(); len(b.debts) != 0 {
		t.Errorf("%d agents are remembered an hour later", len(b.debts))
	}
	b.end()
}
