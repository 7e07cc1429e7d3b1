package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Offsets are positions by topic and partition.
type Offsets map[string]map[int32]int64

// Reached says whether a position is known and lies behind the record.
func (o Offsets) Reached(r *kgo.Record) (reached, known bool) {
	at, known := o[r.Topic][r.Partition]
	return known && at > r.Offset, known
}

// Patiently repeats ask while it fails with what Kafka calls retriable, for half a
// minute: a cluster that has just begun to keep groups has no coordinator for
// longer than the client itself is patient.
func Patiently(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := ask()
		if !kerr.IsRetriable(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// A Scanner reads parts of topics once, outside of any group. Close it.
type Scanner struct {
	c   Config
	cl  *kgo.Client
	adm *kadm.Client
}

// NewScanner makes a Scanner and its client for questions.
func NewScanner(c Config) (*Scanner, error) {
	c.Registry = nil // several may read at once, for a moment each
	cl, err := NewProducer(c, "scan")
	if err != nil {
		return nil, err
	}
	return &Scanner{c, cl, kadm.NewClient(cl)}, nil
}

// Close ends the client.
func (s *Scanner) Close() { s.cl.Close() }

// Ends are the high watermarks of topics. What was acknowledged before the question
// lies before them, also what a transaction wrote that is not ended yet.
func (s *Scanner) Ends(ctx context.Context, topics ...string) (Offsets, error) {
	if len(topics) == 0 {
		return Offsets{}, nil // no topics would mean all of them
	}
	return listed(topics)(s.adm.ListEndOffsets(ctx, topics...))
}

// Commits are what a group has committed for the topics; a partition without a
// commit is not in them.
func (s *Scanner) Commits(ctx context.Context, group string, topics ...string) (Offsets, error) {
	var got kadm.OffsetResponses
	err := Patiently(ctx, func() error {
		var err error
		if got, err = s.adm.FetchOffsets(ctx, group); err != nil {
			return err
		}
		return got.Error()
	})
	if errors.Is(err, kerr.GroupIDNotFound) { // it has never had a member
		return Offsets{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the offsets of %s: %w", group, err)
	}
	out := Offsets{}
	got.Each(func(o kadm.OffsetResponse) {
		if slices.Contains(topics, o.Topic) && o.At >= 0 {
			out.set(o.Topic, o.Partition, o.At)
		}
	})
	return out, nil
}

// Topics are the names that there are and that the function chooses.
func (s *Scanner) Topics(ctx context.Context, choose func(string) bool) ([]string, error) {
	got, err := s.adm.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	return slices.DeleteFunc(got.Names(), func(name string) bool { return !choose(name) }), nil
}

// Setting is a duration among a topic's settings, such as retention.ms; false
// where it is not limited.
func (s *Scanner) Setting(ctx context.Context, topic, name string) (time.Duration, bool, error) {
	got, err := s.adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0, false, fmt.Errorf("describing %s: %w", topic, err)
	}
	for _, r := range got {
		for _, c := range r.Configs {
			if c.Key == name {
				ms, err := strconv.ParseInt(c.MaybeValue(), 10, 64)
				return time.Duration(ms) * time.Millisecond, err == nil && ms >= 0 && ms < math.MaxInt64/int64(time.Millisecond), nil
			}
		}
	}
	return 0, false, nil
}

// Read hands every committed record between the time since (the zero time for the
// start) and the ends to each, in the order of each partition, and returns when
// all are read. It waits for transactions that are open before an end.
//
// Like a table it counts control records, and like there an end is a high
// watermark; see [Table].
func (s *Scanner) Read(ctx context.Context, since time.Time, ends Offsets, each func(*kgo.Record)) error {
	from, left, err := s.bounds(ctx, since, ends)
	if err != nil || len(left) == 0 {
		return err
	}
	cl, err := kgo.NewClient(append(s.c.Options("scan"), kgo.KeepControlRecords(), kgo.ConsumePartitions(from))...)
	if err != nil {
		return fmt.Errorf("making the reader: %w", err)
	}
	defer cl.Close()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			tp := topicPartition{r.Topic, r.Partition}
			end, ahead := left[tp]
			if !ahead {
				return
			}
			if r.Offset < end && !r.Attrs.IsControl() {
				each(r)
			}
			if r.Offset+1 >= end {
				delete(left, tp)
			}
		})
	}
	return nil
}

// bounds are where to begin in each partition that has something to read, and the
// ends that are still ahead.
func (s *Scanner) bounds(ctx context.Context, since time.Time, ends Offsets) (map[string]map[int32]kgo.Offset, map[topicPartition]int64, error) {
	topics := make([]string, 0, len(ends))
	for t := range ends {
		topics = append(topics, t)
	}
	if len(topics) == 0 {
		return nil, nil, nil
	}
	starts, err := listed(topics)(s.adm.ListStartOffsets(ctx, topics...))
	if err == nil && !since.IsZero() {
		starts, err = listed(topics)(s.adm.ListOffsetsAfterMilli(ctx, since.UnixMilli(), topics...))
	}
	if err != nil {
		return nil, nil, err
	}
	from, left := map[string]map[int32]kgo.Offset{}, map[topicPartition]int64{}
	for topic, parts := range ends {
		for p, end := range parts {
			start, ok := starts[topic][p]
			if !ok || start < 0 || start >= end {
				continue
			}
			if from[topic] == nil {
				from[topic] = map[int32]kgo.Offset{}
			}
			from[topic][p] = kgo.NewOffset().At(start)
			left[topicPartition{topic, p}] = end
		}
	}
	return from, left, nil
}

func (o Offsets) set(topic string, p int32, at int64) {
	if o[topic] == nil {
		o[topic] = map[int32]int64{}
	}
	o[topic][p] = at
}

// listed makes Offsets of an answer. A topic that is not there is an error.
func listed(topics []string) func(kadm.ListedOffsets, error) (Offsets, error) {
	return func(got kadm.ListedOffsets, err error) (Offsets, error) {
		if err := errors.Join(err, got.Error()); err != nil {
			return nil, fmt.Errorf("asking for the bounds of %v: %w", topics, err)
		}
		out := Offsets{}
		got.Each(func(o kadm.ListedOffset) { out.set(o.Topic, o.Partition, o.Offset) })
		return out, nil
	}
}
