package deliver

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// A delivery may reach us before our own table has its subscription.
func TestUnknownSubscriptionIsWaitedFor(t *testing.T) {
	t.Parallel()
	conf := kafka.Config{Brokers: testenv.Brokers(t), Logger: testenv.Logger(t)}
	cl, err := kafka.NewProducer(conf, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := kafka.CreateTopics(t.Context(), cl, schemas.Topics(schemas.TopicOptions{Partitions: 1, ReplayWindow: time.Hour})); err != nil {
		t.Fatal(err)
	}
	ring, err := seal.DeriveRing("a secret for the tests only")
	if err != nil {
		t.Fatal(err)
	}
	subs := newSubscriptions(ring, conf.Logger, func(_ *kgo.Record, err error) { t.Error(err) })
	table, err := kafka.NewTable(conf, "test-table", string(schemas.Subscriptions), subs.apply)
	if err != nil {
		t.Fatal(err)
	}
	s := schemas.Subscription{ID: "sub_1", Active: true}
	r, err := kafka.Encode(string(schemas.Subscriptions), "sub_1", s.Meta(), &s)
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	type found struct {
		sub *subscriber
		err error
	}
	answers := make(chan found, 2)
	for _, id := range []schemas.SubscriptionID{"sub_1", "sub_never"} {
		go func() {
			sub, err := subs.lookup(t.Context(), id, table)
			answers <- found{sub, err}
		}()
	}
	select {
	case f := <-answers:
		t.Fatalf("answered %v before the table was read", f)
	case <-time.After(100 * time.Millisecond): // it cannot answer: nobody reads the table
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- table.Run(ctx) }()
	known := 0
	for range 2 {
		f := <-answers
		if f.err != nil {
			t.Error(f.err)
		}
		if f.sub != nil {
			known++
		}
	}
	if known != 1 {
		t.Errorf("%d of the two are known", known)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
