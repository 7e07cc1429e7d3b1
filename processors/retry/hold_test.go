package retry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

func TestHoldLetsGoExactlyWhenDueAndInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		type move struct {
			Offset int64
			At     time.Duration
		}
		var got []move
		h := newHold(func(it *kafka.Item, _ time.Time) { got = append(got, move{it.Record.Offset, time.Since(start)}) })
		for offset, due := range []time.Duration{10 * time.Hour, time.Second, 3 * time.Second, time.Second, 0, 9 * time.Hour} {
			h.add(&kafka.Item{Record: &kgo.Record{Offset: int64(offset)}}, start.Add(due))
		}
		<-time.After(11 * time.Hour) // of the bubble's clock
		synctest.Wait()
		want := []move{{4, 0}, {1, time.Second}, {3, time.Second}, {2, 3 * time.Second}, {5, 9 * time.Hour}, {0, 10 * time.Hour}}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

func TestStoppedHoldMovesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHold(func(*kafka.Item, time.Time) { t.Error("it moved a record of a partition that left") })
		h.add(&kafka.Item{Record: &kgo.Record{}}, time.Now().Add(time.Second))
		h.stop()
		h.add(&kafka.Item{Record: &kgo.Record{}}, time.Now())
		<-time.After(time.Minute) // of the bubble's clock
		synctest.Wait()
	})
}

func TestJitterBelongsToTheSubscriptionAndIsATenthAtMost(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if due := dueAt(at, 59*time.Second, "sub_1"); !due.Equal(at.Add(59*time.Second + time.Millisecond)) {
		t.Errorf("a short tier is due at %v", due)
	}
	seen := map[time.Time]bool{}
	for _, s := range []schemas.SubscriptionID{"sub_1", "sub_2", "sub_3", "sub_4"} {
		due := dueAt(at, time.Hour, s)
		if due.Before(at.Add(54*time.Minute)) || due.After(at.Add(time.Hour+time.Millisecond)) {
			t.Errorf("%s is due at %v", s, due)
		}
		if !due.Equal(dueAt(at, time.Hour, s)) {
			t.Errorf("%s has two jitters", s)
		}
		seen[due] = true
	}
	if len(seen) < 3 {
		t.Errorf("four subscriptions share %d times", len(seen))
	}
}
