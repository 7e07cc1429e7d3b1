package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Written is what some topics hold since a time, by the records' ce_id. Whoever
// takes work over after a crash asks it what is there already.
//
// On Apache Kafka a transaction is there as a whole or not at all, and progress
// that was committed with the records says as much. The broker of `krib dev`
// writes the markers of a commit one partition after the other and takes what has
// none for aborted when it starts again: a kill in between leaves half a
// transaction. Trusting progress alone would lose its other half, or write the
// first half twice.
type Written struct {
	// Since is the time from which on everything is known.
	Since time.Time

	ids map[string]map[string]struct{} // by topic
}

// clockSkew is how far the clocks of a topic's writers may be apart.
const clockSkew = 30 * time.Second

// ReadWritten reads what was committed to the topics since the given time, less
// what clocks may differ by. It reads at the broker's speed and keeps ids only.
func ReadWritten(ctx context.Context, c Config, since time.Time, topics ...string) (*Written, error) {
	w := &Written{Since: since, ids: map[string]map[string]struct{}{}}
	for _, t := range topics {
		w.ids[t] = map[string]struct{}{}
	}
	c.Registry = nil // several may read at once, for a moment each
	cl, err := kgo.NewClient(append(c.Options("written"), kgo.KeepControlRecords())...)
	if err != nil {
		return nil, fmt.Errorf("making the reader: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	starts, err1 := adm.ListOffsetsAfterMilli(ctx, since.Add(-clockSkew).UnixMilli(), topics...)
	ends, err2 := adm.ListCommittedOffsets(ctx, topics...)
	if err := errors.Join(err1, err2, starts.Error(), ends.Error()); err != nil {
		return nil, fmt.Errorf("asking for the bounds of what was written: %w", err)
	}
	left := map[topicPartition]int64{} // ends that are still ahead
	from := map[string]map[int32]kgo.Offset{}
	starts.Each(func(s kadm.ListedOffset) {
		e, _ := ends.Lookup(s.Topic, s.Partition)
		if s.Offset < 0 || s.Offset >= e.Offset {
			return
		}
		if from[s.Topic] == nil {
			from[s.Topic] = map[int32]kgo.Offset{}
		}
		from[s.Topic][s.Partition] = kgo.NewOffset().At(s.Offset)
		left[topicPartition{s.Topic, s.Partition}] = e.Offset
	})
	cl.AddConsumePartitions(from)
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("reading what was written: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				w.ids[r.Topic][HeaderOf(r, "ce_id")] = struct{}{}
			}
			tp := topicPartition{r.Topic, r.Partition}
			if end, ok := left[tp]; ok && r.Offset+1 >= end {
				delete(left, tp)
			}
		})
	}
	return w, nil
}

// Has says whether the topic holds a record of the id. Records without an id are
// never known.
func (w *Written) Has(topic, id string) bool {
	_, ok := w.ids[topic][id]
	return ok && id != ""
}
