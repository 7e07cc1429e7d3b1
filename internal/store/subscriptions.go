package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// A Subscription is the record of the topic with what only Postgres holds.
type Subscription struct {
	schemas.Subscription
	// BodyHash is of the request that made it, to recognise the same one again.
	BodyHash           []byte
	MaxFailedAttempts  int
	FailedAttempts     int
	LastSuccessfulCall *time.Time
	// FirstFailureAt is when the first attempt failed since the last success, or
	// since it was switched on; nil while it is well.
	FirstFailureAt *time.Time
}

const subscriptionColumns = `
s.id, s.version, s.agent_id, s.agent_name, s.webhook_url, s.events, s.platform, s.is_active, s.disabled_reason,
s.enabled_at, s.sealed_api_key, s.secrets, s.created_at, s.updated_at, s.body_hash, s.max_failed_attempts,
s.description, s.filter, s.ordering, s.rate_limit_per_minute, s.sealed_headers, s.header_names,
coalesce(h.failed_attempts, 0), h.last_successful_call, h.first_failure_at`

const fromSubscriptions = ` from webhook_subscriptions s left join webhook_health h on h.subscription_id = s.id `

func scanSubscription(row pgx.CollectableRow) (Subscription, error) {
	var s Subscription
	err := row.Scan(&s.ID, &s.Version, &s.AgentID, &s.AgentName, &s.URL, &s.Events, &s.Platform, &s.Active, &s.DisabledReason,
		&s.EnabledAt, &s.SealedAPIKey, &s.Secrets, &s.CreatedAt, &s.UpdatedAt, &s.BodyHash, &s.MaxFailedAttempts,
		&s.Description, &s.Filter, &s.Ordering, &s.RateLimit, &s.SealedHeaders, &s.HeaderNames,
		&s.FailedAttempts, &s.LastSuccessfulCall, &s.FirstFailureAt)
	for _, t := range []*time.Time{&s.EnabledAt, &s.CreatedAt, &s.UpdatedAt, s.LastSuccessfulCall, s.FirstFailureAt} {
		if t != nil {
			*t = schemas.Stamp(*t)
		}
	}
	return s, err
}

// Subscription is one that the scope may see.
func (t *Tx) Subscription(ctx context.Context, id schemas.SubscriptionID) (Subscription, error) {
	return t.oneSubscription(ctx, id, "")
}

// LockSubscription reads one and keeps others from changing it until the
// transaction ends.
func (t *Tx) LockSubscription(ctx context.Context, id schemas.SubscriptionID) (Subscription, error) {
	return t.oneSubscription(ctx, id, " for no key update of s")
}

func (t *Tx) oneSubscription(ctx context.Context, id schemas.SubscriptionID, rest string) (Subscription, error) {
	rows, _ := t.tx.Query(ctx, `select `+subscriptionColumns+fromSubscriptions+`where s.id = $1`+rest, string(id)) // CollectExactlyOneRow reports the error
	s, err := pgx.CollectExactlyOneRow(rows, scanSubscription)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, schemas.Errorf(schemas.NotFound, "subscription_not_found", "there is no webhook subscription %q", id)
	case err != nil:
		return s, fmt.Errorf("reading subscription %s: %w", id, err)
	}
	return s, nil
}

// SubscriptionByURL finds the agent's own subscription of a URL, locked, or nil.
func (t *Tx) SubscriptionByURL(ctx context.Context, a schemas.AgentID, url string) (*Subscription, error) {
	rows, _ := t.tx.Query(ctx, `select `+subscriptionColumns+fromSubscriptions+`
		where s.agent_id = $1 and s.webhook_url = $2 for no key update of s`, string(a), url) // CollectExactlyOneRow reports the error
	s, err := pgx.CollectExactlyOneRow(rows, scanSubscription)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil // none is an answer
	case err != nil:
		return nil, fmt.Errorf("reading the subscription of a URL: %w", err)
	}
	return &s, nil
}

// A SubscriptionFilter narrows a list; zero members do not filter.
type SubscriptionFilter struct {
	ActiveOnly    bool
	AgentName     string // a part of it, in any case
	Agent         schemas.AgentID
	Event         schemas.EventType // that it asks for
	Limit, Offset int
}

// Subscriptions lists what the scope may see, the newest first, and counts all
// that match.
func (t *Tx) Subscriptions(ctx context.Context, f SubscriptionFilter) ([]Subscription, int, error) {
	if t.scope.Agent != "" && !t.scope.Platform {
		// Row level security says so too, but as the other half of the platform's sight;
		// no index can be used by that.
		f.Agent = t.scope.Agent
	}
	const where = ` where (not $1 or s.is_active) and ($2 = '' or s.agent_name ilike '%' || $2 || '%')
		and ($3 = '' or s.agent_id = $3) and ($4 = '' or $4 = any(s.events)) `
	args := []any{f.ActiveOnly, likeEscape(f.AgentName), string(f.Agent), string(f.Event)}
	var total int
	if err := t.tx.QueryRow(ctx, `select count(*) from webhook_subscriptions s`+where, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("counting subscriptions: %w", err)
	}
	rows, _ := t.tx.Query(ctx, `select `+subscriptionColumns+fromSubscriptions+where+`
		order by s.created_at desc, s.id desc limit $5 offset $6`, append(args, f.Limit, f.Offset)...) // CollectRows reports the error
	ss, err := pgx.CollectRows(rows, scanSubscription)
	if err != nil {
		return nil, 0, fmt.Errorf("listing subscriptions: %w", err)
	}
	return ss, total, nil
}

// ErrURLTaken says that the agent has a subscription of that URL already.
var ErrURLTaken = errors.New("the agent has a subscription of this URL")

// InsertSubscription writes a new one and its empty health.
func (t *Tx) InsertSubscription(ctx context.Context, s *Subscription) error {
	_, err := t.tx.Exec(ctx, `
		insert into webhook_subscriptions (id, version, agent_id, agent_name, webhook_url, events, platform, is_active,
		  disabled_reason, enabled_at, sealed_api_key, secrets, body_hash, max_failed_attempts, created_at, updated_at,
		  description, filter, ordering, rate_limit_per_minute, sealed_headers, header_names)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)`,
		string(s.ID), s.Version, string(s.AgentID), s.AgentName, s.URL, texts(s.Events), s.Platform, s.Active, string(s.DisabledReason),
		s.EnabledAt, s.SealedAPIKey, s.Secrets, s.BodyHash, s.MaxFailedAttempts, s.CreatedAt, s.UpdatedAt,
		s.Description, s.Filter, cmp.Or(string(s.Ordering), string(schemas.OrderNone)), s.RateLimit, s.SealedHeaders, texts(s.HeaderNames))
	switch {
	case violates(err, "webhook_subscriptions_url_unique"):
		return ErrURLTaken
	case err != nil:
		return fmt.Errorf("inserting subscription %s: %w", s.ID, err)
	}
	_, err = t.tx.Exec(ctx, `insert into webhook_health (subscription_id, agent_id) values ($1, $2)`, string(s.ID), string(s.AgentID))
	if err != nil {
		return fmt.Errorf("inserting the health of subscription %s: %w", s.ID, err)
	}
	return nil
}

// SaveSubscription writes every column but the owner. The row must be locked by
// this transaction, which must publish it too.
func (t *Tx) SaveSubscription(ctx context.Context, s *Subscription) error {
	_, err := t.tx.Exec(ctx, `
		update webhook_subscriptions set version = $2, agent_name = $3, webhook_url = $4, events = $5, platform = $6,
		  is_active = $7, disabled_reason = $8, enabled_at = $9, sealed_api_key = $10, secrets = $11, body_hash = $12,
		  max_failed_attempts = $13, updated_at = $14, description = $15, filter = $16, ordering = $17,
		  rate_limit_per_minute = $18, sealed_headers = $19, header_names = $20, unpublished = false
		where id = $1`,
		string(s.ID), s.Version, s.AgentName, s.URL, texts(s.Events), s.Platform, s.Active, string(s.DisabledReason), s.EnabledAt,
		s.SealedAPIKey, s.Secrets, s.BodyHash, s.MaxFailedAttempts, s.UpdatedAt, s.Description, s.Filter,
		cmp.Or(string(s.Ordering), string(schemas.OrderNone)), s.RateLimit, s.SealedHeaders, texts(s.HeaderNames))
	switch {
	case violates(err, "webhook_subscriptions_url_unique"):
		return ErrURLTaken
	case err != nil:
		return fmt.Errorf("saving subscription %s: %w", s.ID, err)
	}
	return nil
}

// UnpublishedSubscriptions are up to limit that DisableFailedSubscriptions has
// changed and that nobody has published since, locked in the order of their ids.
// It passes over those that somebody else has locked.
func (t *Tx) UnpublishedSubscriptions(ctx context.Context, limit int) ([]Subscription, error) {
	rows, _ := t.tx.Query(ctx, `select `+subscriptionColumns+fromSubscriptions+`
		where s.unpublished order by s.id limit $1 for no key update of s skip locked`, limit) // CollectRows reports the error
	subs, err := pgx.CollectRows(rows, scanSubscription)
	if err != nil {
		return nil, fmt.Errorf("reading unpublished subscriptions: %w", err)
	}
	return subs, nil
}

// DeleteSubscription removes one that was locked by this transaction.
func (t *Tx) DeleteSubscription(ctx context.Context, id schemas.SubscriptionID) error {
	if _, err := t.tx.Exec(ctx, `delete from webhook_subscriptions where id = $1`, string(id)); err != nil {
		return fmt.Errorf("deleting subscription %s: %w", id, err)
	}
	return nil
}

func texts[T ~string](in []T) []string {
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = string(v)
	}
	return out
}

// SameBody says whether the subscription was made by the same request body.
func (s *Subscription) SameBody(hash []byte) bool { return bytes.Equal(s.BodyHash, hash) }
