package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ReadPartition hands the committed records of one partition to apply, in order,
// up to the high watermark that it had when it was called: whoever wrote before
// that is in it. cl is asked where the partition begins and ends; only where it
// holds something is another client made, of the given name.
func ReadPartition(ctx context.Context, cl *kgo.Client, c Config, name, topic string, partition int32, apply func(*kgo.Record)) error {
	pos, end, err := boundsOf(ctx, cl, topic, partition)
	if err != nil || pos >= end {
		return err
	}
	c.Registry = nil // several may be read at once, and metrics of one name clash
	reader, err := kgo.NewClient(append(c.Options(name), FromPositions(topic, map[int32]int64{partition: pos})...)...)
	if err != nil {
		return fmt.Errorf("making the reader of %s: %w", topic, err)
	}
	defer reader.Close()
	for pos < end {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading partition %d of %s: %w", partition, topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < end && !r.Attrs.IsControl() {
				apply(r)
			}
			pos = r.Offset + 1
		})
	}
	return nil
}

func boundsOf(ctx context.Context, cl *kgo.Client, topic string, partition int32) (start, end int64, err error) {
	adm := kadm.NewClient(cl)
	// The end first: a start that moves on meanwhile shortens what is read.
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("asking for the end of %s: %w", topic, err)
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("asking for the start of %s: %w", topic, err)
	}
	for _, listed := range []kadm.ListedOffsets{ends, starts} {
		o, ok := listed.Lookup(topic, partition)
		if !ok {
			return 0, 0, fmt.Errorf("asking for the bounds of %s: it has no partition %d", topic, partition)
		}
		if o.Err != nil {
			return 0, 0, fmt.Errorf("asking for the bounds of %s: %w", topic, o.Err)
		}
		start, end = o.Offset, max(end, o.Offset)
	}
	return start, end, nil
}
