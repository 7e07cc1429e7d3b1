package audit_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/audit"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const tier = time.Minute

// A world is a log that a test writes record by record, from 50 minutes ago on.
type world struct {
	*testenv.Cluster
	t   *testing.T
	at  time.Time // of the events
	now int       // seconds that have passed since
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{Cluster: testenv.Topics(t, schemas.Ladder{tier}), t: t, at: time.Now().UTC().Truncate(time.Second).Add(-50 * time.Minute)}
}

// write puts a record on a topic, a second after the one before.
func (w *world) write(topic, key string, meta schemas.Meta, v any) *kgo.Record {
	w.t.Helper()
	r, err := kafka.Encode(topic, key, meta, v)
	if err != nil {
		w.t.Fatal(err)
	}
	w.now++
	r.Timestamp = w.at.Add(time.Duration(w.now) * time.Second)
	w.ProduceRecord(w.t, r)
	return r
}

// subscribe makes a subscription of agent_1 to what is created.
func (w *world) subscribe(id schemas.SubscriptionID, change ...func(*schemas.Subscription)) *schemas.Subscription {
	w.t.Helper()
	s := &schemas.Subscription{
		ID: id, Version: 1, AgentID: "agent_1", URL: "https://example.com/", Events: []schemas.EventType{schemas.BookingCreated}, Active: true,
		EnabledAt: w.at, CreatedAt: w.at, UpdatedAt: w.at, Secrets: []schemas.SealedSecret{},
	}
	for _, c := range change {
		c(s)
	}
	w.write(string(schemas.Subscriptions), string(id), s.Meta(), s)
	w.now++ // what comes within a second may have been matched by the state before
	return s
}

func (w *world) happen(id schemas.EventID, change ...func(*schemas.Event)) *schemas.Event {
	w.t.Helper()
	e := &schemas.Event{
		ID: id, Type: schemas.BookingCreated, Version: 1, OccurredAt: w.at, HostWebhooks: true, Changed: []string{},
		Booking: schemas.Booking{ID: schemas.BookingID("bkg_" + id), Version: 1, AgentID: "agent_1", HostID: "host_1", CheckIn: "2030-01-01", CheckOut: "2030-01-02"},
	}
	for _, c := range change {
		c(e)
	}
	w.write(string(schemas.BookingEvents), string(e.Booking.ID), e.Meta(), e)
	return e
}

// deliver puts a delivery's record with so many attempts and hops on a topic.
func (w *world) deliver(topic string, e *schemas.Event, s schemas.SubscriptionID, attempt, hop int) *kgo.Record {
	w.t.Helper()
	d := &schemas.Delivery{
		ID: schemas.DeliveryFor(e.ID, s), EventID: e.ID, EventType: e.Type, SubscriptionID: s, AgentID: "agent_1", BookingID: e.Booking.ID, Attempt: attempt,
		Hop: hop, Trigger: schemas.TriggerEvent, CreatedAt: e.OccurredAt, Payload: "{}",
	}
	return w.write(topic, string(s), d.Meta(w.at), d)
}

func (w *world) first(e *schemas.Event, s schemas.SubscriptionID) *kgo.Record {
	w.t.Helper()
	return w.deliver(string(schemas.Deliveries), e, s, 0, 0)
}

func (w *world) attempt(e *schemas.Event, s schemas.SubscriptionID, number int, o schemas.Outcome) {
	w.t.Helper()
	a := &schemas.Attempt{
		DeliveryID: schemas.DeliveryFor(e.ID, s), EventID: e.ID, EventType: e.Type, SubscriptionID: s, AgentID: "agent_1", Number: number, Trigger: schemas.TriggerEvent,
		StartedAt: w.at, Outcome: o, Final: o != schemas.Retry, DeliveryCreatedAt: w.at,
	}
	w.write(string(schemas.Attempts), string(s), a.Meta(), a)
}

// commit says that a group has taken everything that is on a topic up to and with
// the record.
func (w *world) commit(group string, r *kgo.Record) {
	w.t.Helper()
	o := kadm.Offsets{}
	o.AddOffset(r.Topic, r.Partition, r.Offset+1, -1)
	if err := kadm.NewClient(w.Client).CommitAllOffsets(w.t.Context(), group, o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) audit(change ...func(*audit.Options)) *audit.Report {
	w.t.Helper()
	o := audit.Options{
		Kafka: w.Config, Since: w.at.Add(-time.Minute), Until: time.Now(), Grace: time.Minute, FanoutGroup: "fanout", DeliverGroup: "deliver", RetryGroup: "retry",
	}
	for _, c := range change {
		c(&o)
	}
	r, err := audit.Run(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) want(got []audit.Line, want ...audit.Line) {
	w.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Error(diff)
	}
}

func TestEveryDeliveryOfAWholeLogIsAccountedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe("sub_1")
	w.subscribe("sub_chosen", func(s *schemas.Subscription) { s.Filter = "booking.guests > 2" })
	w.subscribe("sub_off", func(s *schemas.Subscription) { s.Active, s.Platform, s.AgentID = false, true, "agent_2" })
	w.subscribe("sub_other", func(s *schemas.Subscription) { s.Events = []schemas.EventType{schemas.PaymentReceived} })
	off := func(e *schemas.Event) {
		w.first(e, "sub_off")
		w.attempt(e, "sub_off", 1, schemas.Withheld)
	}
	for i, outcome := range []schemas.Outcome{schemas.Delivered, schemas.Withheld, schemas.Superseded} {
		e := w.happen(schemas.EventID(fmt.Sprintf("evt_%d", i)))
		for range 2 { // as after a crash
			w.first(e, "sub_1")
			w.attempt(e, "sub_1", 1, outcome)
		}
		off(e)
	}
	waits, climbs, parked, died := w.happen("evt_waits"), w.happen("evt_climbs"), w.happen("evt_parked"), w.happen("evt_died")
	for _, e := range []*schemas.Event{waits, climbs, parked, died} {
		w.first(e, "sub_1")
		off(e)
	}
	w.attempt(climbs, "sub_1", 1, schemas.Retry)
	w.deliver(schemas.TierTopic(tier), climbs, "sub_1", 1, 1)
	w.deliver(schemas.TierTopic(tier), parked, "sub_1", 0, 1)
	w.attempt(died, "sub_1", 1, schemas.Dead)
	w.deliver(string(schemas.DeadLetters), died, "sub_1", 1, 1)
	w.happen("evt_not_ours", func(e *schemas.Event) { e.HostWebhooks = false })
	off(w.happen("evt_foreign", func(e *schemas.Event) { e.Booking.AgentID = "agent_3" }))

	took := w.happen("evt_took", func(e *schemas.Event) { e.Booking.Guests = 3 })
	w.first(took, "sub_1")
	w.first(took, "sub_chosen")
	w.attempt(took, "sub_chosen", 1, schemas.Delivered)
	off(took)
	w.now = 2990 // ten seconds ago
	w.happen("evt_young")

	r := w.audit()
	w.want(r.Subscriptions,
		audit.Line{Subscription: "sub_1", Agent: "agent_1", Matched: 9, Delivered: 1, Waiting: 4, Dead: 1, Withheld: 1, Superseded: 1, InFlight: 1},
		audit.Line{Subscription: "sub_chosen", Agent: "agent_1", Matched: 9, Delivered: 1, Filtered: 8},
		audit.Line{Subscription: "sub_off", Agent: "agent_2", Matched: 10, Withheld: 9, InFlight: 1},
	)
	if len(r.Missing) > 0 || r.Problem() != "" || r.Events != 10 || len(r.Notes) > 0 {
		t.Errorf("%d events, missing %+v, notes %q", r.Events, r.Missing, r.Notes)
	}
	w.want(w.audit(func(o *audit.Options) { o.Subscription = "sub_chosen" }).Subscriptions,
		audit.Line{Subscription: "sub_chosen", Agent: "agent_1", Matched: 9, Delivered: 1, Filtered: 8})
}

func TestADeliveryThatWasNeverMadeIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe("sub_1")
	there := w.happen("evt_there")
	w.first(there, "sub_1")
	w.attempt(there, "sub_1", 1, schemas.Delivered)
	gone := w.happen("evt_gone")
	r := w.audit()
	w.want(r.Subscriptions, audit.Line{Subscription: "sub_1", Agent: "agent_1", Matched: 2, Delivered: 1, Missing: 1})
	if len(r.Missing) != 1 || r.Missing[0].Event != gone.ID || r.Missing[0].Subscription != "sub_1" || r.Missing[0].Delivery != schemas.DeliveryFor(gone.ID, "sub_1") ||
		!strings.Contains(r.Missing[0].Why, "no delivery was made") || r.Problem() == "" {
		t.Errorf("missing %+v", r.Missing)
	}
}

// An event that fan-out has not come to is late and not lost, however old it is.
func TestAnEventThatFanOutHasNotReadIsInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe("sub_1")
	booking := func(e *schemas.Event) { e.Booking.ID = "bkg_1" } // one partition
	first := w.happen("evt_1", booking)
	w.first(first, "sub_1")
	r := w.Read(t, string(schemas.BookingEvents), 1)[0]
	w.commit("fanout", r)
	w.happen("evt_2", booking)
	got := w.audit()
	w.want(got.Subscriptions, audit.Line{Subscription: "sub_1", Agent: "agent_1", Matched: 2, Waiting: 1, InFlight: 1})
	w.commit("fanout", w.Read(t, string(schemas.BookingEvents), 2)[1])
	if r := w.audit(); len(r.Missing) != 1 || r.Missing[0].Event != "evt_2" {
		t.Errorf("fan-out has read it; missing %+v", r.Missing)
	}
}

// Each of these was taken by the group that reads it, and nothing came of it: the
// offset says so, though the record is still on its topic.
func TestADeliveryThatWasDroppedOnTheWayIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe("sub_1")
	attempted, tiered, vanished := w.happen("evt_dropped"), w.happen("evt_tiered"), w.happen("evt_vanished")
	dropped := w.first(attempted, "sub_1")
	w.first(tiered, "sub_1")
	w.attempt(tiered, "sub_1", 1, schemas.Retry)
	moved := w.deliver(schemas.TierTopic(tier), tiered, "sub_1", 1, 1)
	w.attempt(vanished, "sub_1", 1, schemas.Retry)
	if r := w.audit(); len(r.Missing) != 1 || r.Missing[0].Event != vanished.ID || !strings.Contains(r.Missing[0].Why, "an attempt failed") {
		t.Errorf("before anything was taken: %+v", r.Missing)
	}
	w.commit("deliver", dropped)
	w.commit("retry", moved)
	r := w.audit()
	why := map[schemas.EventID]string{}
	for _, m := range r.Missing {
		why[m.Event] = m.Why
	}
	if len(why) != 3 || !strings.Contains(why[attempted.ID], "read from webhook.deliveries") || !strings.Contains(why[tiered.ID], "read from "+schemas.TierTopic(tier)) {
		t.Errorf("missing %+v", why)
	}
	// The mover wrote it back after all, and it waits there.
	w.deliver(string(schemas.Deliveries), tiered, "sub_1", 1, 2)
	w.want(w.audit().Subscriptions, audit.Line{Subscription: "sub_1", Agent: "agent_1", Matched: 3, Waiting: 1, Missing: 2})
}

// The topic keeps the last state of a subscription only: what it matched before is
// known where there is a delivery, and nowhere else.
func TestWhatWasBeforeASubscriptionsLastChangeIsUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe("sub_1")
	w.subscribe("sub_gone")
	before, without := w.happen("evt_before"), w.happen("evt_without")
	for _, s := range []schemas.SubscriptionID{"sub_1", "sub_gone"} {
		w.first(before, s)
		w.attempt(before, s, 1, schemas.Delivered)
	}
	w.subscribe("sub_1", func(s *schemas.Subscription) { s.Version = 2 })
	w.now++
	w.ProduceRecord(t, &kgo.Record{Topic: string(schemas.Subscriptions), Key: []byte("sub_gone"), Timestamp: w.at.Add(time.Duration(w.now) * time.Second)})
	after := w.happen("evt_after")
	w.first(after, "sub_1")
	r := w.audit()
	w.want(r.Subscriptions, audit.Line{Subscription: "sub_1", Agent: "agent_1", Matched: 2, Delivered: 1, Waiting: 1, Unknown: 1},
		audit.Line{Subscription: "sub_gone", Agent: "agent_1", Matched: 1, Delivered: 1})
	if len(r.Missing) > 0 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "is unknown") {
		t.Errorf("%s: missing %+v, notes %q", without.ID, r.Missing, r.Notes)
	}
}

func TestWhatCannotBeProvenIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe("sub_1")
	w.at = w.at.Add(-8 * 24 * time.Hour)
	old := w.happen("evt_old")
	w.attempt(old, "sub_1", 1, schemas.Delivered) // attempts are kept for longer
	w.happen("evt_forgotten")
	for _, topic := range []schemas.Stream{schemas.Deliveries, schemas.Attempts} {
		w.ProduceRecord(t, &kgo.Record{Topic: string(topic), Key: []byte("sub_1"), Value: []byte("{}")})
	}
	r := w.audit()
	w.want(r.Subscriptions, audit.Line{Subscription: "sub_1", Agent: "agent_1", Matched: 1, Delivered: 1, Unknown: 1})
	said := strings.Join(r.Notes, "\n")
	for _, want := range []string{"not provable before", "the last event of each booking only", "1 records of webhook.deliveries", "1 records of webhook.attempts"} {
		if !strings.Contains(said, want) {
			t.Errorf("notes do not say %q:\n%s", want, said)
		}
	}
	if len(r.Missing) > 0 {
		t.Errorf("missing %+v", r.Missing)
	}
}
