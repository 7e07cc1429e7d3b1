package producers

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// NewKey is the input of CreateKey. AgentID names an agent that is there;
// AgentName makes a new one. ExpiresAt is nil for a key that does not end.
type NewKey struct {
	AgentID            schemas.AgentID
	AgentName          string
	Name               string
	Environment        string // the word in the key by which people tell live from test
	Scopes             []string
	Platform           bool
	RateLimitPerMinute int // 0 is none
	ExpiresAt          *time.Time
}

// A Rotation is the input of RotateKey. Overlap is how long the old key goes on
// working; ExpiresAt, where set, takes the place of the old key's.
type Rotation struct {
	Overlap   time.Duration
	ExpiresAt *time.Time
}

// A KeyAnswer is a new key. Secret is the key itself, which is nowhere else.
type KeyAnswer struct {
	Key    store.Key
	Secret schemas.Secret
	// Replaced is the key that a rotation has put this one in the place of.
	Replaced *store.Key `json:",omitempty"`
}

// CreateAgent makes an agent without keys.
func (p *Producer) CreateAgent(ctx context.Context, s store.Scope, o *Once, by schemas.KeyID, name string) (store.Agent, error) {
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (store.Agent, error) {
		if _, err := grantor(ctx, tx, by); err != nil {
			return store.Agent{}, err
		}
		return newAgent(ctx, tx, name)
	})
}

// CreateKey makes a key, whose text is in the answer and nowhere else. by is the
// key of the administrator who asks; it must be live and cannot give away what it
// does not have. An empty one is the operator, who works on the database itself.
func (p *Producer) CreateKey(ctx context.Context, s store.Scope, o *Once, by schemas.KeyID, in NewKey) (KeyAnswer, error) {
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (KeyAnswer, error) {
		// Here, since it asks the clock: what was done stays done when it is asked for
		// again after the key's end.
		if err := in.check(time.Now()); err != nil {
			return KeyAnswer{}, err
		}
		giver, err := grantor(ctx, tx, by)
		if err != nil {
			return KeyAnswer{}, err
		}
		k := store.Key{
			AgentID: in.AgentID, AgentName: in.AgentName, Name: in.Name, Scopes: ordered(in.Scopes), Platform: in.Platform,
			RateLimitPerMinute: in.RateLimitPerMinute, ExpiresAt: in.ExpiresAt,
		}
		if err := mayGive(giver, &k); err != nil {
			return KeyAnswer{}, err
		}
		if k.AgentID == "" {
			a, err := newAgent(ctx, tx, in.AgentName)
			if err != nil {
				return KeyAnswer{}, err
			}
			k.AgentID = a.ID
		} else if k.AgentName, err = tx.LockAgent(ctx, k.AgentID); err != nil {
			return KeyAnswer{}, err
		}
		secret, err := insertKey(ctx, tx, &k, in.Environment)
		return KeyAnswer{Key: k, Secret: secret}, err
	})
}

// RevokeKey ends a key for good and takes from its agent's subscriptions what no
// other live key of the agent allows. A key that was revoked before stays as it is.
func (p *Producer) RevokeKey(ctx context.Context, s store.Scope, by, id schemas.KeyID) (store.Key, error) {
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (store.Key, error) {
		if _, err := grantor(ctx, tx, by); err != nil {
			return store.Key{}, err
		}
		k, err := lockKey(ctx, tx, id)
		if err != nil || k.RevokedAt != nil {
			return k, err
		}
		now := schemas.Stamp(time.Now())
		k.RevokedAt = &now
		if err := tx.EndKey(ctx, &k); err != nil {
			return k, err
		}
		return k, narrow(ctx, tx, k.AgentID)
	})
}

// RotateKey makes a key with the rights of one that is live, which ends after the
// overlap, or at once. The subscriptions of the agent do not notice.
func (p *Producer) RotateKey(ctx context.Context, s store.Scope, o *Once, by, id schemas.KeyID, in Rotation) (KeyAnswer, error) {
	now := schemas.Stamp(time.Now())
	return once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (KeyAnswer, error) {
		if err := checkExpiry(in.ExpiresAt, now); err != nil {
			return KeyAnswer{}, err
		}
		giver, err := grantor(ctx, tx, by)
		if err != nil {
			return KeyAnswer{}, err
		}
		old, err := lockKey(ctx, tx, id)
		if err != nil {
			return KeyAnswer{}, err
		}
		if state := old.State(now); state != store.KeyLive {
			return KeyAnswer{}, schemas.Errorf(schemas.Conflict, "key_not_live", "the key is %s; make a new one instead", state)
		}
		k := old
		if in.ExpiresAt != nil {
			k.ExpiresAt = in.ExpiresAt
		}
		if err := mayGive(giver, &k); err != nil {
			return KeyAnswer{}, err
		}
		secret, err := insertKey(ctx, tx, &k, environment(old.Prefix))
		if err != nil {
			return KeyAnswer{}, err
		}
		retire(&old, in.Overlap, now)
		if err := tx.EndKey(ctx, &old); err != nil {
			return KeyAnswer{}, err
		}
		return KeyAnswer{Key: k, Secret: secret, Replaced: &old}, narrow(ctx, tx, k.AgentID)
	})
}

// retire ends a key after the overlap, never later than it would end anyway.
func retire(k *store.Key, overlap time.Duration, now time.Time) {
	end := now.Add(overlap)
	switch {
	case overlap <= 0:
		k.RevokedAt = &now
	case k.ExpiresAt == nil || k.ExpiresAt.After(end):
		k.ExpiresAt = &end
	}
}

// lockKey locks a key's agent and then the key. Whatever changes an agent's keys
// holds its agent, so that of two who revoke its last two keys one sees that no
// other is left.
func lockKey(ctx context.Context, tx *store.Tx, id schemas.KeyID) (store.Key, error) {
	k, err := tx.Key(ctx, id)
	if err != nil {
		return k, err
	}
	if _, err := tx.LockAgent(ctx, k.AgentID); err != nil {
		return k, err
	}
	return tx.LockKey(ctx, id)
}

func insertKey(ctx context.Context, tx *store.Tx, k *store.Key, env string) (schemas.Secret, error) {
	secret, hash, prefix := schemas.NewAPIKey(env)
	if k.ExpiresAt != nil {
		at := schemas.Stamp(*k.ExpiresAt)
		k.ExpiresAt = &at
	}
	k.ID, k.Prefix, k.CreatedAt, k.LastUsedAt = schemas.NewKeyID(), prefix, schemas.Stamp(time.Now()), nil
	return secret, tx.InsertKey(ctx, k, hash)
}

func newAgent(ctx context.Context, tx *store.Tx, name string) (store.Agent, error) {
	if err := checkLine("agent_name", name); err != nil {
		return store.Agent{}, err
	}
	a := store.Agent{ID: schemas.NewAgentID(), Name: name, CreatedAt: schemas.Stamp(time.Now())}
	return a, tx.InsertAgent(ctx, &a)
}

// grantor is the key of the administrator who asks, nil for the operator. What the
// request was let in with may be a second old: here it is asked again.
func grantor(ctx context.Context, tx *store.Tx, by schemas.KeyID) (*store.Key, error) {
	if by == "" {
		return nil, nil // the operator is bound by nothing
	}
	k, err := tx.Key(ctx, by)
	if schemas.KindOf(err) == schemas.NotFound || err == nil && k.State(time.Now()) != store.KeyLive {
		return nil, schemas.Errorf(schemas.Unauthorized, "invalid_api_key", "the API key is unknown, revoked or expired")
	}
	return &k, err
}

// mayGive refuses rights that the giver does not have. Its rate limit is none of
// them: that is a quota, which administrators give out. Nor is its own end, but
// for a key that could administer in its place.
func mayGive(giver, k *store.Key) error {
	if giver == nil {
		return nil
	}
	for _, scope := range k.Scopes {
		if !schemas.Allows(giver.Scopes, scope) {
			return schemas.Refuse(schemas.Forbidden, "not_yours_to_give", "scopes", "rights", "your key does not have the scope %s", scope)
		}
	}
	if k.Platform && !giver.Platform {
		return schemas.Refuse(schemas.Forbidden, "not_yours_to_give", "platform", "rights", "your key is not a platform key")
	}
	if end := giver.ExpiresAt; end != nil && slices.Contains(k.Scopes, schemas.ScopeAdmin) && (k.ExpiresAt == nil || k.ExpiresAt.After(*end)) {
		return schemas.Refuse(schemas.Forbidden, "not_yours_to_give", "expires_at", "rights",
			"an admin key cannot make one that outlives it; yours ends at %s", end.Format(time.RFC3339))
	}
	return nil
}

func (in *NewKey) check(now time.Time) error {
	bad := func(field, rule, format string, args ...any) error {
		return schemas.Refuse(schemas.Rule, "invalid_key", field, rule, format, args...)
	}
	switch {
	case in.AgentID == "" && in.AgentName == "":
		return bad("agent_id", "required", "an agent's id, or the name of a new one, is needed")
	case in.AgentID != "" && in.AgentName != "":
		return bad("agent_name", "exclusive", "give an agent's id or the name of a new one, not both")
	case len(in.Scopes) == 0:
		return bad("scopes", "required", "at least one scope is needed, of %s", strings.Join(schemas.Scopes(), ", "))
	case !wellFormedEnvironment(in.Environment):
		return bad("environment", "format", "an environment is 1 to 16 small letters and digits, such as live or test")
	case in.RateLimitPerMinute < 0 || in.RateLimitPerMinute > MaxRateLimit:
		return bad("rate_limit_per_minute", "range", "a rate limit is from 0, which is none, to %d requests a minute", MaxRateLimit)
	}
	for _, scope := range in.Scopes {
		if !slices.Contains(schemas.Scopes(), scope) {
			return bad("scopes", "enum", "there is no scope %q; there are %s", scope, strings.Join(schemas.Scopes(), ", "))
		}
	}
	if slices.Contains(in.Scopes, schemas.ScopeAdmin) && !in.Platform {
		return bad("scopes", "platform", "only a platform key may have the scope admin")
	}
	if err := checkLine("name", in.Name); err != nil {
		return err
	}
	return checkExpiry(in.ExpiresAt, now)
}

// MaxRateLimit is the highest limit of a key, in requests a minute.
const MaxRateLimit = 1_000_000

// DefaultRateLimit is that of a new key, in requests a minute.
const DefaultRateLimit = 100

// DefaultOverlap is how long a rotated key goes on working.
const DefaultOverlap = 24 * time.Hour

func checkExpiry(at *time.Time, now time.Time) error {
	if at == nil {
		return nil
	}
	if !at.After(now) || at.After(now.AddDate(10, 0, 0)) {
		return schemas.Refuse(schemas.Rule, "invalid_key", "expires_at", "range", "a key ends in the future, within ten years")
	}
	return nil
}

func checkLine(field, s string) error {
	if n := utf8.RuneCountInString(s); strings.TrimSpace(s) == "" || n > 255 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return schemas.Refuse(schemas.Rule, "invalid_key", field, "format", "a name has 1 to 255 characters on one line")
	}
	return nil
}

func wellFormedEnvironment(s string) bool {
	return s != "" && len(s) <= 16 && !strings.ContainsFunc(s, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') })
}

// environment is the word in a key's prefix.
func environment(prefix string) string {
	env, _, _ := strings.Cut(strings.TrimPrefix(prefix, schemas.KeyPrefix), "_")
	if !wellFormedEnvironment(env) {
		return DefaultEnvironment // a prefix that was written by hand
	}
	return env
}

// DefaultEnvironment is the word in a key that nobody gave another.
const DefaultEnvironment = "live"

// ordered is the scopes each once, in the order of the list of all.
func ordered(scopes []string) []string {
	return slices.DeleteFunc(schemas.Scopes(), func(s string) bool { return !slices.Contains(scopes, s) })
}
