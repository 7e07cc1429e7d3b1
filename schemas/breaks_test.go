package schemas_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/krib-ai/krib/schemas"
)

// Whatever character a text holds, the document is one line for every reader, and the
// text is the same when it is read.
func TestNoCharacterBreaksTheLineOfADocument(t *testing.T) {
	t.Parallel()
	table := []rune{
		0x1, '\t', '\n', '\v', '\f', '\r', 0x1c, 0x1d, 0x1e, 0x1f, ' ', '"', '\\', '<', 0x7e, 0x7f, 0x80, 0x84, 0x85, 0x86, 0x9f, 0xa0, 0xad, 'é', 0x61c, 0x1680, 0x180e, 0x200b, 0x200e,
		0x2027, 0x2028, 0x2029, 0x202a, 0x202e, 0x2060, 0x2066, 0x3000, 0xd7ff, 0xe000, 0xfeff, 0xfffd, 0xffff, 0x10000, 0x1f600, 0xe0001, 0x10ffff,
	}
	for _, c := range table {
		for _, s := range []string{string(c), "a" + string(c) + "b", string(c) + string(c), strings.Repeat("é", 3) + string(c)} {
			b, err := schemas.Encode(map[string]string{"text": s, s: "name"})
			if err != nil {
				t.Fatal(err)
			}
			if i := slices.IndexFunc([]rune(string(b)), func(c rune) bool { return unicode.IsControl(c) || unicode.In(c, unicode.Zl, unicode.Zp) }); i >= 0 {
				t.Errorf("U+%04X stands raw in %s", c, b)
			}
			var got map[string]string
			if err := json.Unmarshal(b, &got); err != nil || got["text"] != s && s != "text" || got[s] == "" {
				t.Errorf("U+%04X is read as %q, %v", c, got, err)
			}
		}
	}
}

func TestADocumentWithoutBreaksIsNotCopied(t *testing.T) {
	t.Parallel()
	b := []byte(`{"a":"é — \u0085 \\u2028 😀"}`)
	if got := schemas.EscapeBreaks(b); &got[0] != &b[0] || len(got) != len(b) {
		t.Errorf("got %s", got)
	}
}

func FuzzEscapeBreaks(f *testing.F) {
	for _, s := range []string{"", "a\u0085b", "\u2028\u2029", "\x7f\xc2", "\xe2\x80", "\\\u0085"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		escaped := schemas.EscapeBreaks(b)
		var got string
		if err := json.Unmarshal(escaped, &got); err != nil || got != s || strings.ContainsAny(string(escaped), "\x7f\u0085\u0080\u009f\u2028\u2029") {
			t.Errorf("%q is %s, %v", s, escaped, err)
		}
	})
}
