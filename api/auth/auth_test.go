package auth_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestAKeyHasItsForm(t *testing.T) {
	key, hash, prefix := schemas.NewAPIKey("dev")
	if !regexp.MustCompile(`^krib_dev_[0-9a-f]{32}[0-9A-Za-z]{6}$`).MatchString(key.Reveal()) || len(hash) != 32 || prefix != key.Reveal()[:len(prefix)] || len(prefix) > 20 {
		t.Errorf("key %s, prefix %s, %d bytes of hash", key.Reveal(), prefix, len(hash))
	}
	if other, _, _ := schemas.NewAPIKey("dev"); other == key {
		t.Error("two keys are the same")
	}
}

func TestAKeyIsBelievedForAMoment(t *testing.T) {
	url := testenv.Database(t)
	db, err := store.Open(t.Context(), url, store.RoleAPI, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	key, hash, prefix := schemas.NewAPIKey("test")
	open := func(ttl time.Duration) *auth.Auth {
		a, err := auth.New(t.Context(), auth.Options{DB: db, JWTSecret: make([]byte, 32), KeyCache: ttl, RefusalCache: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	long, short := open(time.Hour), open(time.Nanosecond)
	if _, err := long.Agent(t.Context(), "Bearer "+key.Reveal()); schemas.KindOf(err) != schemas.Unauthorized {
		t.Fatalf("an unknown key: %v", err)
	}
	exec(`insert into agents (id, name) values ('agent_a', 'A')`)
	exec(`insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes, platform, rate_limit_per_minute)
		values ('key_a', 'agent_a', 'a', $1, $2, '{bookings:read}', true, 7)`, hash, prefix)
	p, err := long.Agent(t.Context(), "bearer "+key.Reveal())
	if err != nil || p.Agent != "agent_a" || p.KeyID != "key_a" || !p.Platform || p.RateLimitPerMinute != 7 || !p.May(auth.BookingsRead) || p.May(auth.BookingsWrite) {
		t.Fatalf("got %+v, %v: a refusal must not outlive its time", p, err)
	}
	if s := p.Scope(); s != (store.Scope{Agent: "agent_a", Platform: true, Confirms: true}) {
		t.Errorf("scope %+v", s)
	}
	if _, err := short.Agent(t.Context(), "Bearer "+key.Reveal()); err != nil {
		t.Fatal(err)
	}
	exec(`update api_keys set revoked_at = now()`)
	if _, err := long.Agent(t.Context(), "Bearer "+key.Reveal()); err != nil {
		t.Errorf("not remembered: %v", err)
	}
	if _, err := short.Agent(t.Context(), "Bearer "+key.Reveal()); schemas.KindOf(err) != schemas.Unauthorized {
		t.Errorf("a revoked key: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := short.Agent(gone, "Bearer "+key.Reveal()); err == nil {
		t.Error("a caller who left got an answer")
	}
}

func TestAnIdentityProvidersKeysVerifyTokens(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	provider := keySet(t, private)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	a, err := auth.New(ctx, auth.Options{JWKSURL: provider, Issuer: "https://id.example", Audience: "krib"})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(m jwt.SigningMethod, key any, issuer, audience string) string {
		token := jwt.NewWithClaims(m, jwt.RegisteredClaims{
			Subject: "host_a", Issuer: issuer, Audience: jwt.ClaimStrings{audience}, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
		})
		token.Header["kid"] = "k1"
		s, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + s
	}
	p, err := a.Host(sign(jwt.SigningMethodRS256, private, "https://id.example", "krib"))
	if err != nil || p.Host != "host_a" || time.Until(p.Until) < 59*time.Minute || p.Scope() != (store.Scope{Host: "host_a", Confirms: true}) {
		t.Errorf("got %+v, %v", p, err)
	}
	for name, header := range map[string]string{
		"another issuer":             sign(jwt.SigningMethodRS256, private, "https://evil.example", "krib"),
		"another audience":           sign(jwt.SigningMethodRS256, private, "https://id.example", "other"),
		"the public key as a secret": sign(jwt.SigningMethodHS256, private.N.Bytes(), "https://id.example", "krib"),
		"an empty secret":            sign(jwt.SigningMethodHS256, []byte{}, "https://id.example", "krib"),
	} {
		if _, err := a.Host(header); schemas.KindOf(err) != schemas.Unauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIssuerAndAudienceAreCheckedWhereTheyAreSet(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	provider := keySet(t, private)
	const issuer, audience = "https://id.example", "krib"
	for name, c := range map[string]struct {
		o                                                      auth.Options
		both, otherIssuer, otherAudience, noIssuer, noAudience bool
	}{
		"neither":      {auth.Options{}, true, true, true, true, true},
		"the issuer":   {auth.Options{Issuer: issuer}, true, false, true, false, true},
		"the audience": {auth.Options{Audience: audience}, true, true, false, true, false},
		"both":         {auth.Options{Issuer: issuer, Audience: audience}, true, false, false, false, false},
	} {
		c.o.JWKSURL = provider
		a, err := auth.New(t.Context(), c.o)
		if err != nil {
			t.Fatal(err)
		}
		verify := func(issuer string, audience ...string) bool {
			token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
				Subject: "host_a", Issuer: issuer, Audience: audience, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
			})
			token.Header["kid"] = "k1"
			s, err := token.SignedString(private)
			if err != nil {
				t.Fatal(err)
			}
			_, err = a.Host("Bearer " + s)
			return err == nil
		}
		if verify(issuer, "another", audience) != c.both || verify("https://evil.example", audience) != c.otherIssuer || verify(issuer, "another") != c.otherAudience ||
			verify("", audience) != c.noIssuer || verify(issuer) != c.noAudience {
			t.Errorf("with %s set, a token passes that should not, or does not that should", name)
		}
	}
}

// keySet serves the public key as an identity provider does.
func keySet(t *testing.T, private *rsa.PrivateKey) string {
	t.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	n, e := enc(private.N.Bytes()), enc(big.NewInt(int64(private.E)).Bytes())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"k1","n":%q,"e":%q}]}`, n, e)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestATokenThatWasSignedIsVerified(t *testing.T) {
	secret := make([]byte, 32)
	a, err := auth.New(t.Context(), auth.Options{JWTSecret: secret})
	if err != nil {
		t.Fatal(err)
	}
	for host, ok := range map[schemas.HostID]bool{"host_a": true, "": false, "a\nb": false, "a\x00": false} {
		token, err := auth.SignHostToken(secret, host, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if p, err := a.Host("Bearer " + token); (err == nil) != ok || ok && p.Host != host {
			t.Errorf("%q: %+v, %v", host, p, err)
		}
	}
}

// Processes hear nothing of each other's revocations: each asks Postgres again
// after the second for which it believes a key.
func TestARevokedKeyIsRefusedByEveryProcessWithinSeconds(t *testing.T) {
	url := testenv.Database(t)
	jobs, err := store.Open(t.Context(), url, store.RoleJobs, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer jobs.Close()
	operator := producers.New(producers.Options{DB: jobs})
	made, err := operator.CreateKey(t.Context(), store.Scope{}, nil, "", producers.NewKey{
		AgentName: "A", Name: "k", Environment: "test", Scopes: []string{auth.BookingsRead},
	})
	if err != nil {
		t.Fatal(err)
	}
	var processes []*auth.Auth
	for range 3 {
		db, err := store.Open(t.Context(), url, store.RoleAPI, 2)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		a, err := auth.New(t.Context(), auth.Options{DB: db, JWTSecret: make([]byte, 32)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Agent(t.Context(), "Bearer "+made.Secret.Reveal()); err != nil {
			t.Fatal(err)
		}
		processes = append(processes, a)
	}
	if _, err := operator.RevokeKey(t.Context(), store.Scope{}, "", made.Key.ID); err != nil {
		t.Fatal(err)
	}
	revoked := time.Now()
	for _, a := range processes {
		testenv.Eventually(t, "a revoked key is still let in", func() bool {
			_, err := a.Agent(t.Context(), "Bearer "+made.Secret.Reveal())
			return schemas.KindOf(err) == schemas.Unauthorized
		})
	}
	if took := time.Since(revoked); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
