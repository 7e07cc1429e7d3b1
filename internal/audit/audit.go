// Package audit proves from the topics alone that nothing was lost on the way from
// booking.events to the endpoints: of the deliveries that the events of a window
// had to make, each is delivered, waiting, dead, withheld or superseded, was kept
// from being made by its subscription's filter, or is missing and is named.
//
// It reads each topic once, up to ends that it took at its start, and holds an
// event and a delivery of the window in a few dozen bytes each; payloads are not
// kept. It writes nothing and is in no group.
//
// What it takes for the truth are offsets. First it asks how far the groups have
// come, and only then where the topics end: so the effects of whatever a group has
// committed lie before those ends. A delivery whose latest record was taken by its
// group, with neither an attempt that ended it nor a next record, is lost; one
// whose record is still ahead of the group waits.
package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/filter"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// Options of Run. Kafka, Since, Until and the groups are required.
type Options struct {
	Kafka kafka.Config
	// Since and Until bound the events, by when they came onto the topic. Since
	// belongs to the window and Until does not.
	Since, Until time.Time
	// Subscription narrows it to one; empty for all.
	Subscription schemas.SubscriptionID
	// Grace is the age up to which an event without its delivery is on its way and
	// not missing.
	Grace time.Duration
	// The consumer groups that read booking.events, webhook.deliveries and the tiers.
	FanoutGroup, DeliverGroup, RetryGroup string
	// Outbox counts what waits in the database for the relay. Without it the account
	// begins at the topics, and its verdict says so.
	Outbox func(context.Context) (Outbox, error)
}

// An Outbox is what was accepted and is on no topic.
type Outbox struct {
	Rows     int           `json:"rows"` // counted to a bound
	Age      time.Duration `json:"-"`    // of the oldest
	Oldest   float64       `json:"oldest_seconds"`
	SetAside int           `json:"set_aside"` // rows that Kafka refused for good
}

// A Line is the account of one subscription. Matched is the sum of those up to
// Missing. Unknown counts the events of which cannot be said whether they had to
// make a delivery: they came before the subscription's last change, whose earlier
// states the topic does not keep, or their records are older than the topics.
type Line struct {
	Subscription schemas.SubscriptionID `json:"subscription_id"`
	Agent        schemas.AgentID        `json:"agent_id"`
	Matched      int                    `json:"matched"`
	Filtered     int                    `json:"filtered"`
	Delivered    int                    `json:"delivered"`
	Waiting      int                    `json:"waiting"`
	Dead         int                    `json:"dead"`
	Withheld     int                    `json:"withheld"`
	Superseded   int                    `json:"superseded"`
	InFlight     int                    `json:"in_flight"`
	Missing      int                    `json:"missing"`
	Unknown      int                    `json:"unknown"`
}

// A Missing delivery should be there and is not.
type Missing struct {
	Event        schemas.EventID        `json:"event_id"`
	Type         schemas.EventType      `json:"event_type"`
	At           time.Time              `json:"at"`
	Subscription schemas.SubscriptionID `json:"subscription_id"`
	Delivery     schemas.DeliveryID     `json:"delivery_id"`
	Why          string                 `json:"why"`
}

// A Report is the account of a window. Notes say what limits it.
type Report struct {
	Since         time.Time `json:"since"`
	Until         time.Time `json:"until"`
	Events        int       `json:"events"`
	Subscriptions []Line    `json:"subscriptions"`
	Missing       []Missing `json:"missing"`
	Notes         []string  `json:"notes"`
	Outbox        *Outbox   `json:"outbox"` // nil where it was not counted
	// Complete is whether everything that was accepted is accounted for, and Verdict the
	// same as a sentence.
	Complete bool   `json:"complete"`
	Verdict  string `json:"verdict"`

	grace time.Duration
}

// settle is how long after a subscription's change an event may have been matched
// by the state before it: the clocks of two relays may differ.
const settle = time.Second

// clockSkew is how far the clocks of a topic's writers may be apart.
const clockSkew = 30 * time.Second

// An auditor is one run.
type auditor struct {
	o       Options
	scan    *kafka.Scanner
	began   time.Time
	taken   kafka.Offsets // by the groups
	ends    map[string]kafka.Offsets
	tiers   []string
	kept    time.Duration // how long deliveries are on their topic
	spoiled map[string]int

	filters  map[string]*filter.Filter // compiled; nil for what does not
	subs     []*subscription
	bySub    map[schemas.SubscriptionID]int32
	byAgent  map[schemas.AgentID][]int32
	platform []int32

	events  []event
	byEvent map[hash]int32
	wanted  map[hash]*want
	trails  map[hash]*trail
}

// Run makes the account.
func Run(ctx context.Context, o Options) (*Report, error) {
	scan, err := kafka.NewScanner(o.Kafka)
	if err != nil {
		return nil, err
	}
	defer scan.Close()
	a := &auditor{
		o: o, scan: scan, began: time.Now(), taken: kafka.Offsets{}, ends: map[string]kafka.Offsets{}, spoiled: map[string]int{}, filters: map[string]*filter.Filter{},
		bySub: map[schemas.SubscriptionID]int32{}, byAgent: map[schemas.AgentID][]int32{},
		byEvent: map[hash]int32{}, wanted: map[hash]*want{}, trails: map[hash]*trail{},
	}
	waiting, err := o.outbox(ctx)
	if err != nil {
		return nil, err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"asking for positions", a.positions}, {"reading subscriptions", a.readSubscriptions}, {"reading events", a.readEvents}, {"reading deliveries", a.readTrails},
	} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	r := a.report()
	r.Outbox, r.grace = waiting, o.Grace
	err = a.limits(ctx, r)
	r.Complete, r.Verdict = r.Problem() == "", r.verdict()
	return r, err
}

// outbox is counted first: what is published while the topics are read lies behind
// their ends, and is in flight either way.
func (o *Options) outbox(ctx context.Context) (*Outbox, error) {
	if o.Outbox == nil {
		return nil, nil
	}
	found, err := o.Outbox(ctx)
	found.Oldest = found.Age.Seconds()
	return &found, err
}

// positions asks for the groups' first and for the ends in the direction of the
// flow: what was written from a record that lies before one topic's end lies
// before the next one's.
func (a *auditor) positions(ctx context.Context) (err error) {
	a.tiers, err = a.scan.Topics(ctx, func(name string) bool { _, ok := schemas.TierOf(name); return ok })
	if err != nil {
		return err
	}
	for _, g := range []struct {
		group  string
		topics []string
	}{
		{a.o.FanoutGroup, []string{string(schemas.BookingEvents)}}, {a.o.DeliverGroup, []string{string(schemas.Deliveries)}}, {a.o.RetryGroup, a.tiers},
	} {
		at, err := a.scan.Commits(ctx, g.group, g.topics...)
		if err != nil {
			return err
		}
		maps.Copy(a.taken, at)
	}
	flow := [][]string{
		{string(schemas.BookingEvents)}, {string(schemas.Subscriptions)}, {string(schemas.Deliveries)}, a.tiers, {string(schemas.DeadLetters)}, {string(schemas.Attempts)},
	}
	for _, topics := range flow {
		ends, err := a.scan.Ends(ctx, topics...)
		if err != nil {
			return err
		}
		for _, t := range topics {
			a.ends[t] = kafka.Offsets{t: ends[t]}
		}
	}
	limit, limited, err := a.scan.Setting(ctx, string(schemas.Deliveries), "retention.ms")
	if limited {
		a.kept = limit
	}
	return err
}

func (a *auditor) read(ctx context.Context, topic string, since time.Time, each func(*kgo.Record) error) error {
	return a.scan.Read(ctx, since, a.ends[topic], func(r *kgo.Record) {
		if err := each(r); err != nil {
			a.spoiled[topic]++
		}
	})
}

var errIncomplete = errors.New("a record without its ids")

func (a *auditor) readEvents(ctx context.Context) error {
	return a.read(ctx, string(schemas.BookingEvents), a.o.Since, func(r *kgo.Record) error {
		if !r.Timestamp.Before(a.o.Until) {
			return nil
		}
		e, err := schemas.Decode[schemas.Event](r.Value)
		if err == nil && (e.ID == "" || e.Type == "" || e.Booking.ID == "") {
			err = errIncomplete
		}
		if err != nil || !e.HostWebhooks { // the host's switch: the event makes no deliveries
			return err
		}
		a.want(&e, r)
		return nil
	})
}

// readTrails reads what became of deliveries. They are written after their events,
// so nothing from before the window matters.
func (a *auditor) readTrails(ctx context.Context) error {
	since := a.o.Since.Add(-clockSkew)
	for _, topic := range append([]string{string(schemas.Deliveries), string(schemas.DeadLetters)}, a.tiers...) {
		if err := a.read(ctx, topic, since, a.hop); err != nil {
			return err
		}
	}
	return a.read(ctx, string(schemas.Attempts), since, a.attempt)
}
