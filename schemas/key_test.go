package schemas_test

import (
	"strings"
	"testing"

	"github.com/krib-ai/krib/schemas"
)

func TestAPIKeyWithAnyWrongCharacterIsMalformed(t *testing.T) {
	for _, env := range []string{"live", "dev", "a", "0123456789abcdef"} {
		made, _, prefix := schemas.NewAPIKey(env)
		key := made.Reveal()
		if !schemas.WellFormedAPIKey(key) || !strings.HasPrefix(key, prefix) {
			t.Fatalf("a new key %s with the prefix %s is malformed", key, prefix)
		}
		for i := len("krib_"); i < len(key); i++ {
			other := byte('0')
			if key[i] == other {
				other = '1'
			}
			if bad := key[:i] + string(other) + key[i+1:]; schemas.WellFormedAPIKey(bad) {
				t.Errorf("%s passes for %s", bad, key)
			}
		}
		random := len("krib_"+env+"_") + 32
		for n := range len(key) {
			if n != random && schemas.WellFormedAPIKey(key[:n]) { // that length is a key of before
				t.Errorf("%s passes, cut off", key[:n])
			}
		}
	}
}

func TestAPIKeyFormsThatAreKeysAndThatAreNot(t *testing.T) {
	const hex = "0123456789abcdef0123456789abcdef"
	for key, ok := range map[string]bool{
		"krib_live_" + hex + "026qj4":                 true, // computed with zlib of Python
		"krib_live_" + hex:                            true, // made before there was a checksum
		"krib_test_" + hex + "026qj4":                 false,
		"krib_live_" + hex + "026qJ4":                 false,
		"krib_live_" + hex + "026qj":                  false,
		"krib_LIVE_" + hex:                            false,
		"krib__" + hex:                                false,
		"krib_" + hex:                                 false,
		"krib_0123456789abcdefg_" + hex:               false,
		"krib_live_" + strings.ToUpper(hex):           false,
		"krib_live_" + strings.Repeat("é", 16):        false,
		"krib_live_" + strings.Repeat("0", 1_000_000): false,
		"": false,
	} {
		if schemas.WellFormedAPIKey(key) != ok {
			t.Errorf("%.60q: want %v", key, ok)
		}
	}
}
