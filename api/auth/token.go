package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/krib-ai/krib/schemas"
)

// A verifier checks hosts' tokens. The algorithm decides which key is asked: a
// public key of the set never verifies an HMAC, or whoever can read the key set
// could sign.
type verifier struct {
	secret           []byte
	set              keyfunc.Keyfunc // nil without an identity provider
	issuer, audience string
}

var hmacMethods = []string{"HS256"}

func asymmetricMethods() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// maxToken bounds what is decoded of a stranger's before its signature is checked, in
// bytes. Tokens of identity providers that list groups have some thousand.
const maxToken = 16 << 10

func (v *verifier) verify(token string) (Principal, error) {
	if len(token) > maxToken {
		return Principal{}, unauthorized("invalid_token", "the token is not valid: it is too long")
	}
	claims := jwt.RegisteredClaims{}
	if _, err := jwt.ParseWithClaims(token, &claims, v.key, v.options()...); err != nil {
		// The library's text names the reason (expired, signature) and nothing else.
		return Principal{}, unauthorized("invalid_token", "the token is not valid: "+reason(err))
	}
	if !named(claims.Subject) {
		return Principal{}, unauthorized("invalid_token", "the token names no host")
	}
	return Principal{Host: schemas.HostID(claims.Subject), Until: claims.ExpiresAt.Time}, nil
}

func (v *verifier) options() []jwt.ParserOption {
	var methods []string
	if len(v.secret) > 0 {
		methods = append(methods, hmacMethods...)
	}
	if v.set != nil {
		methods = append(methods, asymmetricMethods()...)
	}
	o := []jwt.ParserOption{jwt.WithValidMethods(methods), jwt.WithExpirationRequired()}
	if v.issuer != "" {
		o = append(o, jwt.WithIssuer(v.issuer))
	}
	if v.audience != "" {
		o = append(o, jwt.WithAudience(v.audience))
	}
	return o
}

func (v *verifier) key(t *jwt.Token) (any, error) {
	if t.Method.Alg() == hmacMethods[0] {
		return v.secret, nil
	}
	return v.set.Keyfunc(t)
}

// reason is one word or two of a closed set, since errors of a key set may name
// addresses.
func reason(err error) string {
	for _, known := range []error{
		jwt.ErrTokenExpired, jwt.ErrTokenNotValidYet, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenInvalidIssuer,
		jwt.ErrTokenInvalidAudience, jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenMalformed,
	} {
		if errors.Is(err, known) {
			return strings.TrimPrefix(known.Error(), "token ")
		}
	}
	return "it cannot be verified"
}

// named says whether a subject can be a host's id.
func named(s string) bool {
	return s != "" && len(s) <= 255 && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// SignHostToken makes a host's token for ttl from now, signed with HS256.
func SignHostToken(secret []byte, host schemas.HostID, ttl time.Duration, now time.Time) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: string(host), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	})
	s, err := t.SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("signing the token of host %s: %w", host, err)
	}
	return s, nil
}
