package audit

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/filter"
	"github.com/krib-ai/krib/schemas"
)

// A hash stands for an id: ids are text of any length.
type hash [16]byte

func hashOf[T ~string](id T) hash {
	h := sha256.Sum256([]byte(id))
	return hash(h[:16])
}

// A subscription is the last state that the topic has of it.
type subscription struct {
	schemas.Subscription

	changed time.Time // when that state came onto the topic
	deleted bool
	line    Line
}

// An event is one of the window.
type event struct {
	id    schemas.EventID
	kind  schemas.EventType
	at    time.Time // when it came onto the topic
	taken bool      // fan-out has committed it, or has committed nothing of its partition
}

// A want is a delivery that an event had to make, as far as the subscription's last
// state says.
type want struct {
	event, sub int32
	// sure says that fan-out had that state when it took the event.
	sure     bool
	filtered bool // the subscription's filter says no
}

func (a *auditor) readSubscriptions(ctx context.Context) error {
	err := a.read(ctx, string(schemas.Subscriptions), time.Time{}, func(r *kgo.Record) error {
		id := schemas.SubscriptionID(r.Key)
		var s schemas.Subscription
		if len(r.Value) > 0 {
			var err error
			if s, err = schemas.Decode[schemas.Subscription](r.Value); err != nil {
				return err
			}
		}
		s.ID = id
		at := a.sub(id, s.AgentID)
		a.subs[at].Subscription, a.subs[at].changed, a.subs[at].deleted = s, r.Timestamp, len(r.Value) == 0
		return nil
	})
	for i, s := range a.subs {
		switch {
		case s.deleted || a.o.Subscription != "" && s.ID != a.o.Subscription:
		case s.Platform:
			a.platform = append(a.platform, int32(i))
		default:
			a.byAgent[s.AgentID] = append(a.byAgent[s.AgentID], int32(i))
		}
	}
	return err
}

// sub is the place of a subscription, which may be known by its deliveries alone.
func (a *auditor) sub(id schemas.SubscriptionID, agent schemas.AgentID) int32 {
	at, ok := a.bySub[id]
	if !ok {
		at = int32(len(a.subs))
		a.bySub[id] = at
		a.subs = append(a.subs, &subscription{})
	}
	l := &a.subs[at].line
	l.Subscription = id
	if l.Agent == "" { // its owner never changes, and a tombstone does not say
		l.Agent = agent
	}
	return at
}

// want notes the deliveries that an event had to make. Whether the subscription was
// disabled does not matter: then the delivery was made and withheld.
func (a *auditor) want(e *schemas.Event, r *kgo.Record) {
	id := hashOf(e.ID)
	if _, again := a.byEvent[id]; again {
		return
	}
	at := int32(len(a.events))
	a.byEvent[id] = at
	reached, known := a.taken.Reached(r)
	a.events = append(a.events, event{e.ID, e.Type, r.Timestamp, reached || !known})
	for _, group := range [][]int32{a.byAgent[e.Booking.AgentID], a.platform} {
		for _, i := range group {
			s := a.subs[i]
			if !s.Matches(e.Booking.AgentID, e.Type) {
				continue
			}
			w := &want{event: at, sub: i, sure: r.Timestamp.After(s.changed.Add(settle)), filtered: !a.passes(s, e)}
			a.wanted[hashOf(schemas.DeliveryFor(e.ID, s.ID))] = w
		}
	}
}

// passes says what the subscription's filter says of an event. One that cannot be
// evaluated, or does not compile, lets everything through, as it does in fan-out.
func (a *auditor) passes(s *subscription, e *schemas.Event) bool {
	if s.Filter == "" {
		return true
	}
	f, known := a.filters[s.Filter]
	if !known {
		if compiled, err := filter.Load(s.Filter); err == nil {
			f = compiled
		}
		a.filters[s.Filter] = f
	}
	if f == nil {
		return true
	}
	yes, err := f.Matches(context.Background(), e)
	return yes || err != nil
}
