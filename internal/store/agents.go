package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// An Agent owns keys, subscriptions and bookings.
type Agent struct {
	ID        schemas.AgentID
	Name      string
	LiveKeys  int
	CreatedAt time.Time
}

const liveKey = ` k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) `

// Agents lists agents, the newest first, and counts all. It needs an
// administrator's scope.
func (t *Tx) Agents(ctx context.Context, limit, offset int) ([]Agent, int, error) {
	var total int
	if err := t.tx.QueryRow(ctx, `select count(*) from agents`).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("counting agents: %w", err)
	}
	rows, _ := t.tx.Query(ctx, `
		select a.id, a.name, (select count(*) from api_keys k where k.agent_id = a.id and`+liveKey+`), a.created_at
		from agents a order by a.created_at desc, a.id desc limit $1 offset $2`, limit, offset) // CollectRows reports the error
	agents, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Agent, error) {
		var a Agent
		err := row.Scan(&a.ID, &a.Name, &a.LiveKeys, &a.CreatedAt)
		a.CreatedAt = schemas.Stamp(a.CreatedAt)
		return a, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("listing agents: %w", err)
	}
	return agents, total, nil
}

// InsertAgent writes a new one.
func (t *Tx) InsertAgent(ctx context.Context, a *Agent) error {
	if _, err := t.tx.Exec(ctx, `insert into agents (id, name, created_at) values ($1, $2, $3)`, string(a.ID), a.Name, a.CreatedAt); err != nil {
		return fmt.Errorf("inserting agent %s: %w", a.ID, err)
	}
	return nil
}

// LockAgent gives an agent's name and keeps others from changing its keys. Of an
// agent's rows it is the first to be locked.
func (t *Tx) LockAgent(ctx context.Context, id schemas.AgentID) (name string, err error) {
	err = t.tx.QueryRow(ctx, `select name from agents where id = $1 for no key update`, string(id)).Scan(&name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", schemas.Errorf(schemas.NotFound, "agent_not_found", "there is no agent %q", id)
	case err != nil:
		return "", fmt.Errorf("locking agent %s: %w", id, err)
	}
	return name, nil
}

// KeysAllow are what an agent's live keys give its subscriptions.
type KeysAllow struct {
	Any      bool // there is a live key
	Platform bool // one that may write a subscription of every agent's bookings
}

// KeysAllow looks at an agent that is locked by this transaction.
func (t *Tx) KeysAllow(ctx context.Context, id schemas.AgentID) (KeysAllow, error) {
	var a KeysAllow
	err := t.tx.QueryRow(ctx, `
		select count(*) > 0, coalesce(bool_or(k.platform and k.scopes && $2), false)
		from api_keys k where k.agent_id = $1 and`+liveKey,
		string(id), []string{schemas.ScopeWebhooksManage, schemas.ScopeAdmin}).Scan(&a.Any, &a.Platform)
	if err != nil {
		return a, fmt.Errorf("reading what the keys of agent %s allow: %w", id, err)
	}
	return a, nil
}

// SubscriptionsBeyond are those of an agent that do more than its keys allow,
// locked in the order of their ids.
func (t *Tx) SubscriptionsBeyond(ctx context.Context, id schemas.AgentID, allow KeysAllow) ([]Subscription, error) {
	rows, _ := t.tx.Query(ctx, `select `+subscriptionColumns+fromSubscriptions+`
		where s.agent_id = $1 and (s.platform and not $2 or s.is_active and not $3)
		order by s.id for no key update of s`, string(id), allow.Platform, allow.Any) // CollectRows reports the error
	subs, err := pgx.CollectRows(rows, scanSubscription)
	if err != nil {
		return nil, fmt.Errorf("reading the subscriptions of agent %s: %w", id, err)
	}
	return subs, nil
}

// AgentsBeyondTheirKeys are agents, limit at most, that have a subscription which
// does more than their live keys allow, as keys that expired leave it. Those that
// never had a key are not among them.
func (t *Tx) AgentsBeyondTheirKeys(ctx context.Context, limit int) ([]schemas.AgentID, error) {
	rows, _ := t.tx.Query(ctx, `
		with allow as (
		  select k.agent_id, bool_or(`+liveKey+`) as living, bool_or(`+liveKey+` and k.platform and k.scopes && $1) as platform
		  from api_keys k group by k.agent_id)
		select distinct s.agent_id from webhook_subscriptions s join allow a using (agent_id)
		where s.platform and not a.platform or s.is_active and not a.living
		order by s.agent_id limit $2`,
		[]string{schemas.ScopeWebhooksManage, schemas.ScopeAdmin}, limit) // CollectRows reports the error
	ids, err := pgx.CollectRows(rows, pgx.RowTo[schemas.AgentID])
	if err != nil {
		return nil, fmt.Errorf("finding agents beyond their keys: %w", err)
	}
	return ids, nil
}
