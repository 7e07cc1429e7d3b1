package fanout

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Only events from before a session can have been in a killed member's hand.
// Later ones come in any order of their partitions, for as long as the session
// lives, and must not make it read its own outputs again.
func TestOnlyEventsFromBeforeTheSessionAreLookedUp(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	at := func(offsets ...time.Duration) (rs []*kgo.Record) {
		for _, o := range offsets {
			rs = append(rs, &kgo.Record{Timestamp: began.Add(o)})
		}
		return rs
	}
	if oldest, found := inHand(at(time.Hour, 2*time.Hour, 90*time.Minute), began); found {
		t.Errorf("looks up %v although all are of this session", oldest)
	}
	oldest, found := inHand(at(time.Hour, -time.Second, -time.Hour, time.Second), began)
	if want := began.Add(-time.Hour); !found || !oldest.Equal(want) {
		t.Errorf("got %v, %v, want %v", oldest, found, want)
	}
}
