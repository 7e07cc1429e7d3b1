package pull

import (
	"encoding/base64"
	"slices"
	"testing"
)

// MovedCursor is a cursor with every position some offsets further.
func MovedCursor(t *testing.T, s string, by int64) string {
	t.Helper()
	c, err := parseCursor(s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.next {
		c.next[i] += by
	}
	return c.String()
}

func TestACursorIsReadBack(t *testing.T) {
	t.Parallel()
	for _, next := range [][]int64{{0}, {1<<63 - 1}, {5, 0, 127, 128, 1 << 40}, make([]int64, maxPartitions), slices.Repeat([]int64{1<<63 - 1}, maxPartitions)} {
		c := cursor{topicID{1, 2, 3}, next}
		got, err := parseCursor(c.String())
		if err != nil || got.topic != c.topic || !slices.Equal(got.next, next) {
			t.Errorf("%d partitions: %v, %v", len(next), got, err)
		}
	}
}

func TestOnlyTheOneFormOfACursorIsTaken(t *testing.T) {
	t.Parallel()
	good := append([]byte{cursorVersion}, make([]byte, 16)...)
	for name, b := range map[string][]byte{
		"nothing": nil, "another version": append([]byte{2}, append(make([]byte, 16), 1, 0)...), "no count": good, "no partition": append(slices.Clone(good), 0),
		"too few": append(slices.Clone(good), 2, 0), "too many": append(slices.Clone(good), 1, 0, 0), "a long zero": append(slices.Clone(good), 1, 0x80, 0),
		"below zero": append(slices.Clone(good), 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), "a count beyond all": append(slices.Clone(good), 0xff, 0xff, 0xff, 0x7f, 0),
	} {
		if c, err := parseCursor(base64.RawURLEncoding.EncodeToString(b)); err == nil {
			t.Errorf("%s is read as %v", name, c)
		}
	}
	text := cursor{topicID{}, []int64{1, 2, 3}}.String()
	for _, s := range []string{text + "=", text + "\n", "\n" + text, text[:len(text)-1], text + "AA"} {
		if c, err := parseCursor(s); err == nil {
			t.Errorf("%q is read as %v", s, c)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add(cursor{topicID{1}, []int64{0, 1, 1 << 50}}.String())
	f.Add("AQAAAAAAAAAAAAAAAAAAAAAAAQA")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err != nil {
			return
		}
		if c.String() != s {
			t.Errorf("%q is written as %q", s, c.String())
		}
		for _, n := range c.next {
			if n < 0 {
				t.Errorf("%q holds %d", s, n)
			}
		}
	})
}
