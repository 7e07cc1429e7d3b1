package audit

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

// A trail is what the topics say of one delivery of run 0. A record that is there
// twice, as after a crash, changes nothing.
type trail struct {
	event, sub int32
	ended      schemas.Outcome // empty while no attempt has ended it
	dead       bool            // it is on webhook.dead
	tried      bool            // there is an attempt
	// hop is that of its latest record; taken says that the record's group is beyond
	// every copy of it.
	hop   int
	there bool // there is such a record
	taken bool
	where string // its topic
}

// find is the trail of a delivery of one of the window's events, or nil. Runs other
// than the event's own are not accounted for; tests and what operators are told
// have events of their own that are not on booking.events.
func (a *auditor) find(id schemas.DeliveryID, e schemas.EventID, s schemas.SubscriptionID, agent schemas.AgentID, run int64) *trail {
	at, ok := a.byEvent[hashOf(e)]
	if !ok || run != 0 || a.o.Subscription != "" && s != a.o.Subscription {
		return nil
	}
	key := hashOf(id)
	t := a.trails[key]
	if t == nil {
		t = &trail{event: at, sub: a.sub(s, agent), hop: -1}
		a.trails[key] = t
	}
	return t
}

// hop takes a record of webhook.deliveries, of a tier or of webhook.dead.
func (a *auditor) hop(r *kgo.Record) error {
	d, err := schemas.Decode[schemas.Delivery](r.Value)
	if err == nil && (d.ID == "" || d.SubscriptionID == "" || d.EventID == "") {
		err = errIncomplete
	}
	if err != nil {
		return err
	}
	t := a.find(d.ID, d.EventID, d.SubscriptionID, d.AgentID, d.Run)
	switch {
	case t == nil:
	case r.Topic == string(schemas.DeadLetters):
		t.dead = true
	case d.Hop > t.hop:
		t.hop, t.there, t.where = d.Hop, true, r.Topic
		t.taken, _ = a.taken.Reached(r)
	case d.Hop == t.hop:
		reached, _ := a.taken.Reached(r)
		t.taken = t.taken && reached
	}
	return nil
}

func (a *auditor) attempt(r *kgo.Record) error {
	at, err := schemas.Decode[schemas.Attempt](r.Value)
	if err == nil && (at.DeliveryID == "" || at.SubscriptionID == "" || at.EventID == "") {
		err = errIncomplete
	}
	if err != nil {
		return err
	}
	t := a.find(at.DeliveryID, at.EventID, at.SubscriptionID, at.AgentID, at.Run)
	if t == nil {
		return nil
	}
	t.tried = true
	// One success is one for good, whatever a repeat after a crash came to.
	if at.Outcome == schemas.Delivered || at.Final && t.ended != schemas.Delivered {
		t.ended = at.Outcome
		if at.Outcome == schemas.Gone && at.ErrorClass == schemas.ErrorNone {
			t.ended = schemas.Delivered // taken, and the last one that was wanted
		}
	}
	return nil
}
