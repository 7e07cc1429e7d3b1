package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

// Repair makes the cluster's topics what they should be, as far as it is safe, and
// waits until the cluster says so: it creates what is missing, changes settings, and
// adds partitions where keys do not matter. With force it also shortens what is
// kept where records are deleted for it.
//
// It returns what it has changed and what is left, each with the reason. Done
// again, it changes nothing.
func Repair(ctx context.Context, cl *kgo.Client, topics []schemas.Topic, force bool) (repaired, left []Drift, err error) {
	drifts, err := Diff(ctx, cl, topics)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range drifts {
		if d.Refused == "" || d.Loses && force {
			repaired = append(repaired, d)
		}
	}
	if len(repaired) == 0 {
		return nil, drifts, nil
	}
	if err := CreateTopics(ctx, cl, topics); err != nil {
		return nil, nil, err
	}
	adm := kadm.NewClient(cl)
	for _, t := range topics {
		if err := repair(ctx, adm, t.Name, repaired); err != nil {
			return nil, nil, err
		}
	}
	left, err = waitForRepair(ctx, cl, topics, repaired)
	return repaired, left, err
}

// repair changes one topic. Its settings change together: some, such as the two
// compaction lags, are valid only beside each other.
func repair(ctx context.Context, adm *kadm.Client, topic string, drifts []Drift) error {
	var settings []kadm.AlterConfig
	for _, d := range drifts {
		switch {
		case d.Topic != topic || d.Setting == settingTopic:
		case d.Setting == settingPartitions:
			n, err := strconv.Atoi(d.Want)
			if err != nil {
				return err
			}
			res, err := adm.UpdatePartitions(ctx, n, topic)
			if err = errors.Join(err, res.Error()); err != nil {
				return fmt.Errorf("adding partitions to %s: %w", topic, err)
			}
		default:
			settings = append(settings, kadm.AlterConfig{Op: kadm.SetConfig, Name: d.Setting, Value: &d.Want})
		}
	}
	if len(settings) == 0 {
		return nil
	}
	res, err := adm.AlterTopicConfigs(ctx, settings, topic)
	for _, r := range res {
		if r.Err != nil {
			err = errors.Join(err, fmt.Errorf("%w: %s", r.Err, r.ErrMessage))
		}
	}
	if err != nil {
		return fmt.Errorf("changing the settings of %s: %w", topic, err)
	}
	return nil
}

// waitForRepair asks until nothing of what was repaired differs any more, and
// returns what does.
func waitForRepair(ctx context.Context, cl *kgo.Client, topics []schemas.Topic, repaired []Drift) ([]Drift, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := Diff(ctx, cl, topics)
		again := slices.ContainsFunc(left, func(d Drift) bool {
			return slices.ContainsFunc(repaired, func(r Drift) bool { return r.Topic == d.Topic && r.Setting == d.Setting })
		})
		if err == nil && !again {
			return left, nil
		}
		select {
		case <-ctx.Done():
			return left, fmt.Errorf("waiting for the topics to change: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}
