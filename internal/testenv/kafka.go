package testenv

import (
	"context"
	"crypto/sha256"
	"errors"
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

// Brokers are where this test's clients dial: an empty broker of its own, or one of the
// clusters of KRIB_TEST_KAFKA_BROKERS (addresses separated by commas, clusters by
// semicolons). A cluster belongs to one test at a time, of all processes of this
// machine, and loses its topics and groups at the start of each.
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

// RealKafka reports whether Brokers are others than the embedded one.
func RealKafka() bool { return os.Getenv(kafkaBrokers) != "" }

func borrow(tb testing.TB) []string {
	tb.Helper()
	given := os.Getenv(kafkaBrokers)
	if given == "" {
		return Kafka(tb).Addrs()
	}
	brokers := strings.Split(lockCluster(tb, strings.Split(given, ";")), ",")
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

// lockCluster waits for the first cluster that is free, as long as the test may take,
// and holds it until the test ends. The kernel frees it too when the process dies.
func lockCluster(tb testing.TB, clusters []string) string {
	tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, c := range clusters {
			if tryLock(tb, c) {
				return c
			}
		}
		select {
		case <-tick.C:
		case <-tb.Context().Done():
			tb.Fatal("the test ended before a cluster was free")
		}
	}
}

func tryLock(tb testing.TB, cluster string) bool {
	tb.Helper()
	name := fmt.Sprintf("krib-test-kafka-%x.lock", sha256.Sum256([]byte(cluster)))
	f, err := os.OpenFile(filepath.Join(os.TempDir(), name), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the name is a hash
	if err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			tb.Fatal(err)
		}
		return false
	}
	tb.Cleanup(func() { _ = f.Close() })
	return true
}

// newAdmin makes a client that forgets a deleted topic at once; the default is to
// believe in it for 5 s.
func newAdmin(brokers []string) (*kadm.Client, error) {
	return kadm.NewOptClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10*time.Millisecond))
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
