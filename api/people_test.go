package api

import (
	"strings"
	"testing"
)

func TestPhoneIsReadAsPeopleWriteIt(t *testing.T) {
	t.Parallel()
	for _, c := range [][4]string{
		{"", "+52 1 55 1234 5678", "+52", "5512345678"},  // as it was dialled until 2019
		{"+52", "+52 55 1234 5678", "+52", "5512345678"}, // and since
		{"+1", "650.253.0000x123", "+1", "6502530000x123"},
		{"+1", "6502530000x123", "+1", "6502530000x123"}, // what was answered is taken again
		{"+1", "(650) 253-0000 ext. 4567", "+1", "6502530000x4567"},
		{"", "+49 30 901820;ext=12", "+49", "30901820x12"},
		{"", "+54 9 11 2345 6789", "+54", "91123456789"},
		{"54", "011 15-2345-6789", "+54", "91123456789"},
		{"+1", "1-800-FLOWERS", "+1", "8003569377"},
		{"+971", "\uff10\uff15\uff10 \uff11\uff12\uff13 \uff14\uff15\uff16\uff17", "+971", "501234567"},
		{"+971", "\u0660\u0665\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667", "+971", "501234567"},
		{"", "+91 98765 43210", "+91", "9876543210"},
	} {
		if m := checkPhone(c[1]); m != "" {
			t.Errorf("%q: %s", c[1], m)
			continue
		}
		if p, field, m := parsePhone(c[0], c[1]); p != (phone{c[2], c[3]}) {
			t.Errorf("%s %q: %v, %s %s", c[0], c[1], p, field, m)
		}
	}
	for _, c := range [][3]string{
		{"", "+52 1 55 1234 567", "+52"},
		{"+971", "+52 55 1234 5678", "is one of +52"},
		{"", "+44 20 7946", "too short for a number of +44"},
		{"+1", "650 253 00000 0000", "too long for a number of +1"},
		{"+1", "000 253 0000", "no number of +1 that is given out"},
		{"", "+999 123456", "country code that exists"},
		{"", "++1", "as +971 50"},
		{"+49", "1", "telephone number"},
	} {
		if p, _, m := parsePhone(c[0], c[1]); !strings.Contains(m, c[2]) {
			t.Errorf("%s %q: %v, %q, want %q", c[0], c[1], p, m, c[2])
		}
	}
	for _, s := range []string{"call me", "", "12\u200b34", "\u202e123"} {
		if checkPhone(s) == "" {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestEmailIsAnAddressThatMailCanReach(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"a@example.com", `"john doe"@example.com`, `"a@b"@example.com`, `"a\"b"@example.com`, "o'hara+krib@sub.example.co.uk", "x@b\u00fccher.example",
		"x@xn--bcher-kva.example", "\u7528\u6237@\u4f8b\u5b50.\u6d4b\u8bd5", strings.Repeat("l", 64) + "@example.com", "1@1.example",
	} {
		if m := checkEmail(s); m != "" {
			t.Errorf("%s: %s", s, m)
		}
	}
	for _, s := range []string{
		"a@example.com\u200b", "a\u200b@example.com", "a@exam\u00adple.com", "a@example.com\u202e", "\ufeffa@example.com", "a@example.com\u3164", "a@ex\u2060ample.com",
		"a@b", "a@localhost", "a@example.", "a@.example.com", "a@example..com", "a@[192.0.2.1]", "a@192.0.2.1", "a@example.c", "a@-example.com", "a@exa_mple.com",
		"a", "@example.com", "a@", "a b@example.com", "A <a@example.com>", "a@example.com, b@example.com", "a@example.com (x)", "<a@example.com>", "a..b@example.com",
		strings.Repeat("l", 65) + "@example.com", "a@" + strings.Repeat("d", 64) + ".com", "a@" + strings.Repeat("d.", 126) + "com", `"a@example.com`, "a@exa mple.com",
	} {
		if m := checkEmail(s); m == "" {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestNameCanBeSeen(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"Sukarno", "O\u2019Hara", "\u674e", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0d28\u0d4d\u200d", "e\u0301", "J\u00fcrgen", "X \u00c6 A-12", ""} {
		if m := checkName(s); m != "" {
			t.Errorf("%q: %s", s, m)
		}
	}
	for _, s := range []string{"\u200b", "\u200b\u200d\ufeff", " \u2060 ", "\u3164", "\u115f\u1160", "\u00ad", "\u2800", "\u0301", "\ufe0f", "\U000e0020", "\u202eevil", "a\u2066b", "\u180e"} {
		if m := checkName(s); m == "" {
			t.Errorf("%q is taken", s)
		}
	}
}
