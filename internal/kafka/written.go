package kafka

import (
	"context"
	"fmt"
	"time"

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
	if len(topics) == 0 {
		return w, nil
	}
	s, err := NewScanner(c)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	ends, err := listed(topics)(s.adm.ListCommittedOffsets(ctx, topics...))
	if err != nil {
		return nil, err
	}
	err = s.Read(ctx, since.Add(-clockSkew), ends, func(r *kgo.Record) { w.ids[r.Topic][HeaderOf(r, "ce_id")] = struct{}{} })
	if err != nil {
		return nil, fmt.Errorf("reading what was written: %w", err)
	}
	return w, nil
}

// Has says whether the topic holds a record of the id. Records without an id are
// never known.
func (w *Written) Has(topic, id string) bool {
	_, ok := w.ids[topic][id]
	return ok && id != ""
}
