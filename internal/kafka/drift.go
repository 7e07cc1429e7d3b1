package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

// A Drift is one way in which a topic of the cluster differs from what it should
// be. A missing topic has Setting "topic".
type Drift struct {
	Topic, Setting, Want, Got string
	// Refused is why [Repair] leaves it as it is; empty when it is safe to repair.
	Refused string
	// Loses says that Repair can be forced, and that records are deleted then.
	Loses bool
}

func (d Drift) String() string {
	return fmt.Sprintf("%s: %s is %q, should be %q", d.Topic, d.Setting, d.Got, d.Want)
}

// What a Drift is about, beside names of Kafka's own settings.
const (
	settingTopic       = "topic"
	settingPartitions  = "partitions"
	settingReplication = "replication"

	cleanupPolicy    = "cleanup.policy"
	retention        = "retention.ms"
	retentionBytes   = "retention.bytes"
	minCompactionLag = "min.compaction.lag.ms"
	maxCompactionLag = "max.compaction.lag.ms"
	minInsync        = "min.insync.replicas"
)

// leastReplicas is what min.insync.replicas=2 needs for one broker to be away and
// writes to go on. With fewer brokers nothing is asked for.
const leastReplicas = 3

// A differ compares topics with what they should be.
type differ struct {
	adm     *kadm.Client
	now     time.Time
	brokers int
}

// Diff compares the cluster's topics with what they should be, and says of each
// difference whether repairing it would do harm.
func Diff(ctx context.Context, cl *kgo.Client, topics []schemas.Topic) ([]Drift, error) {
	d := &differ{adm: kadm.NewClient(cl), now: time.Now()}
	topics, err := durable(ctx, d.adm, topics)
	if err != nil {
		return nil, err
	}
	brokers, err := d.adm.ListBrokers(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the brokers: %w", err)
	}
	d.brokers = len(brokers)
	// By their names: of all topics, the client would tell from memory and leave out
	// those that it has just changed.
	have, err := d.adm.ListTopics(ctx, namesOf(topics)...)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	var out []Drift
	for _, want := range topics {
		got, ok := have[want.Name]
		if got.Err != nil && !errors.Is(got.Err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("describing %s: %w", want.Name, got.Err)
		}
		if !ok || got.Err != nil {
			out = append(out, Drift{Topic: want.Name, Setting: settingTopic, Want: "present", Got: "missing"})
			continue
		}
		out = append(out, d.layout(want, got)...)
		settings, err := d.settings(ctx, want, replicasOf(got))
		if err != nil {
			return nil, err
		}
		out = append(out, settings...)
	}
	return out, nil
}

// layout compares what a topic is made of.
func (d *differ) layout(want schemas.Topic, got kadm.TopicDetail) (out []Drift) {
	if n := int32(len(got.Partitions)); n != want.Partitions {
		drift := Drift{Topic: want.Name, Setting: settingPartitions, Want: fmt.Sprint(want.Partitions), Got: fmt.Sprint(n)}
		switch {
		case n > want.Partitions:
			drift.Refused = "partitions cannot be taken away: say how many there are"
		case want.Keyed():
			drift.Refused = "its keys would move to other partitions, away from their earlier records and out of their order"
		}
		out = append(out, drift)
	}
	if n := replicasOf(got); d.brokers >= leastReplicas && n < leastReplicas {
		out = append(out, Drift{
			Topic: want.Name, Setting: settingReplication, Want: fmt.Sprint(leastReplicas), Got: fmt.Sprint(n),
			Refused: "copies are made by a reassignment, which moves data between brokers: see kafka-reassign-partitions.sh",
		})
	}
	return out
}

// replicasOf is the number of copies that the least copied partition has.
func replicasOf(t kadm.TopicDetail) int {
	least := math.MaxInt
	for _, p := range t.Partitions {
		least = min(least, len(p.Replicas))
	}
	return least
}

func (d *differ) settings(ctx context.Context, want schemas.Topic, replicas int) ([]Drift, error) {
	got, err := settingsOf(ctx, d.adm, want.Name)
	if err != nil {
		return nil, err
	}
	config := maps.Clone(want.Config)
	if v, known := got[retentionBytes]; known && v != "" {
		// Nobody asks for a bound in bytes, which would delete whatever else is said.
		config[retentionBytes] = "-1"
	}
	var out []Drift
	for _, k := range slices.Sorted(maps.Keys(config)) {
		if got[k] == config[k] {
			continue
		}
		drift := Drift{Topic: want.Name, Setting: k, Want: config[k], Got: got[k]}
		if err := d.judge(ctx, &drift, config, replicas); err != nil {
			return nil, err
		}
		out = append(out, drift)
	}
	return together(out), nil
}

// together lets the lags of compaction wait for each other: a longest one below the
// least is no valid setting.
func together(drifts []Drift) []Drift {
	for _, least := range drifts {
		for i := range drifts {
			if least.Setting == minCompactionLag && least.Refused != "" && drifts[i].Setting == maxCompactionLag {
				drifts[i].Refused, drifts[i].Loses = least.Refused, least.Loses
			}
		}
	}
	return drifts
}

func settingsOf(ctx context.Context, adm *kadm.Client, topic string) (map[string]string, error) {
	rs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("describing %s: %w", topic, err)
	}
	got := map[string]string{}
	for _, r := range rs {
		for _, c := range r.Configs {
			got[c.Key] = c.MaybeValue()
		}
	}
	return got, nil
}

// judge says what speaks against repairing a setting. What keeps records longer, or
// more of them, is safe; what keeps less is so only as long as there is nothing
// that it would delete.
func (d *differ) judge(ctx context.Context, drift *Drift, config map[string]string, replicas int) error {
	switch drift.Setting {
	case retention, minCompactionLag:
		if shorter(drift.Want, drift.Got) {
			return d.refuseIfOlder(ctx, drift, drift.Want)
		}
	case cleanupPolicy:
		if !strings.Contains(drift.Want, "compact") {
			return d.refuseIfOlder(ctx, drift, config[retention])
		}
	case minInsync:
		if n, err := strconv.Atoi(drift.Want); err == nil && replicas < n {
			drift.Refused = fmt.Sprintf("with %d copies every write would be refused", replicas)
		}
	}
	return nil
}

// refuseIfOlder looks for what would be deleted if so many milliseconds were kept.
func (d *differ) refuseIfOlder(ctx context.Context, drift *Drift, least string) error {
	ms, err := strconv.ParseInt(least, 10, 64)
	if err != nil {
		return fmt.Errorf("%s is to be kept for %q: %w", drift.Topic, least, err)
	}
	age := time.Duration(ms) * time.Millisecond
	older, err := d.hasOlder(ctx, drift.Topic, age)
	if err == nil && older {
		drift.Refused, drift.Loses = fmt.Sprintf("records that are older than %s would be deleted", age), true
	}
	return err
}

// shorter compares two spans in milliseconds, of which a negative one has no end.
func shorter(want, got string) bool {
	w, err := strconv.ParseInt(want, 10, 64)
	g, wrong := strconv.ParseInt(got, 10, 64)
	return err == nil && wrong == nil && w >= 0 && (g < 0 || w < g)
}

// hasOlder says whether a topic has records of more than this age.
func (d *differ) hasOlder(ctx context.Context, topic string, age time.Duration) (bool, error) {
	starts, err := listed([]string{topic})(d.adm.ListStartOffsets(ctx, topic))
	if err != nil {
		return false, err
	}
	younger, err := listed([]string{topic})(d.adm.ListOffsetsAfterMilli(ctx, d.now.Add(-age).UnixMilli(), topic))
	if err != nil {
		return false, err
	}
	for p, start := range starts[topic] {
		if younger[topic][p] > start {
			return true, nil
		}
	}
	return false, nil
}
