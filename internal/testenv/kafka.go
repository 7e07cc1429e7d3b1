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

	"github.com/twmb/franz-go/pkg/kadm"

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

// Brokers are where this test's clients dial: an empty broker of its own, the
// cluster of KRIB_TEST_KAFKA_BROKERS, or an Apache Kafka of KRIB_TEST_KAFKA_NODES
// nodes that this process starts. Those two belong to a single test at a time, and
// lose their topics and groups at the start of each.
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

// RealKafka says whether Brokers are others than the embedded one.
func RealKafka() bool { return os.Getenv(kafkaBrokers) != "" || os.Getenv(kafkaNodes) != "" }

// Apache is the Apache Kafka that this test stands on, with Brokers its
// addresses. A test that kills a node starts it again.
func Apache(tb testing.TB) *ApacheKafka {
	tb.Helper()
	Brokers(tb)
	a := sharedApache.started()
	if a == nil {
		tb.Fatalf("this test kills brokers and so needs its own Apache Kafka: set %s, as `make test-kafka` does", kafkaNodes)
	}
	return a
}

func borrow(tb testing.TB) []string {
	tb.Helper()
	var brokers []string
	if given := os.Getenv(kafkaBrokers); given != "" {
		lockCluster(tb)
		brokers = strings.Split(given, ",")
	} else if nodes := os.Getenv(kafkaNodes); nodes != "" {
		sharedApache.turn.Lock()
		tb.Cleanup(sharedApache.turn.Unlock)
		a, err := sharedApache.get(tb.Context(), nodes)
		if err != nil {
			tb.Fatal(err)
		}
		brokers = a.Addrs()
	} else {
		return Kafka(tb).Addrs()
	}
	emptyCluster(tb, brokers)
	return brokers
}

// emptyCluster takes several rounds: a group is not empty until the members of the
// test before have left, and a topic is not gone when its deletion is answered.
func emptyCluster(tb testing.TB, brokers []string) {
	tb.Helper()
	admin, err := newAdmin(brokers)
	if err != nil {
		tb.Fatal(err)
	}
	defer admin.Close()
	var left error
	defer func() {
		if tb.Failed() {
			tb.Log(left)
		}
	}()
	Eventually(tb, "the cluster is empty", func() bool {
		left = empty(tb.Context(), admin)
		return left == nil
	})
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
	if err := leave(ctx, admin, groups.Groups()); err != nil {
		return err
	}
	if _, err := admin.DeleteGroups(ctx, groups.Groups()...); err != nil {
		return fmt.Errorf("deleting groups: %w", err)
	}
	if _, err := admin.DeleteTopics(ctx, topics.Names()...); err != nil {
		return fmt.Errorf("deleting topics: %w", err)
	}
	return fmt.Errorf("groups %v and topics %v were still there", groups.Groups(), topics.Names())
}

// leave ends the membership of static members: a client that closes leaves them
// in the group until their session ends, which takes 20 s.
func leave(ctx context.Context, admin *kadm.Client, groups []string) error {
	described, err := admin.DescribeGroups(ctx, groups...)
	if err != nil {
		return fmt.Errorf("describing groups: %w", err)
	}
	for _, g := range described {
		var static []string
		for _, m := range g.Members {
			if m.InstanceID != nil {
				static = append(static, *m.InstanceID)
			}
		}
		if len(static) == 0 {
			continue
		}
		if _, err := admin.LeaveGroup(ctx, kadm.LeaveGroup(g.Group).InstanceIDs(static...)); err != nil {
			return fmt.Errorf("leaving %s for its members of before: %w", g.Group, err)
		}
	}
	return nil
}
