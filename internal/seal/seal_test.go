package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/krib-ai/krib/internal/seal"
)

func ringOf(t *testing.T, ids ...string) *seal.Ring {
	t.Helper()
	var parts []string
	for _, id := range ids {
		parts = append(parts, id+":"+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(id[:1]), 32)))
	}
	r, err := seal.ParseRing(strings.Join(parts, ","))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSealedValueOpensOnlyForItsOwnerAndField(t *testing.T) {
	t.Parallel()
	r := ringOf(t, "a")
	sealed := r.Seal([]byte("s3cret"), "sub_1", seal.FieldAPIKey)
	if bytes.Contains(sealed, []byte("s3cret")) {
		t.Error("the sealed value holds the plain text")
	}
	got, err := r.Open(sealed, "sub_1", seal.FieldAPIKey)
	if err != nil || string(got) != "s3cret" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, other := range [][2]string{{"sub_2", seal.FieldAPIKey}, {"sub_1", seal.FieldSigningSecret}} {
		if _, err := r.Open(sealed, other[0], other[1]); !errors.Is(err, seal.ErrUnopened) {
			t.Errorf("opened for %v: %v", other, err)
		}
	}
}

func TestRotatedRingOpensOldValuesAndSealsWithTheNewKey(t *testing.T) {
	t.Parallel()
	old, rotated := ringOf(t, "a"), ringOf(t, "b", "a")
	sealed := old.Seal([]byte("x"), "o", "f")
	if got, err := rotated.Open(sealed, "o", "f"); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := old.Open(rotated.Seal([]byte("x"), "o", "f"), "o", "f"); !errors.Is(err, seal.ErrUnopened) {
		t.Errorf("the old ring opened a value of the new key: %v", err)
	}
}

func TestTamperedValueDoesNotOpen(t *testing.T) {
	t.Parallel()
	r := ringOf(t, "a")
	sealed := r.Seal([]byte("x"), "o", "f")
	for i := range sealed {
		bent := bytes.Clone(sealed)
		bent[i] ^= 1
		if _, err := r.Open(bent, "o", "f"); !errors.Is(err, seal.ErrUnopened) {
			t.Errorf("byte %d bent: %v", i, err)
		}
		if _, err := r.Open(sealed[:i], "o", "f"); !errors.Is(err, seal.ErrUnopened) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}

func TestRingRefusesBadKeys(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "a", "a:", "a:AAAA", ":" + base64.StdEncoding.EncodeToString(make([]byte, 32))} {
		if _, err := seal.ParseRing(s); err == nil {
			t.Errorf("accepted %q", s)
		}
	}
	if _, err := seal.DeriveRing("short"); err == nil {
		t.Error("accepted a short secret")
	}
}
