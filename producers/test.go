package producers

import (
	"context"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/schemas"
)

// maxTestData bounds the data of a test: it goes to each subscription of the event in
// one transaction of the outbox.
const maxTestData = 16 << 10

func checkTestData(data json.RawMessage) error {
	if len(data) > maxTestData {
		return schemas.Errorf(schemas.TooLarge, "test_data_too_large", "the data of a test may have at most %d bytes", maxTestData)
	}
	return nil
}

// A TestDelivery is one delivery that TestWebhooks has sent on its way.
type TestDelivery struct {
	ID           schemas.DeliveryID
	Subscription schemas.SubscriptionID
	AgentName    string
}

// TestWebhooks sends data to the caller's own active subscriptions that want the
// event: once each, without a ladder, and without touching their health or
// booking.events. The first attempts' rows tell what came of it.
func (p *Producer) TestWebhooks(ctx context.Context, s store.Scope, event schemas.EventType, data json.RawMessage) ([]TestDelivery, error) {
	if !event.Subscribable() {
		return nil, checkEvents("event_type", []schemas.EventType{event})
	}
	if err := checkTestData(data); err != nil {
		return nil, err
	}
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) ([]TestDelivery, error) {
		// A page is the bound: a test is for a person who waits for its answer.
		subs, _, err := tx.Subscriptions(ctx, store.SubscriptionFilter{ActiveOnly: true, Agent: s.Agent, Event: event, Limit: 100})
		if err != nil {
			return nil, err
		}
		var (
			out  []TestDelivery
			rows []store.OutboxRow
			now  = schemas.Stamp(time.Now())
		)
		for i := range subs {
			sub := &subs[i].Subscription
			d, r, err := direct(ctx, sub, schemas.NewEventID(), event, schemas.TriggerTest, data, now)
			if err != nil {
				return nil, err
			}
			out = append(out, TestDelivery{ID: d.ID, Subscription: sub.ID, AgentName: sub.AgentName})
			rows = append(rows, r)
		}
		if len(rows) == 0 {
			return nil, nil
		}
		tx.Enqueue(rows...)
		return out, nil
	})
}

// TestSubscription sends data to one subscription, also to one that is off or
// does not ask for the event: its owner wants to know what the endpoint says.
func (p *Producer) TestSubscription(ctx context.Context, s store.Scope, id schemas.SubscriptionID, event schemas.EventType, data json.RawMessage) (TestDelivery, error) {
	if !event.Subscribable() {
		return TestDelivery{}, checkEvents("event_type", []schemas.EventType{event})
	}
	if err := checkTestData(data); err != nil {
		return TestDelivery{}, err
	}
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (TestDelivery, error) {
		sub, err := tx.Subscription(ctx, id)
		if err != nil {
			return TestDelivery{}, err
		}
		d, r, err := direct(ctx, &sub.Subscription, schemas.NewEventID(), event, schemas.TriggerTest, data, schemas.Stamp(time.Now()))
		if err != nil {
			return TestDelivery{}, err
		}
		tx.Enqueue(r)
		return TestDelivery{ID: d.ID, Subscription: id, AgentName: sub.AgentName}, nil
	})
}

// direct makes a delivery that no event of a booking stands behind.
func direct(ctx context.Context, sub *schemas.Subscription, id schemas.EventID, event schemas.EventType, why schemas.Trigger, data json.RawMessage, now time.Time) (*schemas.Delivery, store.OutboxRow, error) {
	frame := schemas.WebhookBody{ID: id, Type: event, EventType: event, Sequence: 1, Data: data, Timestamp: now}
	body, err := schemas.Encode(frame.For(webhook.Shown(sub.URL), sub.ID))
	if err != nil {
		return nil, store.OutboxRow{}, err
	}
	d := &schemas.Delivery{
		ID: schemas.DeliveryFor(id, sub.ID), EventID: id, EventType: event, SubscriptionID: sub.ID, AgentID: sub.AgentID, Sequence: 1,
		Trigger: why, CreatedAt: now, Payload: string(body),
	}
	r, err := row(ctx, string(schemas.Deliveries), string(sub.ID), d.Meta(now), d)
	return d, r, err
}
