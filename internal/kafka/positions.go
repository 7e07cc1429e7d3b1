package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

// FromPositions are the options of a reader without a group, from exact positions
// of a topic's partitions.
func FromPositions(topic string, positions map[int32]int64) []kgo.Opt {
	from := make(map[int32]kgo.Offset, len(positions))
	for p, pos := range positions {
		from[p] = kgo.NewOffset().At(pos)
	}
	return []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		// A commit marker has an offset and a position may lie behind it, so positions
		// must move over markers. Without them a head that is a marker, and nearly all
		// are, would never be reached.
		kgo.KeepControlRecords(),
		// Out of range is for the caller to decide. A silent reset would be a silent
		// gap.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// A partition that resumes joins the next fetch, and the one in flight waits
		// this long at the broker when the others are quiet. The default is 5 s.
		kgo.FetchMaxWait(250 * time.Millisecond),
		kgo.FetchMaxBytes(8 << 20),
		kgo.FetchMaxPartitionBytes(1 << 20),
	}
}

// ErrRecreated says that a topic is not the one that was meant: positions belong to
// its former life.
var ErrRecreated = errors.New("the topic was created anew")

// Bounds are where the log of each partition of a topic starts and where it is
// committed to. They are of the given life of the topic, or [ErrRecreated] is.
func Bounds(ctx context.Context, cl *kgo.Client, topic string, life schemas.Feed) (starts, ends kadm.ListedOffsets, err error) {
	now, err := LifeOf(ctx, cl, topic)
	if err != nil {
		return nil, nil, err
	}
	if now != life {
		return nil, nil, fmt.Errorf("%s: %w", topic, ErrRecreated)
	}
	adm := kadm.NewClient(cl)
	if starts, err = adm.ListStartOffsets(ctx, topic); err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("asking for the start of %s: %w", topic, err)
	}
	if ends, err = adm.ListCommittedOffsets(ctx, topic); err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("asking for the end of %s: %w", topic, err)
	}
	return starts, ends, nil
}
