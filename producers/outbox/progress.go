package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// refused says whether a transaction was aborted because Kafka will never take
// one of its records as it is. A topic that is missing or closed to us is not
// among the reasons: people can mend that, and until then the rows wait in their
// order.
func refused(err error) bool {
	if _, ok := errors.AsType[*abortedError](err); !ok {
		return false
	}
	for _, e := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTopicException, kerr.InvalidTimestamp,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	// kgo has no value for an explicit partition that the topic does not have.
	return strings.Contains(err.Error(), "invalid record partitioning choice")
}

// lastProgress is the last committed record of outbox.progress that is about the
// given outbox. The tail of the partition is commit markers and, after faults,
// records of aborted transactions, so the last record is not at the end: it is
// looked for backwards, in windows that double. What cannot be decoded is passed,
// and so is the progress of another database: its ids mean other rows.
func lastProgress(ctx context.Context, c kafka.Config, outbox string) (schemas.Progress, error) {
	topic := string(schemas.OutboxProgress)
	c.Registry = nil // it lives for a moment
	cl, err := kgo.NewClient(append(c.Options("relay-progress"), kgo.KeepControlRecords())...)
	if err != nil {
		return schemas.Progress{}, fmt.Errorf("making the progress reader: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	starts, err1 := adm.ListStartOffsets(ctx, topic)
	ends, err2 := adm.ListCommittedOffsets(ctx, topic)
	if err := errors.Join(err1, err2, starts.Error(), ends.Error()); err != nil {
		return schemas.Progress{}, fmt.Errorf("asking for the bounds of %s: %w", topic, err)
	}
	start, _ := starts.Lookup(topic, 0)
	end, _ := ends.Lookup(topic, 0)
	for window := int64(8); ; window *= 2 {
		from := max(start.Offset, end.Offset-window)
		if from >= end.Offset {
			return schemas.Progress{}, nil // nothing was ever published
		}
		last, err := lastIn(ctx, cl, topic, from, end.Offset, outbox)
		if err != nil {
			return schemas.Progress{}, err
		}
		if last != nil {
			return *last, nil
		}
		if from == start.Offset {
			return schemas.Progress{}, nil
		}
	}
}

// lastIn reads [from, end) and returns the last progress of the outbox, if any.
func lastIn(ctx context.Context, cl *kgo.Client, topic string, from, end int64, outbox string) (*schemas.Progress, error) {
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(from)}})
	defer cl.RemoveConsumePartitions(map[string][]int32{topic: {0}})
	var last *schemas.Progress
	for at := from; at < end; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("reading %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < end && !r.Attrs.IsControl() {
				if p, err := schemas.Decode[schemas.Progress](r.Value); err == nil && p.Outbox == outbox {
					last = &p
				}
			}
			at = r.Offset + 1
		})
	}
	return last, nil
}
