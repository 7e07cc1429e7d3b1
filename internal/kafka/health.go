package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// pingEvery is the time between two questions to the brokers.
	pingEvery = time.Second
	// pingTimeout is the time in which one broker of the cluster has to answer.
	pingTimeout = 2 * time.Second
	// unreachableAfter is how long no question is answered before the cluster counts as
	// unreachable: a leader that moves and a broker that restarts are shorter.
	unreachableAfter = 3 * time.Second
)

// A Health reports whether the brokers can be reached from this process. The clients
// of the roles cannot say so: they retry for ever, and a group's member believes in
// its membership until a broker denies it. So a client of its own asks any broker, once
// a second, and readiness reads the last result.
type Health struct {
	ping func(context.Context) error
	end  func()

	mu     sync.Mutex
	failed time.Time // when the first question of those without an answer was asked
	last   error
}

// NewHealth makes a Health; Run asks.
func NewHealth(c Config) (*Health, error) {
	c.Registry = nil
	cl, err := kgo.NewClient(append(c.Options("health"), kgo.WithLogger(kgo.BasicLogger(discard{}, kgo.LogLevelNone, nil)))...)
	if err != nil {
		return nil, fmt.Errorf("making the client that asks whether Kafka is reachable: %w", err)
	}
	return &Health{ping: func(ctx context.Context) error { return anyBroker(ctx, cl) }, end: cl.Close}, nil
}

// anyBroker asks all brokers at once, and returns when one has answered. One after the
// other, as [kgo.Client.Ping] asks, one that is silent would use up the time.
func anyBroker(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	brokers := append(cl.SeedBrokers(), cl.DiscoveredBrokers()...)
	answers := make(chan error, len(brokers))
	for _, b := range brokers {
		go func() {
			_, err := b.Request(ctx, kmsg.NewPtrApiVersionsRequest())
			answers <- err
		}()
	}
	var err error
	for range brokers {
		if err = <-answers; err == nil {
			return nil
		}
	}
	return err
}

// discard takes what the client would log: Health reports the same as a state.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// Run asks until ctx ends, then closes the client.
func (h *Health) Run(ctx context.Context) error {
	defer h.end()
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		h.ask(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (h *Health) ask(ctx context.Context) {
	asked := time.Now()
	pinging, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := h.ping(pinging)
	if ctx.Err() != nil {
		return // it was not the brokers' fault
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.last = err; {
	case err == nil:
		h.failed = time.Time{}
	case h.failed.IsZero():
		h.failed = asked
	}
}

// Err is nil unless no broker has answered for three seconds. Before the first
// question it is nil too.
func (h *Health) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed.IsZero() || time.Since(h.failed) < unreachableAfter {
		return nil
	}
	return fmt.Errorf("kafka: unreachable since %s: %w", h.failed.UTC().Format(time.RFC3339), h.last)
}
