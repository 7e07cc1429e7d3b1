package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/schemas"
)

var errIncomplete = errors.New("an event without id, type, booking or dates")

// A table is the subscriptions by what they match: an event looks at those of
// its agent and at the platform's, never at all.
type table struct {
	*kafka.Table
	log *slog.Logger

	filters *filters

	mu       sync.RWMutex
	byID     map[schemas.SubscriptionID]*schemas.Subscription
	byAgent  map[schemas.AgentID][]subscriber
	platform []subscriber
}

// A subscriber is a subscription and its compiled filter, nil if every event
// matches.
type subscriber struct {
	*schemas.Subscription
	filter *shared
	// notAsked says of one event that the filter was not asked about it.
	notAsked bool
}

func newTable(c kafka.Config, log *slog.Logger) (*table, error) {
	t := &table{
		log: log, filters: newFilters(log),
		byID: map[schemas.SubscriptionID]*schemas.Subscription{}, byAgent: map[schemas.AgentID][]subscriber{},
	}
	var err error
	t.Table, err = kafka.NewTable(c, "fanout-subscriptions", string(schemas.Subscriptions), t.apply)
	if err != nil {
		return nil, fmt.Errorf("making the subscription table: %w", err)
	}
	return t, nil
}

// apply takes a subscription's new state. One that cannot be decoded leaves the
// former state standing and does not stop the table; deliver reports it.
func (t *table) apply(r *kgo.Record) {
	id := schemas.SubscriptionID(r.Key)
	var next subscriber
	if r.Value != nil {
		s, err := schemas.Decode[schemas.Subscription](r.Value)
		if err != nil {
			t.log.ErrorContext(context.Background(), "a subscription record could not be decoded",
				slog.String("subscription", string(id)), slog.Int64("offset", r.Offset), slog.Any("error", err))
			return
		}
		s.URL = webhook.Shown(s.URL)                                    // an earlier version may have stored another form
		next = subscriber{Subscription: &s, filter: t.filters.take(&s)} // before the lock: matching does not wait for the compiler
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.byID[id]; old != nil {
		t.drop(id, old)
	}
	if next.Subscription != nil {
		t.put(id, next)
	}
}

func (t *table) put(id schemas.SubscriptionID, s subscriber) {
	t.byID[id] = s.Subscription
	if s.Platform {
		t.platform = append(t.platform, s)
		return
	}
	t.byAgent[s.AgentID] = append(t.byAgent[s.AgentID], s)
}

func (t *table) drop(id schemas.SubscriptionID, s *schemas.Subscription) {
	is := func(o subscriber) bool { return o.Subscription == s }
	delete(t.byID, id)
	t.platform = slices.DeleteFunc(t.platform, is)
	if rest := slices.DeleteFunc(t.byAgent[s.AgentID], is); len(rest) > 0 {
		t.byAgent[s.AgentID] = rest
	} else {
		delete(t.byAgent, s.AgentID)
	}
	t.filters.release(s)
}

// most is the largest number of subscriptions that one event can match.
func (t *table) most() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := 0
	for _, group := range t.byAgent {
		n = max(n, len(group))
	}
	return n + len(t.platform)
}

// matching are the subscribers of an event, whatever their filters say, in a
// stable order.
func (t *table) matching(agent schemas.AgentID, e schemas.EventType) []subscriber {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []subscriber
	for _, group := range [][]subscriber{t.byAgent[agent], t.platform} {
		for _, s := range group {
			if s.Matches(agent, e) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b subscriber) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}
