package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/schemas"
)

// Of all that may stand in the header, only a token that was signed here is a
// host's; the rest is unauthorized.
func FuzzHostToken(f *testing.F) {
	secret := make([]byte, 32)
	a, err := auth.New(f.Context(), auth.Options{JWTSecret: secret})
	if err != nil {
		f.Fatal(err)
	}
	signed, err := auth.SignHostToken(secret, "host_1", time.Hour, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	parts := strings.Split(signed, ".")
	for _, s := range []string{
		"Bearer " + signed, "bearer " + signed, "Bearer " + parts[0] + "." + parts[1] + ".", "Bearer eyJhbGciOiJub25lIn0." + parts[1] + ".", "Bearer ..", "Bearer", "", "Basic dTpw",
		"Bearer " + strings.Repeat("a.", 5000), "Bearer \xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		p, err := a.Host(header)
		switch {
		case err != nil:
			if schemas.KindOf(err) != schemas.Unauthorized {
				t.Errorf("%q: %v", header, err)
			}
		case p.Host != "host_1" || !strings.Contains(header, signed[:len(signed)-1]): // the last character has bits to spare
			t.Errorf("%q is %+v", header, p)
		}
	})
}
