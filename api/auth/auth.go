// Package auth says who calls the API: an agent by its API key, a host by a
// signed token. It decides nothing about what they may touch beyond the scopes
// that a key carries; the rows that they may see are row level security's.
package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"golang.org/x/time/rate"

	"github.com/krib-ai/krib/internal/caller"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// The scopes that a key may carry. Admin implies all others.
const (
	BookingsRead       = schemas.ScopeBookingsRead
	BookingsWrite      = schemas.ScopeBookingsWrite
	BookingsConfirm    = schemas.ScopeBookingsConfirm
	WebhooksManage     = schemas.ScopeWebhooksManage
	NotificationsWrite = schemas.ScopeNotificationsWrite
	EventsRead         = schemas.ScopeEventsRead
	Admin              = schemas.ScopeAdmin
)

// ShortestSecret is the least length of a JWTSecret in bytes.
const ShortestSecret = 16

// Options of an Auth. DB is required, and JWTSecret or JWKSURL.
type Options struct {
	DB *store.DB // in RoleAPI
	// JWTSecret verifies hosts' tokens signed with HS256; it has [ShortestSecret] bytes or more.
	JWTSecret []byte
	// JWKSURL is the key set of an identity provider that signs hosts' tokens. It
	// may be given beside a secret; its keys never verify a symmetric signature.
	JWKSURL string
	// Issuer and Audience, where set, must be those of the token.
	Issuer, Audience string
	// KeyCache is how long a valid key is believed without asking Postgres again,
	// and so how long a revoked one may live on. Default one second.
	KeyCache time.Duration
	// RefusalCache is how long an unknown key is refused without asking Postgres
	// again. Default five seconds.
	RefusalCache time.Duration
}

// An Auth recognises callers. It is safe for concurrent use.
type Auth struct {
	keys   keyCache
	guard  *guard
	tokens verifier
}

// New makes an Auth. The key set of a JWKSURL is fetched in the background until
// ctx ends; an identity provider that is down does not stop the start.
func New(ctx context.Context, o Options) (*Auth, error) {
	if len(o.JWTSecret) == 0 && o.JWKSURL == "" {
		return nil, errors.New("making the authentication: a JWT secret or a JWKS URL is needed")
	}
	if n := len(o.JWTSecret); n > 0 && n < ShortestSecret {
		return nil, fmt.Errorf("making the authentication: the JWT secret must have at least %d bytes", ShortestSecret)
	}
	if o.KeyCache == 0 {
		o.KeyCache = time.Second
	}
	if o.RefusalCache == 0 {
		o.RefusalCache = 5 * time.Second
	}
	g := newGuard()
	a := &Auth{guard: g, keys: keyCache{db: o.DB, ttl: o.KeyCache, refusal: o.RefusalCache, guard: g}, tokens: verifier{secret: o.JWTSecret, issuer: o.Issuer, audience: o.Audience}}
	if o.JWKSURL != "" {
		set, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{o.JWKSURL}, keyfunc.Override{
			// A token may name any key. The set is fetched again for an unknown one at most
			// so often, and no request waits longer for it; by default that is a minute, and
			// the provider's new keys could be kept out for five.
			RefreshUnknownKID: rate.NewLimiter(rate.Every(10*time.Second), 1),
			RateLimitWaitMax:  2 * time.Second,
			HTTPTimeout:       5 * time.Second,
		})
		if err != nil {
			return nil, fmt.Errorf("opening the key set of the identity provider: %w", err)
		}
		a.tokens.set = set
	}
	return a, nil
}

// A Principal is who calls: an agent through one of its keys, or a host.
type Principal struct {
	Agent              schemas.AgentID
	KeyID              schemas.KeyID
	Platform           bool // sees every agent's bookings and subscriptions
	Scopes             []string
	RateLimitPerMinute int // 0 is none
	Host               schemas.HostID
	Until              time.Time // when a host's token ends
}

// Scope is what the principal's transactions may see.
func (p Principal) Scope() store.Scope {
	return store.Scope{
		Agent: p.Agent, Platform: p.Platform, Host: p.Host, Admin: p.Platform && p.May(Admin),
		Confirms: p.Host != "" || p.Platform || p.May(BookingsConfirm),
	}
}

// May says whether the principal's key carries the scope.
func (p Principal) May(scope string) bool {
	return schemas.Allows(p.Scopes, scope)
}

// Agent recognises the holder of an API key by an Authorization header. Anything
// but a valid key is Unauthorized.
func (a *Auth) Agent(ctx context.Context, header string) (Principal, error) {
	key, err := bearer(header)
	if err != nil {
		return Principal{}, err
	}
	if !strings.HasPrefix(key, schemas.KeyPrefix) {
		return Principal{}, unauthorized("invalid_api_key", "this needs an agent's API key")
	}
	if !schemas.WellFormedAPIKey(key) {
		return Principal{}, unauthorized("invalid_api_key", "this is no API key: it was mistyped or cut off")
	}
	k, err := a.keys.lookup(ctx, schemas.HashAPIKey(key))
	if err != nil {
		return Principal{}, err
	}
	return Principal{
		Agent: k.AgentID, KeyID: k.ID, Platform: k.Platform, Scopes: k.Scopes, RateLimitPerMinute: k.RateLimitPerMinute,
	}, nil
}

// Host recognises a host by an Authorization header. Anything but a valid token
// is Unauthorized.
func (a *Auth) Host(header string) (Principal, error) {
	token, err := bearer(header)
	if err != nil {
		return Principal{}, err
	}
	if strings.HasPrefix(token, schemas.KeyPrefix) {
		return Principal{}, unauthorized("invalid_token", "this needs a host's token, not an API key")
	}
	return a.tokens.verify(token)
}

// Guarded runs a look-up of a credential that Postgres alone can judge, such as a
// ticket, within the bounds for the caller's address. Unauthorized counts against it.
func (a *Auth) Guarded(ctx context.Context, lookup func(context.Context) error) error {
	select {
	case a.guard.slots <- struct{}{}:
		defer func() { <-a.guard.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	addr := caller.Of(ctx)
	if err := a.guard.take(addr, time.Now()); err != nil {
		return err
	}
	err := lookup(ctx)
	if schemas.KindOf(err) != schemas.Unauthorized {
		a.guard.giveBack(addr, time.Now())
	}
	return err
}

// IsKey says whether an Authorization header brings an API key, valid or not, and
// not a host's token.
func IsKey(header string) bool {
	key, err := bearer(header)
	return err == nil && strings.HasPrefix(key, schemas.KeyPrefix)
}

func bearer(header string) (string, error) {
	if header == "" {
		return "", unauthorized("missing_credentials", "an Authorization header is needed")
	}
	scheme, credentials, ok := strings.Cut(header, " ")
	if credentials = strings.TrimSpace(credentials); !ok || !strings.EqualFold(scheme, "Bearer") || credentials == "" {
		return "", unauthorized("missing_credentials", "the Authorization header must be of the form Bearer <credentials>")
	}
	return credentials, nil
}

func unauthorized(code, detail string) error {
	return schemas.Errorf(schemas.Unauthorized, code, "%s", detail)
}
