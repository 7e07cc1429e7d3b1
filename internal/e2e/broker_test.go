//go:build e2e && kafka

package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/testenv"
)

// brokerKills is how often a broker is killed under load.
const brokerKills = 3

// A broker is killed and comes back, again and again: the only one of its
// cluster, whose fall stops the log for a while, or one of three, which must not
// even be felt for longer than its leaderships take to move.
func TestBrokersKilledUnderLoadLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	kafka := testenv.Apache(t)
	all := newCrash(t)
	all.pace = 50 * time.Millisecond // an outage's backlog is delivered before the test ends
	all.run(func(c *crash) {
		for range brokerKills {
			c.pause()
			addrs := kafka.Addrs()
			victim := addrs[rand.IntN(len(addrs))]
			kafka.Kill(t, victim)
			if len(addrs) > 1 {
				c.goesOn(victim)
			}
			kafka.Start(t, victim)
			waitInSync(t, addrs)
		}
	})
}

// goesOn waits for bookings that reach their webhook while a broker is away.
func (c *crash) goesOn(victim string) {
	c.t.Helper()
	k := c.current.Load()
	seen := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.seen)
	}
	before := seen()
	testenv.Eventually(c.t, "notifications flow without the broker at "+victim, func() bool { return seen() > before+10 })
	if c.current.Load() != k {
		c.t.Error("the program was started anew")
	}
}

// waitInSync waits until every replica has caught up: to kill a second one before
// is more than three brokers are for.
func waitInSync(t *testing.T, brokers []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	testenv.Eventually(t, "all replicas are in sync", func() bool {
		topics, err := admin.ListTopicsWithInternal(t.Context())
		if err != nil {
			return false
		}
		ok := true
		topics.EachPartition(func(p kadm.PartitionDetail) {
			ok = ok && p.Err == nil && len(p.ISR) == len(p.Replicas)
		})
		return ok
	})
}
