package deliver

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

func TestAnAttemptStandsInForACommitOnlyIfNothingFollowsFromIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		attempt schemas.Attempt
		want    bool
	}{
		{schemas.Attempt{Outcome: schemas.Delivered, Final: true}, true},
		{schemas.Attempt{Outcome: schemas.Gone, Final: true}, true},                                   // taken, and no more is wanted
		{schemas.Attempt{Outcome: schemas.Gone, ErrorClass: schemas.ErrorStatus, Final: true}, false}, // 410: a dead letter follows
		{schemas.Attempt{Outcome: schemas.Dead, ErrorClass: schemas.ErrorOutOfTries, Final: true}, false},
		{schemas.Attempt{Outcome: schemas.Retry, ErrorClass: schemas.ErrorStatus}, false},
		{schemas.Attempt{Outcome: schemas.Withheld, Final: true}, false},
		{schemas.Attempt{Outcome: schemas.Superseded, Final: true}, false},
	} {
		if got := standsIn(&c.attempt); got != c.want {
			t.Errorf("%+v: %v", c.attempt, got)
		}
	}
}

func TestWhatWasTakenIsForgottenWithTheFirstRecordThatIsYounger(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := recalled{nil: taken{map[way]struct{}{{"dlv_1", 0}: {}}, now}}
	came := func(id schemas.DeliveryID, run int64, attempt int, at time.Time) bool {
		d := schemas.Delivery{ID: id, Run: run, Attempt: attempt}
		return r.has(&job{item: &kafka.Item{Record: &kgo.Record{Timestamp: at}}, d: d})
	}
	if !came("dlv_1", 0, 0, now.Add(-time.Minute)) || !came("dlv_1", 0, 1, now.Add(-time.Second)) {
		t.Error("a record of a way that was taken is sent again")
	}
	if came("dlv_1", 7, 0, now) || came("dlv_2", 0, 0, now) {
		t.Error("a record of another way is not sent")
	}
	if came("dlv_1", 0, 0, now.Add(time.Minute)) || len(r) > 0 {
		t.Error("it is remembered for ever")
	}
}
