package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// subscriptionBody is whole on a PUT too, as in the contract: what it leaves out
// is at its default afterwards.
type subscriptionBody struct {
	AgentName     string                    `json:"agent_name" check:"required,min=1,max=255,line"`
	URL           string                    `json:"webhook_url" check:"required,min=1,max=2048,line"`
	Events        []schemas.EventType       `json:"events" check:"required,min=1,max=50,each=100"`
	APIKey        schemas.Secret            `json:"api_key" check:"required,min=10,max=500,line"`
	SigningSecret schemas.Secret            `json:"signing_secret" check:"min=1,max=200,line"`
	Description   string                    `json:"description" check:"max=500"`
	Filter        string                    `json:"filter" check:"max=2000"`
	Ordering      schemas.Ordering          `json:"ordering" check:"enum=none|booking|latest"`
	RateLimit     int                       `json:"rate_limit_per_minute" check:"min=0,max=1000000"`
	MaxFailed     int                       `json:"max_failed_attempts" check:"min=1,max=1000" default:"5"`
	Headers       map[string]schemas.Secret `json:"headers" check:"max=20,each=2000"`
	Signatures    []string                  `json:"signatures" check:"min=1,max=2,each=10"`
}

func (b *subscriptionBody) check(add func(field, rule, message string)) {
	checkSignatures(b.Signatures, add)
}

// The signatures that a request may carry. v1 is always there.
const (
	signatureV1  = "v1"
	signatureV1a = "v1a"
)

func checkSignatures(given []string, add func(field, rule, message string)) {
	for _, v := range given {
		if v != signatureV1 && v != signatureV1a {
			add("signatures", "enum", "may hold v1 and v1a")
			return
		}
	}
	if given != nil && !slices.Contains(given, signatureV1) {
		add("signatures", "required", "must hold v1, which every request carries")
	}
}

func (b *subscriptionBody) command() producers.NewSubscription {
	return producers.NewSubscription{
		AgentName: b.AgentName, URL: b.URL, Events: b.Events, APIKey: b.APIKey, SigningSecret: b.SigningSecret, Description: b.Description,
		Filter: b.Filter, Ordering: b.Ordering, RateLimit: b.RateLimit, MaxFailedAttempts: b.MaxFailed, Headers: b.Headers,
		Asymmetric: slices.Contains(b.Signatures, signatureV1a),
	}
}

// subscriptionView holds no secret but the one that its caller is shown once.
type subscriptionView struct {
	ID                 schemas.SubscriptionID  `json:"id"`
	AgentName          string                  `json:"agent_name"`
	URL                string                  `json:"webhook_url"`
	Events             []schemas.EventType     `json:"events"`
	Active             bool                    `json:"is_active"`
	FailedAttempts     int                     `json:"failed_attempts"`
	MaxFailedAttempts  int                     `json:"max_failed_attempts"`
	DisabledReason     *schemas.DisabledReason `json:"disabled_reason"`
	LastSuccessfulCall *time.Time              `json:"last_successful_call"`
	FailingSince       *time.Time              `json:"failing_since"`
	EnabledAt          time.Time               `json:"enabled_at"`
	Description        string                  `json:"description"`
	Filter             string                  `json:"filter"`
	Ordering           schemas.Ordering        `json:"ordering"`
	RateLimit          int                     `json:"rate_limit_per_minute"`
	HeaderNames        []string                `json:"header_names"`
	Signatures         []string                `json:"signatures"`
	Secrets            []secretView            `json:"secrets"`
	CreatedAt          time.Time               `json:"created_at"`
	UpdatedAt          time.Time               `json:"updated_at"`
	SigningSecret      string                  `json:"signing_secret,omitempty"`
}

// secretView tells of a secret that signs, and not the secret.
type secretView struct {
	Signature string     `json:"signature"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"`
	PublicKey *string    `json:"public_key"`
}

func viewSubscription(s *store.Subscription) subscriptionView {
	v := subscriptionView{
		ID: s.ID, AgentName: s.AgentName, URL: webhook.Shown(s.URL), Events: s.Events, Active: s.Active, FailedAttempts: s.FailedAttempts,
		MaxFailedAttempts: s.MaxFailedAttempts, DisabledReason: orNull(s.DisabledReason), LastSuccessfulCall: s.LastSuccessfulCall,
		FailingSince: s.FirstFailureAt, EnabledAt: s.EnabledAt, Description: s.Description, Filter: s.Filter,
		Ordering: cmp.Or(s.Ordering, schemas.OrderNone), RateLimit: s.RateLimit, HeaderNames: append([]string{}, s.HeaderNames...),
		Signatures: []string{signatureV1}, Secrets: []secretView{}, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt,
	}
	now := time.Now()
	for _, x := range s.Secrets {
		if x.ExpiresAt != nil && !x.ExpiresAt.After(now) {
			continue
		}
		sv := secretView{signatureV1, x.CreatedAt, x.ExpiresAt, orNull(x.PublicKey)}
		if x.Algorithm == schemas.SignEd25519 {
			sv.Signature = signatureV1a
			if x.ExpiresAt == nil {
				v.Signatures = append(v.Signatures, signatureV1a)
			}
		}
		v.Secrets = append(v.Secrets, sv)
	}
	return v
}

func (s *server) createSubscription(r *http.Request, p auth.Principal) (answer, error) {
	in, once, err := decodeOnce[subscriptionBody](r)
	if err != nil {
		return answer{}, err
	}
	a, err := s.o.Producer.CreateSubscription(r.Context(), p.Scope(), once, in.command())
	if err != nil {
		return answer{}, err
	}
	message := "Webhook subscription created; keep the signing secret, it is not shown again"
	if a.Existing {
		message = "This webhook subscription exists already"
	}
	v := viewSubscription(&a.Subscription)
	v.SigningSecret = a.SigningSecret.Reveal()
	return answer{data: v, message: message}, nil
}

type subscriptionQuery struct {
	ActiveOnly bool   `json:"active_only"`
	AgentName  string `json:"agent_name" check:"max=255"`
	Limit      int    `json:"limit" check:"min=1,max=100" default:"50"`
	Offset     int    `json:"offset" check:"min=0,max=1000000" default:"0"`
}

type subscriptionPage struct {
	Subscriptions []subscriptionView  `json:"subscriptions"`
	TotalCount    int                 `json:"total_count"`
	ReturnedCount int                 `json:"returned_count"`
	HasMore       bool                `json:"has_more"`
	Filters       subscriptionFilters `json:"filters_applied"`
}

type subscriptionFilters struct {
	ActiveOnly bool    `json:"active_only"`
	AgentName  *string `json:"agent_name"`
}

func (s *server) subscriptions(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[subscriptionQuery](r)
	if err != nil {
		return answer{}, err
	}
	v := subscriptionPage{Filters: subscriptionFilters{q.ActiveOnly, orNull(q.AgentName)}}
	f := store.SubscriptionFilter{ActiveOnly: q.ActiveOnly, AgentName: q.AgentName, Limit: q.Limit, Offset: q.Offset}
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		ss, total, err := tx.Subscriptions(ctx, f)
		v.Subscriptions, v.TotalCount, v.ReturnedCount = make([]subscriptionView, len(ss)), total, len(ss)
		for i := range ss {
			v.Subscriptions[i] = viewSubscription(&ss[i])
		}
		return err
	})
	v.HasMore = nextOffset(q.Offset, v.ReturnedCount, v.TotalCount) != nil
	return answer{data: v}, err
}

func (s *server) subscription(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	var v subscriptionView
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		sub, err := tx.Subscription(ctx, schemas.SubscriptionID(id))
		v = viewSubscription(&sub)
		return err
	})
	return answer{data: v}, err
}

func (s *server) updateSubscription(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	in, _, err := decode[subscriptionBody](r, strict)
	if err != nil {
		return answer{}, err
	}
	a, err := s.o.Producer.UpdateSubscription(r.Context(), p.Scope(), schemas.SubscriptionID(id), in.command())
	if err != nil {
		return answer{}, err
	}
	v := viewSubscription(&a.Subscription)
	v.SigningSecret = a.SigningSecret.Reveal()
	return answer{data: v, message: "Webhook subscription updated"}, nil
}

// subscriptionPatch leaves as it is what it does not name.
type subscriptionPatch struct {
	AgentName   *string                   `json:"agent_name" check:"min=1,max=255,line"`
	URL         *string                   `json:"webhook_url" check:"min=1,max=2048,line"`
	Events      []schemas.EventType       `json:"events" check:"min=1,max=50,each=100"`
	APIKey      *schemas.Secret           `json:"api_key" check:"min=10,max=500,line"`
	Description *string                   `json:"description" check:"max=500"`
	Filter      *string                   `json:"filter" check:"max=2000"`
	Ordering    *schemas.Ordering         `json:"ordering" check:"enum=none|booking|latest"`
	RateLimit   *int                      `json:"rate_limit_per_minute" check:"min=0,max=1000000"`
	MaxFailed   *int                      `json:"max_failed_attempts" check:"min=1,max=1000"`
	Headers     map[string]schemas.Secret `json:"headers" check:"max=20,each=2000"`
	Signatures  []string                  `json:"signatures" check:"min=1,max=2,each=10"`
	Active      *bool                     `json:"is_active"`
}

func (b *subscriptionPatch) check(add func(field, rule, message string)) {
	checkSignatures(b.Signatures, add)
}

func (s *server) patchSubscription(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	in, _, err := decode[subscriptionPatch](r, strict)
	if err != nil {
		return answer{}, err
	}
	c := producers.SubscriptionPatch{
		AgentName: in.AgentName, URL: in.URL, Events: in.Events, APIKey: in.APIKey, Description: in.Description, Filter: in.Filter,
		Ordering: in.Ordering, RateLimit: in.RateLimit, MaxFailedAttempts: in.MaxFailed, Headers: in.Headers, Active: in.Active,
	}
	if in.Signatures != nil {
		v1a := slices.Contains(in.Signatures, signatureV1a)
		c.Asymmetric = &v1a
	}
	sub, err := s.o.Producer.PatchSubscription(r.Context(), p.Scope(), schemas.SubscriptionID(id), c)
	if err != nil {
		return answer{}, err
	}
	return answer{data: viewSubscription(&sub), message: "Webhook subscription updated"}, nil
}

type secretRotationBody struct {
	SigningSecret schemas.Secret `json:"signing_secret" check:"min=1,max=200,line"`
	Overlap       int            `json:"overlap_seconds" check:"min=0,max=604800" default:"86400"`
}

// rotateSecret may come without a body: Krib makes the secret, and the former one
// goes on for a day.
func (s *server) rotateSecret(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	in, body, err := decodeOptional[secretRotationBody](r)
	if err != nil {
		return answer{}, err
	}
	once, err := idempotency(r, body)
	if err != nil {
		return answer{}, err
	}
	a, err := s.o.Producer.RotateSecret(r.Context(), p.Scope(), once, schemas.SubscriptionID(id), producers.SecretRotation{
		SigningSecret: in.SigningSecret, Overlap: time.Duration(in.Overlap) * time.Second,
	})
	if err != nil {
		return answer{}, err
	}
	v := viewSubscription(&a.Subscription)
	v.SigningSecret = a.SigningSecret.Reveal()
	return answer{data: v, message: "Signing secret rotated; keep the new one, it is not shown again"}, nil
}

type deletedSubscription struct {
	ID        schemas.SubscriptionID `json:"deleted_subscription_id"`
	AgentName string                 `json:"agent_name"`
}

func (s *server) deleteSubscription(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	sub, err := s.o.Producer.DeleteSubscription(r.Context(), p.Scope(), schemas.SubscriptionID(id))
	if err != nil {
		return answer{}, err
	}
	return answer{data: deletedSubscription{sub.ID, sub.AgentName}, message: "Webhook subscription deleted"}, nil
}

type toggledSubscription struct {
	ID        schemas.SubscriptionID `json:"subscription_id"`
	AgentName string                 `json:"agent_name"`
	Previous  bool                   `json:"previous_status"`
	New       bool                   `json:"new_status"`
}

// toggleSubscription takes no body. It is the one change that a repetition takes
// back, so a caller that is not sure gives an idempotency key.
func (s *server) toggleSubscription(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	once, err := idempotency(r, nil)
	if err != nil {
		return answer{}, err
	}
	a, err := s.o.Producer.ToggleSubscription(r.Context(), p.Scope(), once, schemas.SubscriptionID(id))
	if err != nil {
		return answer{}, err
	}
	message := "Webhook subscription disabled"
	if a.New {
		message = "Webhook subscription enabled"
	}
	return answer{data: toggledSubscription{a.ID, a.AgentName, a.Old, a.New}, message: message}, nil
}
