package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/fanout"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var at = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func subscription(id string, agent schemas.AgentID, platform bool, events ...schemas.EventType) *schemas.Subscription {
	return &schemas.Subscription{
		ID: schemas.SubscriptionID(id), Version: 1, AgentID: agent, URL: "https://example.com/" + id, Events: events, Platform: platform,
		Active: true, EnabledAt: at, CreatedAt: at, UpdatedAt: at, Secrets: []schemas.SealedSecret{},
	}
}

func event(id string, version int64, kind schemas.EventType, agent schemas.AgentID) *schemas.Event {
	return &schemas.Event{
		ID: schemas.EventID(fmt.Sprintf("evt_%s_%d", id, version)), Type: kind, Version: version, OccurredAt: at, HostWebhooks: true, Changed: []string{},
		Booking: schemas.Booking{
			ID: schemas.BookingID(id), Version: version, AgentID: agent, HostID: "host_1", Status: schemas.Pending, CheckIn: "2026-06-01",
			CheckOut: "2026-06-03", Property: schemas.PropertyRef{ID: "prop_1", Title: "Home"}, Guest: schemas.Guest{FirstName: "A", LastName: "B"},
			CreatedAt: at, UpdatedAt: at,
		},
	}
}

func put(t *testing.T, c *testenv.Cluster, s *schemas.Subscription) {
	t.Helper()
	c.Produce(t, string(schemas.Subscriptions), string(s.ID), s.Meta(), s)
}

func happen(t *testing.T, c *testenv.Cluster, e *schemas.Event) {
	t.Helper()
	c.Produce(t, string(schemas.BookingEvents), string(e.Booking.ID), e.Meta(), e)
}

func start(t *testing.T, c *testenv.Cluster) (stop func()) {
	t.Helper()
	p, err := fanout.New(fanout.Options{Kafka: c.Config, Logger: c.Config.Logger})
	if err != nil {
		t.Fatal(err)
	}
	return testenv.Run(t, p.Run)
}

func deliveries(t *testing.T, c *testenv.Cluster, n int) []schemas.Delivery {
	t.Helper()
	var out []schemas.Delivery
	for _, r := range c.Read(t, string(schemas.Deliveries), n) {
		d, err := schemas.Decode[schemas.Delivery](r.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

func feedKinds(t *testing.T, rs []*kgo.Record) string {
	t.Helper()
	var out []string
	for _, r := range rs {
		f, err := schemas.Decode[schemas.FeedRecord](r.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(f.Kind))
	}
	return strings.Join(out, " ")
}

func TestAnEventGoesToItsAgentsSubscriptionsAndThePlatforms(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	put(t, c, subscription("sub_mine", "agent_1", false, schemas.BookingCreated))
	put(t, c, subscription("sub_other_event", "agent_1", false, schemas.BookingCancelled))
	put(t, c, subscription("sub_other_agent", "agent_2", false, schemas.BookingCreated))
	put(t, c, subscription("sub_platform", "agent_3", true, schemas.BookingCreated))
	happen(t, c, event("bkg_1", 1, schemas.BookingCreated, "agent_1"))
	start(t, c)
	got := map[schemas.SubscriptionID]schemas.Delivery{}
	for _, d := range deliveries(t, c, 2) {
		got[d.SubscriptionID] = d
	}
	mine, ok := got["sub_mine"]
	if _, platform := got["sub_platform"]; !ok || !platform || len(got) != 2 {
		t.Fatalf("deliveries to %v", got)
	}
	if want := schemas.DeliveryFor("evt_bkg_1_1", "sub_mine"); mine.ID != want {
		t.Errorf("delivery id %s, want %s", mine.ID, want)
	}
	body, err := schemas.Decode[schemas.WebhookBody]([]byte(mine.Payload))
	if err != nil || body.ID != "evt_bkg_1_1" || body.Sequence != 1 || *body.SubscriptionID != "sub_mine" || *body.BookingID != "bkg_1" || *body.HostID != "host_1" {
		t.Errorf("body %s, %v", mine.Payload, err)
	}
	if got := feedKinds(t, c.Read(t, string(schemas.HostNotifications), 2)); got != "booking_update notification" {
		t.Errorf("feed %s", got)
	}
}

func TestTwoEventsOfOneCommandReachEveryReader(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	put(t, c, subscription("sub_1", "agent_1", false, schemas.BookingCreated, schemas.HostResponseNeeded))
	start(t, c)
	happen(t, c, event("bkg_1", 1, schemas.BookingCreated, "agent_1"))
	asked := event("bkg_1", 2, schemas.HostResponseNeeded, "agent_1")
	asked.Reminder = schemas.ReminderCreated
	happen(t, c, asked)
	ds := deliveries(t, c, 2)
	if ds[0].Sequence != 1 || ds[1].Sequence != 2 {
		t.Errorf("sequences %d, %d, want 1, 2", ds[0].Sequence, ds[1].Sequence)
	}
	if got := feedKinds(t, c.Read(t, string(schemas.HostNotifications), 3)); got != "booking_update notification booking_update" {
		t.Errorf("feed %s", got)
	}
}

// The table must be brought up to what is committed before each batch, not only
// at the start: the subscription is written just before the event.
func TestASubscriptionWrittenBeforeTheEventAlwaysMatches(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	start(t, c)
	const n = 60
	for i := range n {
		put(t, c, subscription(fmt.Sprintf("sub_%03d", i), schemas.AgentID(fmt.Sprint(i)), false, schemas.BookingCreated))
		happen(t, c, event(fmt.Sprintf("bkg_%d", i), 1, schemas.BookingCreated, schemas.AgentID(fmt.Sprint(i))))
	}
	deliveries(t, c, n)
}

func TestADeletedSubscriptionMatchesNoMore(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	put(t, c, subscription("sub_gone", "agent_1", false, schemas.BookingCreated))
	put(t, c, subscription("sub_stays", "agent_1", false, schemas.BookingCreated))
	c.ProduceRecord(t, &kgo.Record{Topic: string(schemas.Subscriptions), Key: []byte("sub_gone")})
	start(t, c)
	happen(t, c, event("bkg_1", 1, schemas.BookingCreated, "agent_1"))
	happen(t, c, event("bkg_2", 1, schemas.BookingCreated, "agent_1"))
	for _, d := range deliveries(t, c, 2) {
		if d.SubscriptionID != "sub_stays" {
			t.Errorf("a delivery to %s", d.SubscriptionID)
		}
	}
}

func TestTheHostsSwitchKeepsWebhooksBackButNotTheFeed(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	put(t, c, subscription("sub_1", "agent_1", false, schemas.BookingCreated))
	start(t, c)
	off := event("bkg_1", 1, schemas.BookingCreated, "agent_1")
	off.HostWebhooks = false
	happen(t, c, off)
	c.Read(t, string(schemas.HostNotifications), 2)
	happen(t, c, event("bkg_2", 1, schemas.BookingCreated, "agent_1"))
	if d := deliveries(t, c, 1)[0]; d.BookingID != "bkg_2" {
		t.Errorf("a delivery of %s", d.BookingID)
	}
}

// The dashboard still follows the booking; only the inbox is spared.
func TestATypeThatTheHostSwitchedOffMakesNoNotification(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	start(t, c)
	asked := event("bkg_1", 1, schemas.HostResponseNeeded, "agent_1")
	asked.Reminder, asked.HostMuted = schemas.ReminderHalf, []schemas.NotificationType{schemas.Urgent}
	happen(t, c, asked)
	loud := event("bkg_1", 2, schemas.HostResponseNeeded, "agent_1")
	loud.Reminder, loud.HostMuted = schemas.ReminderNineTenths, []schemas.NotificationType{schemas.NewBooking}
	happen(t, c, loud)
	if got := feedKinds(t, c.Read(t, string(schemas.HostNotifications), 3)); got != "booking_update booking_update notification" {
		t.Errorf("feed %s", got)
	}
}

func TestARecordThatCannotBeDecodedIsSetAsideAndTheRestFlows(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	c.ProduceRecord(t, &kgo.Record{Topic: string(schemas.Subscriptions), Key: []byte("sub_bad"), Value: []byte("{")})
	put(t, c, subscription("sub_1", "agent_1", false, schemas.BookingCreated))
	for _, bad := range []string{"{", "null", `{"id":7}`, `{}`, "\xff\xfe"} {
		c.ProduceRecord(t, &kgo.Record{Topic: string(schemas.BookingEvents), Key: []byte("bkg_bad"), Value: []byte(bad)})
	}
	happen(t, c, event("bkg_1", 1, schemas.BookingCreated, "agent_1"))
	start(t, c)
	deliveries(t, c, 1)
	for _, r := range c.Read(t, string(schemas.PoisonRecords), 5) {
		p, err := schemas.Decode[schemas.Poison](r.Value)
		if err != nil || p.Reader != fanout.Group || p.Topic != string(schemas.BookingEvents) || p.Error == "" {
			t.Errorf("poison %+v, %v", p, err)
		}
	}
}

func TestAThousandSubscriptionsMatchOneEvent(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	var rs []*kgo.Record
	for i := range 1_000 {
		s := subscription(fmt.Sprintf("sub_%04d", i), "agent_1", false, schemas.BookingCreated)
		r, err := kafka.Encode(string(schemas.Subscriptions), string(s.ID), s.Meta(), s)
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	if err := c.Client.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	start(t, c)
	for i := range 5 {
		happen(t, c, event(fmt.Sprintf("bkg_%d", i), 1, schemas.BookingCreated, "agent_1"))
	}
	seen := map[schemas.DeliveryID]bool{}
	for _, d := range deliveries(t, c, 5_000) {
		seen[d.ID] = true
	}
	if len(seen) != 5_000 {
		t.Errorf("%d different deliveries, want 5000", len(seen))
	}
}

// A member that dies in the middle of a transaction leaves nothing behind: the
// next one of the same instance fences it and does its work once.
func TestAMemberKilledInItsTransactionLeavesNoDuplicates(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	put(t, c, subscription("sub_1", "agent_1", false, schemas.BookingCreated))
	const n = 200
	for i := range n {
		happen(t, c, event(fmt.Sprintf("bkg_%d", i), 1, schemas.BookingCreated, "agent_1"))
	}
	half, err := kgo.NewClient(append(c.Config.Options("half"), kafka.TransactionalOptions("fanout-test")...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if err := half.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	d := schemas.Delivery{ID: "dlv_half", SubscriptionID: "sub_1", CreatedAt: at}
	r, err := kafka.Encode(string(schemas.Deliveries), "sub_1", d.Meta(at), d)
	if err != nil {
		t.Fatal(err)
	}
	if err := half.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	start(t, c) // fences "half" and aborts what it began
	for _, d := range deliveries(t, c, n) {
		if d.ID == "dlv_half" {
			t.Error("a record of the killed member was committed")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := half.EndTransaction(ctx, kgo.TryCommit); err == nil {
		t.Error("the killed member committed after all")
	} else if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the killed member was not told: %v", err)
	}
}

// Half a transaction, as a broker leaves it that was killed between its markers:
// some outputs of an event are there, and its offset is not.
func TestOutputsThatAreThereAlreadyAreNotWrittenAgain(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	put(t, c, subscription("sub_1", "agent_1", false, schemas.BookingCreated))
	put(t, c, subscription("sub_2", "agent_1", false, schemas.BookingCreated))
	e := event("bkg_1", 1, schemas.BookingCreated, "agent_1")
	happen(t, c, e)
	half := schemas.Delivery{ID: schemas.DeliveryFor(e.ID, "sub_1"), EventID: e.ID, SubscriptionID: "sub_1", BookingID: "bkg_1", CreatedAt: at}
	c.Produce(t, string(schemas.Deliveries), "sub_1", half.Meta(at), half)
	start(t, c)
	last := event("bkg_2", 1, schemas.BookingCreated, "agent_1")
	happen(t, c, last)
	seen := map[schemas.DeliveryID]int{}
	for _, d := range deliveries(t, c, 4) {
		seen[d.ID]++
	}
	c.Read(t, string(schemas.HostNotifications), 4)
	if len(seen) != 4 {
		t.Errorf("deliveries %v, want four, each once", seen)
	}
}
