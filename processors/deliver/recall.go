package deliver

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

const (
	// recallMost is how many attempts of a partition are read when it becomes ours:
	// of what its former owner did not commit there are at most as many as its span
	// holds, and of what it still had under way from before that, as many again.
	recallMost = 2 * kafka.DefaultSpan
	// recallSkew is by how much the clocks of those who write may differ. By more, and
	// some requests are made twice.
	recallSkew = 5 * time.Second
)

// An attemptKey names an attempt.
type attemptKey struct {
	id     schemas.DeliveryID
	run    int64
	number int
}

// recalled are attempts that ended well before their partition became ours, by
// partition. Their records come again if the former owner was killed before it
// had committed them; what the topic of attempts says is as good as a commit. It is
// guarded by the lanes' lock.
//
// Attempts after which something follows are not among them: whether it was
// written is not known, and a request too many is better than a delivery lost.
type recalled map[*kafka.Partition]map[attemptKey]struct{}

// has says that a job's attempt was made, and forgets it: a record comes again once.
func (r recalled) has(j *job) bool {
	m := r[j.item.Partition()]
	k := attemptKey{j.d.ID, j.d.Run, j.d.Attempt + 1}
	if _, ok := m[k]; !ok {
		return false
	}
	delete(m, k)
	return true
}

// recall reads which attempts of a partition ended well since a time. A partition
// that the topic of attempts does not have has none.
func (w *Worker) recall(ctx context.Context, p *kafka.Partition, since time.Time) error {
	found := map[attemptKey]struct{}{}
	err := kafka.ReadSince(ctx, w.in.Client(), w.kafka, "krib-deliver-attempts", string(schemas.Attempts), p.Number, since.Add(-recallSkew), recallMost, func(r *kgo.Record) {
		a, err := schemas.Decode[schemas.Attempt](r.Value)
		if err == nil && (a.Outcome == schemas.Delivered || a.Outcome == schemas.Gone) {
			found[attemptKey{a.DeliveryID, a.Run, a.Number}] = struct{}{}
		}
	})
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return err
	}
	w.lanes.remember(p, found)
	return nil
}

// repeated settles a begun job whose request was made before.
func (w *Worker) repeated(j *job) {
	w.metrics.repeats.Inc()
	w.holds.leaves(j)
	w.put(j, nil)
}
