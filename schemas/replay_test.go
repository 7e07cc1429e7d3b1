package schemas_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/schemas"
)

func TestARangeNarrowsAndNeverWidens(t *testing.T) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	event := func(change func(*schemas.Event)) *schemas.Event {
		e := &schemas.Event{ID: "evt_1", Type: schemas.BookingCreated, OccurredAt: noon, HostWebhooks: true, Booking: schemas.Booking{ID: "bkg_1", AgentID: "agent_1"}}
		change(e)
		return e
	}
	same := func(*schemas.Event) {}
	before, after := noon.Add(-time.Second), noon.Add(time.Second)
	named := schemas.ReplayRange{BookingID: "bkg_1", DeliveryID: schemas.DeliveryFor("evt_1", "sub_1")}
	for name, c := range map[string]struct {
		r      schemas.ReplayRange
		change func(*schemas.Event)
		want   bool
	}{
		"everything":                         {schemas.ReplayRange{}, same, true},
		"since the very moment":              {schemas.ReplayRange{Since: &noon}, same, true},
		"since later":                        {schemas.ReplayRange{Since: &after}, same, false},
		"until the very moment":              {schemas.ReplayRange{Until: &noon}, same, false},
		"until later":                        {schemas.ReplayRange{Since: &before, Until: &after}, same, true},
		"its booking":                        {schemas.ReplayRange{BookingID: "bkg_1"}, same, true},
		"another booking":                    {schemas.ReplayRange{BookingID: "bkg_2"}, same, false},
		"its type":                           {schemas.ReplayRange{EventTypes: []schemas.EventType{schemas.BookingCreated}}, same, true},
		"another type":                       {schemas.ReplayRange{EventTypes: []schemas.EventType{schemas.BookingConfirmed}}, same, false},
		"a type that nobody asks for":        {schemas.ReplayRange{EventTypes: []schemas.EventType{schemas.BookingNoShow}}, func(e *schemas.Event) { e.Type = schemas.BookingNoShow }, false},
		"another agent's":                    {schemas.ReplayRange{}, func(e *schemas.Event) { e.Booking.AgentID = "agent_2" }, false},
		"webhooks switched off":              {schemas.ReplayRange{}, func(e *schemas.Event) { e.HostWebhooks = false }, false},
		"its delivery":                       {named, same, true},
		"its delivery, not asked for now":    {named, func(e *schemas.Event) { e.Type = schemas.BookingNoShow }, true},
		"another delivery of the booking":    {named, func(e *schemas.Event) { e.ID = "evt_2" }, false},
		"its delivery, which it may not see": {named, func(e *schemas.Event) { e.Booking.AgentID = "agent_2" }, false},
	} {
		s := &schemas.Subscription{ID: "sub_1", AgentID: "agent_1", Events: []schemas.EventType{schemas.BookingCreated, schemas.BookingConfirmed}}
		if got := c.r.Matches(event(c.change), s); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestProgressSettlesWhatHasEnded(t *testing.T) {
	p := schemas.ReplayProgress{Produced: 4, Waiting: []schemas.DeliveryID{"a", "b", "c"}, Ended: map[schemas.Outcome]int64{schemas.Delivered: 1}}
	former := p
	p.Settle(map[schemas.DeliveryID]schemas.Outcome{"a": schemas.Delivered, "c": schemas.Dead, "stranger": schemas.Dead})
	want := schemas.ReplayProgress{Produced: 4, Waiting: []schemas.DeliveryID{"b"}, Ended: map[schemas.Outcome]int64{schemas.Delivered: 2, schemas.Dead: 1}}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
	if len(former.Waiting) != 3 || former.Ended[schemas.Delivered] != 1 { // a save that fails must have changed nothing
		t.Errorf("the former became %+v", former)
	}
}
