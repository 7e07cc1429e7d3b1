package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

const trimEvery = 5 * time.Minute

// Run trims the log now and then until ctx ends, and then returns nil. A pass
// that fails is logged: the next one does its work too.
func (k *Kafka) Run(ctx context.Context) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		if err := k.Trim(ctx, time.Now()); err != nil && ctx.Err() == nil {
			k.log.LogAttrs(ctx, slog.LevelWarn, "trimming the embedded broker's log", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Trim is one pass: it deletes what is older than a topic's retention.ms from
// topics whose cleanup.policy is delete, and from no other. The start of a log
// is not written down before Close, so after a kill some deleted records are
// back until the next pass.
func (k *Kafka) Trim(ctx context.Context, now time.Time) error {
	admin, err := kadm.NewOptClient(k.clientOptions()...)
	if err != nil {
		return fmt.Errorf("connecting to the embedded broker: %w", err)
	}
	defer admin.Close()
	retention, err := retentions(ctx, admin)
	if err != nil {
		return err
	}
	for topic, keep := range retention {
		if err := trimTopic(ctx, admin, topic, now.Add(-keep)); err != nil {
			return fmt.Errorf("trimming %s: %w", topic, err)
		}
	}
	return nil
}

// retentions are the topics to trim. A topic that is also compacted is not among
// them: its last record of a key must stay for ever.
func retentions(ctx context.Context, admin *kadm.Client) (map[string]time.Duration, error) {
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	if len(topics) == 0 {
		return nil, nil
	}
	configs, err := admin.DescribeTopicConfigs(ctx, topics.Names()...)
	if err != nil {
		return nil, fmt.Errorf("reading topic settings: %w", err)
	}
	keep := make(map[string]time.Duration)
	for _, c := range configs {
		if c.Err != nil {
			continue // deleted since it was listed
		}
		ms, err := strconv.ParseInt(setting(c, "retention.ms"), 10, 64)
		if setting(c, "cleanup.policy") != "delete" || err != nil || ms < 0 {
			continue
		}
		keep[c.Name] = time.Duration(min(ms, never.Milliseconds())) * time.Millisecond
	}
	return keep, nil
}

func setting(c kadm.ResourceConfig, name string) string {
	for _, s := range c.Configs {
		if s.Key == name {
			return s.MaybeValue()
		}
	}
	return ""
}

// trimTopic asks for the ends before it asks for the first record to keep. When
// no record is young enough the second answer is the end of that later moment:
// without the bound, a record appended between the two answers would go with the
// old ones.
func trimTopic(ctx context.Context, admin *kadm.Client, topic string, before time.Time) error {
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("listing starts: %w", err)
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("listing ends: %w", err)
	}
	keep, err := admin.ListOffsetsAfterMilli(ctx, before.UnixMilli(), topic)
	if err != nil {
		return fmt.Errorf("listing offsets since %s: %w", before.Format(time.RFC3339), err)
	}
	to := make(kadm.Offsets)
	keep.Each(func(o kadm.ListedOffset) {
		start, known := starts.Lookup(topic, o.Partition)
		end, bounded := ends.Lookup(topic, o.Partition)
		if !known || !bounded || o.Err != nil || start.Err != nil || end.Err != nil {
			return
		}
		if at := min(o.Offset, end.Offset); at > start.Offset {
			to.Add(kadm.Offset{Topic: topic, Partition: o.Partition, At: at})
		}
	})
	deleted, err := admin.DeleteRecords(ctx, to)
	if err != nil {
		return fmt.Errorf("deleting records: %w", err)
	}
	return deleted.Error()
}
