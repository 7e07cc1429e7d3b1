package kafka

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/krib-ai/krib/schemas"
)

// CreateTopics creates those that are missing, with the cluster's default
// replication unless that is too little for its brokers, and leaves the others as they
// are: where nothing is missing, nobody has to be allowed to create anything. It waits
// until each can be described, so that a producer started next finds it.
func CreateTopics(ctx context.Context, cl *kgo.Client, topics []schemas.Topic) error {
	adm := kadm.NewClient(cl)
	topics, err := durable(ctx, adm, topics)
	if err != nil {
		return err
	}
	copies, err := copiesOn(ctx, adm)
	if err != nil {
		return err
	}
	// One request for all: a cluster takes about a second for each of its own.
	req := kmsg.NewPtrCreateTopicsRequest()
	for _, t := range topics {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.Name, t.Partitions, copies
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
		if err == nil || errors.Is(err, kerr.TopicAlreadyExists) || errors.Is(err, kerr.TopicAuthorizationFailed) && isThere(ctx, adm, t.Topic) {
			continue
		}
		if t.ErrorMessage != nil {
			err = fmt.Errorf("%w: %s", err, *t.ErrorMessage)
		}
		return fmt.Errorf("creating the topic %s: %w", t.Topic, err)
	}
	return waitForTopics(ctx, adm, topics)
}

// isThere says that a topic can be seen. It need not be asked for a topic that may be
// created: the client would tell from memory of one that was just deleted.
func isThere(ctx context.Context, adm *kadm.Client, topic string) bool {
	have, err := adm.ListTopics(ctx, topic)
	return err == nil && have[topic].Err == nil && len(have[topic].Partitions) > 0
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

// copiesOn is the replication to ask for: -1 for the cluster's default. That is 1
// where nobody has set it, also on many brokers, and with one copy every write
// would be refused for want of a second.
func copiesOn(ctx context.Context, adm *kadm.Client) (int16, error) {
	brokers, err := adm.ListBrokers(ctx)
	if err != nil {
		return 0, fmt.Errorf("listing the brokers: %w", err)
	}
	if len(brokers) < leastReplicas {
		return -1, nil
	}
	configs, err := adm.DescribeBrokerConfigs(ctx, brokers[0].NodeID)
	if _, denied := errors.AsType[*kadm.AuthError](err); denied {
		return -1, nil // to know is not needed, as long as the default is enough
	}
	if err != nil {
		return 0, fmt.Errorf("asking a broker for its settings: %w", err)
	}
	for _, c := range configs {
		for _, s := range c.Configs {
			if n, err := strconv.Atoi(s.MaybeValue()); s.Key == "default.replication.factor" && err == nil && n < leastReplicas {
				return leastReplicas, nil
			}
		}
	}
	return -1, nil // or the broker does not tell
}

func waitForTopics(ctx context.Context, adm *kadm.Client, topics []schemas.Topic) error {
	names := namesOf(topics)
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

func namesOf(topics []schemas.Topic) []string {
	names := make([]string, len(topics))
	for i := range topics {
		names[i] = topics[i].Name
	}
	return names
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
