package api

import (
	"context"
	"net/http"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

type agentView struct {
	ID        schemas.AgentID `json:"id"`
	Name      string          `json:"name"`
	LiveKeys  int             `json:"live_keys"`
	CreatedAt time.Time       `json:"created_at"`
}

// keyView holds the key itself only in the answer that made it.
type keyView struct {
	ID                 schemas.KeyID   `json:"id"`
	AgentID            schemas.AgentID `json:"agent_id"`
	AgentName          string          `json:"agent_name"`
	Name               string          `json:"name"`
	Prefix             string          `json:"prefix"`
	Scopes             []string        `json:"scopes"`
	Platform           bool            `json:"platform"`
	RateLimitPerMinute int             `json:"rate_limit_per_minute"`
	State              store.KeyState  `json:"state"`
	ExpiresAt          *time.Time      `json:"expires_at"`
	RevokedAt          *time.Time      `json:"revoked_at"`
	LastUsedAt         *time.Time      `json:"last_used_at"`
	CreatedAt          time.Time       `json:"created_at"`
	Key                string          `json:"key,omitempty"`
	Replaced           *keyView        `json:"replaced,omitempty"`
}

func viewKey(k *store.Key) keyView {
	return keyView{
		ID: k.ID, AgentID: k.AgentID, AgentName: k.AgentName, Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes, Platform: k.Platform,
		RateLimitPerMinute: k.RateLimitPerMinute, State: k.State(time.Now()), ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt,
		LastUsedAt: k.LastUsedAt, CreatedAt: k.CreatedAt,
	}
}

func viewNewKey(a *producers.KeyAnswer) keyView {
	v := viewKey(&a.Key)
	v.Key = a.Secret.Reveal()
	if a.Replaced != nil {
		old := viewKey(a.Replaced)
		v.Replaced = &old
	}
	return v
}

type agentQuery struct {
	Limit  int `json:"limit" check:"min=1,max=100" default:"50"`
	Offset int `json:"offset" check:"min=0,max=1000000" default:"0"`
}

type agentPage struct {
	Agents        []agentView `json:"agents"`
	TotalCount    int         `json:"total_count"`
	ReturnedCount int         `json:"returned_count"`
	HasMore       bool        `json:"has_more"`
}

func (s *server) agents(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[agentQuery](r)
	if err != nil {
		return answer{}, err
	}
	var v agentPage
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		agents, total, err := tx.Agents(ctx, q.Limit, q.Offset)
		v.Agents, v.TotalCount, v.ReturnedCount = make([]agentView, len(agents)), total, len(agents)
		for i, a := range agents {
			v.Agents[i] = agentView(a)
		}
		return err
	})
	v.HasMore = nextOffset(q.Offset, v.ReturnedCount, v.TotalCount) != nil
	return answer{data: v}, err
}

type agentBody struct {
	Name string `json:"name" check:"required,min=1,max=255,line"`
}

func (s *server) createAgent(r *http.Request, p auth.Principal) (answer, error) {
	in, once, err := decodeOnce[agentBody](r)
	if err != nil {
		return answer{}, err
	}
	a, err := s.o.Producer.CreateAgent(r.Context(), p.Scope(), once, p.KeyID, in.Name)
	return answer{data: agentView(a), message: "Agent created"}, err
}

type keyQuery struct {
	AgentID  schemas.AgentID `json:"agent_id" check:"max=255"`
	LiveOnly bool            `json:"live_only"`
	Limit    int             `json:"limit" check:"min=1,max=100" default:"50"`
	Offset   int             `json:"offset" check:"min=0,max=1000000" default:"0"`
}

type keyPage struct {
	Keys          []keyView  `json:"keys"`
	TotalCount    int        `json:"total_count"`
	ReturnedCount int        `json:"returned_count"`
	HasMore       bool       `json:"has_more"`
	Filters       keyFilters `json:"filters_applied"`
}

type keyFilters struct {
	AgentID  *schemas.AgentID `json:"agent_id"`
	LiveOnly bool             `json:"live_only"`
}

func (s *server) keys(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[keyQuery](r)
	if err != nil {
		return answer{}, err
	}
	v := keyPage{Filters: keyFilters{orNull(q.AgentID), q.LiveOnly}}
	f := store.KeyFilter{Agent: q.AgentID, LiveOnly: q.LiveOnly, Limit: q.Limit, Offset: q.Offset}
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		keys, total, err := tx.Keys(ctx, f)
		v.Keys, v.TotalCount, v.ReturnedCount = make([]keyView, len(keys)), total, len(keys)
		for i := range keys {
			v.Keys[i] = viewKey(&keys[i])
		}
		return err
	})
	v.HasMore = nextOffset(q.Offset, v.ReturnedCount, v.TotalCount) != nil
	return answer{data: v}, err
}

type keyBody struct {
	AgentID            schemas.AgentID `json:"agent_id" check:"max=255,line"`
	AgentName          string          `json:"agent_name" check:"max=255,line"`
	Name               string          `json:"name" check:"required,min=1,max=255,line"`
	Environment        string          `json:"environment" check:"max=16,line" default:"live"`
	Scopes             []string        `json:"scopes" check:"required,min=1,max=20,each=100"`
	Platform           bool            `json:"platform"`
	RateLimitPerMinute int             `json:"rate_limit_per_minute" check:"min=0,max=1000000" default:"100"`
	ExpiresAt          *time.Time      `json:"expires_at"`
}

func (s *server) createKey(r *http.Request, p auth.Principal) (answer, error) {
	in, once, err := decodeOnce[keyBody](r)
	if err != nil {
		return answer{}, err
	}
	a, err := s.o.Producer.CreateKey(r.Context(), p.Scope(), once, p.KeyID, producers.NewKey(in))
	if err != nil {
		return answer{}, err
	}
	return answer{data: viewNewKey(&a), message: "API key created; keep it, it is not shown again"}, nil
}

func (s *server) revokeKey(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "key_id")
	if err != nil {
		return answer{}, err
	}
	k, err := s.o.Producer.RevokeKey(r.Context(), p.Scope(), p.KeyID, schemas.KeyID(id))
	return answer{data: viewKey(&k), message: "API key revoked"}, err
}

// rotationBody's bound keeps a key that was replaced from living on unnoticed.
type rotationBody struct {
	OverlapSeconds int        `json:"overlap_seconds" check:"min=0,max=2592000" default:"86400"`
	ExpiresAt      *time.Time `json:"expires_at"`
}

func (s *server) rotateKey(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "key_id")
	if err != nil {
		return answer{}, err
	}
	in, once, err := decodeOnce[rotationBody](r)
	if err != nil {
		return answer{}, err
	}
	rotation := producers.Rotation{Overlap: time.Duration(in.OverlapSeconds) * time.Second, ExpiresAt: in.ExpiresAt}
	a, err := s.o.Producer.RotateKey(r.Context(), p.Scope(), once, p.KeyID, schemas.KeyID(id), rotation)
	if err != nil {
		return answer{}, err
	}
	return answer{data: viewNewKey(&a), message: "API key rotated; keep the new one, it is not shown again"}, nil
}
