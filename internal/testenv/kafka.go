package testenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/embedded"
)

// Kafka is an empty broker of this test's own, with its log in a temporary
// folder. It closes after the test, so clients made later close before it.
func Kafka(tb testing.TB) *embedded.Kafka {
	tb.Helper()
	k, err := embedded.StartKafka(tb.Context(), embedded.KafkaOptions{Dir: tb.TempDir(), Logger: Logger(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := k.Close(); err != nil {
			tb.Error(err)
		}
	})
	return k
}

// lent remembers the brokers of a running test, which may ask twice.
var lent sync.Map // testing.TB to []string

// Brokers are where this test's clients dial: an empty broker of its own, or the
// cluster of KRIB_TEST_KAFKA_BROKERS. That one belongs to a single test of all
// processes at a time, and loses its topics and groups at the start of each.
func Brokers(tb testing.TB) []string {
	tb.Helper()
	if b, ok := lent.Load(tb); ok {
		return b.([]string)
	}
	brokers := borrow(tb)
	lent.Store(tb, brokers)
	tb.Cleanup(func() { lent.Delete(tb) })
	return brokers
}

func borrow(tb testing.TB) []string {
	tb.Helper()
	given := os.Getenv(kafkaBrokers)
	if given == "" {
		return Kafka(tb).Addrs()
	}
	lockCluster(tb)
	brokers := strings.Split(given, ",")
	// The default is to believe for 5 s that a deleted topic is still there.
	admin, err := kadm.NewOptClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		tb.Fatal(err)
	}
	defer admin.Close()
	// A group is not empty until the members of the test before have left, and a
	// topic is not gone when its deletion is answered.
	var left error
	defer func() {
		if tb.Failed() {
			tb.Log(left)
		}
	}()
	Eventually(tb, "the cluster of "+kafkaBrokers+" is empty", func() bool {
		left = empty(tb.Context(), admin)
		return left == nil
	})
	return brokers
}

// lockCluster waits for its turn, as long as the test may take.
func lockCluster(tb testing.TB) {
	tb.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "krib-test-kafka.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		tb.Fatal(err)
	}
}

// empty deletes what it finds and answers nil when it has found nothing.
func empty(ctx context.Context, admin *kadm.Client) error {
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		return fmt.Errorf("listing groups: %w", err)
	}
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("listing topics: %w", err)
	}
	if len(groups) == 0 && len(topics) == 0 {
		return nil
	}
	if _, err := admin.DeleteGroups(ctx, groups.Groups()...); err != nil {
		return fmt.Errorf("deleting groups: %w", err)
	}
	if _, err := admin.DeleteTopics(ctx, topics.Names()...); err != nil {
		return fmt.Errorf("deleting topics: %w", err)
	}
	return fmt.Errorf("groups %v and topics %v were still there", groups.Groups(), topics.Names())
}
