package attempts

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// clean makes a text that Postgres takes, whoever wrote the record: valid UTF-8
// without U+0000.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// fold adds a batch's new attempts to the health of their subscriptions, in the
// order of ids so that two sinks cannot deadlock, and disables what has failed
// enough. Attempts from before a subscription was last enabled do not count.
func (s *Sink) fold(ctx context.Context, tx *store.Tx, as []store.Written) (f folded, err error) {
	by := map[schemas.SubscriptionID][]*store.Written{}
	for i := range as {
		if a := &as[i]; a.CountsForHealth() {
			by[a.SubscriptionID] = append(by[a.SubscriptionID], a)
		}
	}
	if len(by) == 0 {
		return f, nil
	}
	ids := make([]schemas.SubscriptionID, 0, len(by))
	for id := range by {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	since, err := tx.EnabledSince(ctx, ids)
	if err != nil {
		return f, err
	}
	for _, id := range ids {
		enabled, there := since[id]
		if !there {
			continue
		}
		if err := s.foldOne(ctx, tx, id, enabled, by[id], &f); err != nil {
			return f, err
		}
	}
	return f, nil
}

// folded is what a batch has written to the outbox: how many subscriptions it has
// disabled, and what of each subscription has changed.
type folded struct {
	disabled int
	changes  []change
}

// A change of a subscription's health is logged when it is committed.
type change struct {
	about *store.Subscription
	event schemas.EventType
	why   schemas.DisabledReason // of SubscriptionDisabled
}

func (s *Sink) log(ctx context.Context, changes []change) {
	for _, c := range changes {
		about := []slog.Attr{
			slog.String("subscription_id", string(c.about.ID)), slog.String("agent_id", string(c.about.AgentID)), slog.String("endpoint", webhook.Origin(c.about.URL)),
		}
		switch c.event {
		case schemas.SubscriptionRecovered:
			s.o.Logger.LogAttrs(ctx, slog.LevelInfo, "a subscription has recovered", about...)
		case schemas.SubscriptionDisabled:
			s.o.Logger.LogAttrs(ctx, slog.LevelWarn, "a subscription is disabled", append(about, slog.String("reason", string(c.why)))...)
		default:
			if at := c.about.FirstFailureAt; at != nil {
				about = append(about, slog.Time("failing_since", *at))
			}
			s.o.Logger.LogAttrs(ctx, slog.LevelWarn, "a subscription is failing", about...)
		}
	}
}

func (s *Sink) foldOne(ctx context.Context, tx *store.Tx, id schemas.SubscriptionID, enabled time.Time, as []*store.Written, done *folded) error {
	f, gone := summarise(id, enabled, as)
	h, there, err := tx.FoldHealth(ctx, f)
	if err != nil || !there || !h.Active {
		return err
	}
	for _, event := range news(h, f.LastSuccess != nil) {
		sub, err := tell(ctx, tx, id, event)
		if err != nil {
			return err
		}
		done.changes = append(done.changes, change{about: sub, event: event})
	}
	why := verdict(h, gone, time.Now(), s.o.DisableAfter)
	if why == "" {
		return nil
	}
	off, err := producers.Disable(ctx, tx, id, why, h.EnabledAt)
	if err != nil || !off {
		return err
	}
	sub, err := tx.Subscription(ctx, id)
	done.disabled++
	done.changes = append(done.changes, change{about: &sub, event: schemas.SubscriptionDisabled, why: why})
	return err
}

// failingAfter is how many attempts in a row may fail before the owner is told, if
// no delivery has run out of them before: with the default ladder that is five
// minutes after the first.
const failingAfter = 4

// tell notifies the owner, and notes that it was notified.
func tell(ctx context.Context, tx *store.Tx, id schemas.SubscriptionID, event schemas.EventType) (*store.Subscription, error) {
	sub, err := tx.Subscription(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := producers.TellOwner(ctx, tx, &sub, event); err != nil {
		return nil, err
	}
	return &sub, tx.NoteTold(ctx, id, event == schemas.SubscriptionFailing)
}

// news is what the owner is to be told after a fold, in order: once that the
// subscription fails, and once that it is well again. It is pure.
func news(h store.Health, succeeded bool) []schemas.EventType {
	var out []schemas.EventType
	told := h.ToldFailing
	if told && succeeded {
		out, told = append(out, schemas.SubscriptionRecovered), false
	}
	if !told && (h.FailedAttempts > 0 || h.FailuresSinceSuccess >= failingAfter) {
		out = append(out, schemas.SubscriptionFailing)
	}
	return out
}

// summarise is pure. Attempts count from the newest success on, in the order in
// which they began; one that replaces a failure is no second one.
func summarise(id schemas.SubscriptionID, enabled time.Time, as []*store.Written) (f store.HealthFold, gone bool) {
	f.ID = id
	as = slices.DeleteFunc(slices.Clone(as), func(a *store.Written) bool { return a.StartedAt.Before(enabled) })
	slices.SortStableFunc(as, func(a, b *store.Written) int { return a.StartedAt.Compare(b.StartedAt) })
	for _, a := range as {
		switch a.Outcome {
		case schemas.Delivered:
			f = store.HealthFold{ID: id, LastSuccess: &a.StartedAt}
			gone = false
			continue
		case schemas.Gone:
			gone = true
		case schemas.Dead, schemas.Retry, schemas.Withheld, schemas.Superseded:
		}
		if a.Instead == nil || !a.Instead.CountsForHealth() {
			f.Failures++
		}
		if f.FirstFailure == nil {
			f.FirstFailure = &a.StartedAt
		}
		if a.Final {
			f.Exhausted++
		}
	}
	return f, gone
}

// verdict says why a subscription must be disabled, or the empty reason: the
// receiver wants no more; too many deliveries in a row ran out of the ladder; or
// it has failed for too long, and often enough not to be a quiet endpoint with one
// bad moment.
func verdict(h store.Health, gone bool, now time.Time, after time.Duration) schemas.DisabledReason {
	switch {
	case gone:
		return schemas.DisabledByGone
	case h.FailedAttempts >= h.MaxFailedAttempts:
		return schemas.DisabledByFailures
	case h.FirstFailureAt != nil && now.Sub(*h.FirstFailureAt) >= after && h.FailuresSinceSuccess >= h.MaxFailedAttempts:
		return schemas.DisabledByTime
	}
	return ""
}
