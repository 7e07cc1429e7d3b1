package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ReadPartition hands the committed records of one partition to apply, in order,
// up to the high watermark that it had when it was called: whoever wrote before
// that is in it. cl is asked where the partition begins and ends; only where it
// holds something is another client made, of the given name.
func ReadPartition(ctx context.Context, cl *kgo.Client, c Config, name, topic string, partition int32, apply func(*kgo.Record)) error {
	pos, end, err := boundsOf(ctx, cl, topic, partition)
	if err != nil {
		return err
	}
	return readBetween(ctx, c, name, topic, partition, pos, end, apply)
}

// ReadSince is ReadPartition from the first record whose timestamp is since or
// later, and of at most the last most records. A partition that the topic does not
// have is kerr.UnknownTopicOrPartition.
func ReadSince(ctx context.Context, cl *kgo.Client, c Config, name, topic string, partition int32, since time.Time, most int64, apply func(*kgo.Record)) error {
	start, end, err := boundsOf(ctx, cl, topic, partition)
	if err != nil {
		return err
	}
	// Times below zero have meanings of their own.
	listed, err := kadm.NewClient(cl).ListOffsetsAfterMilli(ctx, max(since.UnixMilli(), 0), topic)
	if err != nil {
		return fmt.Errorf("asking where %s was at a time: %w", topic, err)
	}
	from, err := offsetIn(listed, topic, partition)
	if err != nil {
		return err
	}
	if from < 0 {
		return nil // no record is that young
	}
	return readBetween(ctx, c, name, topic, partition, max(start, from, end-most), end, apply)
}

func readBetween(ctx context.Context, c Config, name, topic string, partition int32, pos, end int64, apply func(*kgo.Record)) error {
	if pos >= end {
		return nil
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
	if end, err = offsetIn(ends, topic, partition); err != nil {
		return 0, 0, err
	}
	start, err = offsetIn(starts, topic, partition)
	return start, end, err
}

func offsetIn(listed kadm.ListedOffsets, topic string, partition int32) (int64, error) {
	o, ok := listed.Lookup(topic, partition)
	if !ok {
		return 0, fmt.Errorf("asking for the bounds of %s: it has no partition %d: %w", topic, partition, kerr.UnknownTopicOrPartition)
	}
	if o.Err != nil {
		return 0, fmt.Errorf("asking for the bounds of %s: %w", topic, o.Err)
	}
	return o.Offset, nil
}
