package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// Cluster is a broker with Krib's topics on it.
type Cluster struct {
	Config kafka.Config
	Feed   schemas.Feed
	Client *kgo.Client // a plain producer, closed with the test
}

// Topics makes a cluster with the given ladder's topics, three partitions each.
func Topics(tb testing.TB, ladder schemas.Ladder) *Cluster {
	tb.Helper()
	c := &Cluster{Config: kafka.Config{Brokers: Brokers(tb), Logger: Logger(tb), Instance: "test"}}
	var err error
	if c.Client, err = kafka.NewProducer(c.Config, "test"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Client.Close)
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	err = kafka.CreateTopics(ctx, c.Client, schemas.Topics(schemas.TopicOptions{Partitions: 3, ReplayWindow: time.Hour, Ladder: ladder}))
	if err != nil {
		tb.Fatal(err)
	}
	if c.Feed, err = kafka.FeedOf(ctx, c.Client); err != nil {
		tb.Fatal(err)
	}
	return c
}

// Produce writes one record of a value and waits for it.
func (c *Cluster) Produce(tb testing.TB, topic, key string, meta schemas.Meta, v any) {
	tb.Helper()
	r, err := kafka.Encode(topic, key, meta, v)
	if err != nil {
		tb.Fatal(err)
	}
	c.ProduceRecord(tb, r)
}

// ProduceRecord writes one record and waits for it.
func (c *Cluster) ProduceRecord(tb testing.TB, r *kgo.Record) {
	tb.Helper()
	if err := c.Client.ProduceSync(tb.Context(), r).FirstErr(); err != nil {
		tb.Fatal(err)
	}
}

// Read waits for n committed records of a topic, from its start, and returns
// them in the order of each partition.
func (c *Cluster) Read(tb testing.TB, topic string, n int) []*kgo.Record {
	tb.Helper()
	cl, err := kgo.NewClient(append(c.Config.Options("test-reader"), kgo.ConsumeTopics(topic))...)
	if err != nil {
		tb.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	var out []*kgo.Record
	for len(out) < n {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			tb.Fatalf("%s: got %d records, want %d", topic, len(out), n)
		}
		out = append(out, fetches.Records()...)
	}
	return out
}

// Run runs something of Krib's until the test ends, and fails the test if it
// ends with an error. stop ends it earlier and waits.
func Run(tb testing.TB, run func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("ended with %v", err)
		}
	}
	tb.Cleanup(stop)
	return stop
}
