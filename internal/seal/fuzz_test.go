package seal_test

import (
	"bytes"
	"testing"

	"github.com/krib-ai/krib/internal/seal"
)

// What was not sealed here for this owner and field is an error, and never bytes.
func FuzzOpen(f *testing.F) {
	ring, err := seal.DeriveRing("a master secret of the tests")
	if err != nil {
		f.Fatal(err)
	}
	sealed := ring.Seal([]byte("a secret"), "sub_1", seal.FieldAPIKey)
	f.Add(sealed, "sub_2")
	f.Add(sealed[:len(sealed)-1], "sub_1")
	f.Add([]byte{}, "")
	f.Add(bytes.Repeat([]byte{255}, 300), "sub_1")
	f.Fuzz(func(t *testing.T, b []byte, owner string) {
		plain, err := ring.Open(b, owner, seal.FieldAPIKey)
		if err == nil && (owner != "sub_1" || !bytes.Equal(b, sealed)) {
			t.Errorf("%x of %q opened as %q", b, owner, plain)
		}
	})
}

// A ring that is read seals and opens.
func FuzzParseRing(f *testing.F) {
	for _, s := range []string{"a:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "a:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,a:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "", ":", "a:", "a:AA=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ring, err := seal.ParseRing(s)
		if err != nil {
			return
		}
		if plain, err := ring.Open(ring.Seal([]byte("x"), "o", "f"), "o", "f"); err != nil || string(plain) != "x" {
			t.Errorf("%q cannot open what it sealed: %v", s, err)
		}
	})
}
