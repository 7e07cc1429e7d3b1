package fanout_test

import (
	"context"
	"testing"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/producers/outbox"
	"github.com/krib-ai/krib/schemas"
)

// The relay is away while an agent subscribes and books at once; both changes are
// in the outbox when it comes, and leave it in one transaction.
func TestASubscriptionMatchesTheBookingAfterItAlsoWhenTheRelayWasAway(t *testing.T) {
	t.Parallel()
	c, url := testenv.Topics(t, nil), testenv.Database(t)
	db, err := store.Open(t.Context(), url, store.RoleAPI, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	start(t, c)
	const n = 20
	for i := range n {
		agent := schemas.NewAgentID()
		s := subscription("sub_"+string(agent), agent, false, schemas.BookingCreated)
		e := event("bkg_"+string(rune('a'+i)), 1, schemas.BookingCreated, agent)
		enqueue(t, db, string(schemas.Subscriptions), string(s.ID), s.Meta(), s)
		enqueue(t, db, string(schemas.BookingEvents), string(e.Booking.ID), e.Meta(), e)
	}
	relay := outbox.New(outbox.Options{Kafka: c.Config, DatabaseURL: url, Signal: store.NewSignal(store.ChannelOutbox), Logger: c.Config.Logger})
	testenv.Run(t, relay.Run)
	deliveries(t, c, n)
}

func enqueue(t *testing.T, db *store.DB, topic, key string, m schemas.Meta, v any) {
	t.Helper()
	b, err := schemas.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), store.Scope{}, func(_ context.Context, tx *store.Tx) error {
		tx.Enqueue(store.OutboxRow{Topic: topic, Key: &key, Headers: m.Headers(), Value: b})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
