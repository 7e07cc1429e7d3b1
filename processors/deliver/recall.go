package deliver

import (
	"context"
	"errors"
	"log/slog"
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
	// recallWithin bounds what reading them may hold up.
	recallWithin = 10 * time.Second
)

// A way is what becomes of a delivery in one run: of all its records, one attempt is
// taken at most.
type way struct {
	id  schemas.DeliveryID
	run int64
}

// taken are the ways that ended well before their partition became ours at a time.
type taken struct {
	ways map[way]struct{}
	at   time.Time
}

// recalled is what has been taken, by partition. Its records come again if the former
// owner was killed before it had committed them; what the topic of attempts says is
// as good as a commit. It is guarded by the lanes' lock.
type recalled map[*kafka.Partition]taken

// has says that a job's request was made, and taken. Records that were written since
// the partition became ours are none of its former owner's: with the first of them
// there is nothing to remember any more.
func (r recalled) has(j *job) bool {
	t, ok := r[j.item.Partition()]
	if !ok {
		return false
	}
	if j.item.Record.Timestamp.After(t.at.Add(recallSkew)) {
		delete(r, j.item.Partition())
		return false
	}
	_, ok = t.ways[way{j.d.ID, j.d.Run}]
	return ok
}

// standsIn says that nothing follows from an attempt, so that its record is as good
// as a commit. What follows from another may not have been written, and a request too
// many is better than a delivery or a dead letter lost.
func standsIn(a *schemas.Attempt) bool {
	return a.Outcome == schemas.Delivered || a.Outcome == schemas.Gone && a.ErrorClass == schemas.ErrorNone
}

// recall reads what of a partition was taken since a time. It may fail: then some of
// it is sent again.
func (w *Worker) recall(ctx context.Context, p *kafka.Partition, since time.Time) {
	within, cancel := context.WithTimeout(ctx, recallWithin)
	defer cancel()
	found := taken{map[way]struct{}{}, time.Now()}
	err := kafka.ReadSince(within, w.in.Client(), w.kafka, "krib-deliver-attempts", string(schemas.Attempts), p.Number, since.Add(-recallSkew), recallMost, func(r *kgo.Record) {
		a, err := schemas.Decode[schemas.Attempt](r.Value)
		if err == nil && standsIn(&a) {
			found.ways[way{a.DeliveryID, a.Run}] = struct{}{}
		}
	})
	w.lanes.remember(p, found)
	// A partition that the topic of attempts does not have has none.
	if err != nil && ctx.Err() == nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		w.logger.Warn("the last attempts of a partition cannot be read; what it delivered last may be sent again",
			slog.Int("partition", int(p.Number)), slog.Any("error", err))
	}
}

// repeated settles a begun job whose request was made before.
func (w *Worker) repeated(j *job) {
	w.metrics.repeats.Inc()
	w.holds.leaves(j)
	w.put(j, nil)
}
