package kafka

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/krib-ai/krib/schemas"
)

// A Drift is one way in which a topic of the cluster differs from what it should
// be. A missing topic has Setting "topic".
type Drift struct {
	Topic, Setting, Want, Got string
}

func (d Drift) String() string {
	return fmt.Sprintf("%s: %s is %q, should be %q", d.Topic, d.Setting, d.Got, d.Want)
}

// CreateTopics creates those that are missing, with the cluster's default
// replication, and leaves the others as they are. It waits until each can be
// described, so that a producer started next finds it.
func CreateTopics(ctx context.Context, cl *kgo.Client, topics []schemas.Topic) error {
	adm := kadm.NewClient(cl)
	topics, err := durable(ctx, adm, topics)
	if err != nil {
		return err
	}
	// One request for all: a cluster takes about a second for each of its own.
	req := kmsg.NewPtrCreateTopicsRequest()
	for _, t := range topics {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.Name, t.Partitions, -1
		for _, k := range slices.Sorted(maps.Keys(t.Config)) {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = k, new(t.Config[k])
			rt.Configs = append(rt.Configs, c)
		}
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("creating the topics: %w", err)
	}
	for _, t := range resp.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
			continue
		}
		if t.ErrorMessage != nil {
			err = fmt.Errorf("%w: %s", err, *t.ErrorMessage)
		}
		return fmt.Errorf("creating the topic %s: %w", t.Topic, err)
	}
	return waitForTopics(ctx, adm, topics)
}

// durable adds what three brokers allow: an acknowledgement means two copies, so
// one broker may be lost at any moment. With fewer it would refuse every write.
func durable(ctx context.Context, adm *kadm.Client, topics []schemas.Topic) ([]schemas.Topic, error) {
	brokers, err := adm.ListBrokers(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the brokers: %w", err)
	}
	out := slices.Clone(topics)
	if len(brokers) < 3 {
		return out, nil
	}
	for i := range out {
		out[i].Config = maps.Clone(out[i].Config)
		out[i].Config["min.insync.replicas"] = "2"
	}
	return out, nil
}

func waitForTopics(ctx context.Context, adm *kadm.Client, topics []schemas.Topic) error {
	names := make([]string, len(topics))
	for i := range topics {
		names[i] = topics[i].Name
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := adm.ListTopics(ctx, names...)
		if err == nil && got.Error() == nil && allLed(got) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the topics: %w", errors.Join(ctx.Err(), err, got.Error()))
		case <-tick.C:
		}
	}
}

func allLed(ts kadm.TopicDetails) bool {
	for _, t := range ts {
		for _, p := range t.Partitions {
			if p.Err != nil || p.Leader < 0 {
				return false
			}
		}
	}
	return true
}

// Diff compares the cluster's topics with what they should be.
func Diff(ctx context.Context, cl *kgo.Client, topics []schemas.Topic) ([]Drift, error) {
	adm := kadm.NewClient(cl)
	topics, err := durable(ctx, adm, topics)
	if err != nil {
		return nil, err
	}
	have, err := adm.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	var out []Drift
	for _, want := range topics {
		got, ok := have[want.Name]
		if !ok || got.Err != nil {
			out = append(out, Drift{want.Name, "topic", "present", "missing"})
			continue
		}
		if n := int32(len(got.Partitions)); n != want.Partitions {
			out = append(out, Drift{want.Name, "partitions", fmt.Sprint(want.Partitions), fmt.Sprint(n)})
		}
		d, err := diffConfig(ctx, adm, want)
		if err != nil {
			return nil, err
		}
		out = append(out, d...)
	}
	return out, nil
}

func diffConfig(ctx context.Context, adm *kadm.Client, want schemas.Topic) ([]Drift, error) {
	rs, err := adm.DescribeTopicConfigs(ctx, want.Name)
	if err != nil {
		return nil, fmt.Errorf("describing %s: %w", want.Name, err)
	}
	got := map[string]string{}
	for _, r := range rs {
		for _, c := range r.Configs {
			got[c.Key] = c.MaybeValue()
		}
	}
	var out []Drift
	for _, k := range slices.Sorted(maps.Keys(want.Config)) {
		if got[k] != want.Config[k] {
			out = append(out, Drift{want.Name, k, want.Config[k], got[k]})
		}
	}
	return out, nil
}

// FeedOf describes the life of host.notifications that cursors belong to.
func FeedOf(ctx context.Context, cl *kgo.Client) (schemas.Feed, error) {
	return LifeOf(ctx, cl, string(schemas.HostNotifications))
}

// LifeOf describes the present life of a topic: positions mean something within
// one only.
func LifeOf(ctx context.Context, cl *kgo.Client, name string) (schemas.Feed, error) {
	ts, err := kadm.NewClient(cl).ListTopics(ctx, name)
	if err == nil {
		err = ts[name].Err
	}
	if err != nil {
		return schemas.Feed{}, fmt.Errorf("describing %s: %w", name, err)
	}
	t := ts[name]
	return schemas.Feed{TopicID: hex.EncodeToString(t.ID[:]), Partitions: int32(len(t.Partitions))}, nil
}
