package webhook_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/krib-ai/krib/internal/webhook"
)

func TestAURLHasOneForm(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"https://a.example":                     "https://a.example/",
		"HTTPS://A.Example:443/Hook":            "https://a.example/Hook",
		"http://a.example:80/":                  "http://a.example/",
		"https://a.example:80/":                 "https://a.example:80/",
		"https://a.example:08443":               "https://a.example:8443/",
		"https://a.example:/x":                  "https://a.example/x",
		"https://a.example?x":                   "https://a.example/?x",
		"https://a.example/x?":                  "https://a.example/x?",
		"https://a.example/x#":                  "https://a.example/x",
		"https://a.example/?name=a b":           "https://a.example/?name=a%20b",
		"https://a.example/?name=köln":          "https://a.example/?name=k%C3%B6ln",
		"https://a.example/?q=東京&x=😀":           "https://a.example/?q=%E6%9D%B1%E4%BA%AC&x=%F0%9F%98%80",
		"https://a.example/?q=a+b%20c%C3%bC":    "https://a.example/?q=a+b%20c%C3%bC",
		`https://a.example/?q="<{|}^` + "`\\>'": "https://a.example/?q=%22%3C%7B%7C%7D%5E%60%5C%3E'",
		"https://a.example/?a[]=1&a[]=2?/@:":    "https://a.example/?a[]=1&a[]=2?/@:",
		"https://a.example/straße/a b/{id}|x":   "https://a.example/stra%C3%9Fe/a%20b/%7Bid%7D%7Cx",
		"https://a.example/a%2Fb%00":            "https://a.example/a%2Fb%00",
		"https://a.example/a/./b/../c":          "https://a.example/a/c",
		"https://a.example/a/%2E%2e/%2e":        "https://a.example/",
		"https://a.example/../../a//b/":         "https://a.example/a//b/",
		"https://a.example/a/..":                "https://a.example/",
		"https://bücher.example/":               "https://xn--bcher-kva.example/",
		"https://agent.example?name=a b":        "https://agent.example/?name=a%20b", // as docs/WEBHOOKS.md has it
		"https://Bücher.example:443/köln":       "https://xn--bcher-kva.example/k%C3%B6ln",
		"https://agent.example/a/../b?x={id}":   "https://agent.example/b?x=%7Bid%7D",
		"https://b%C3%BCcher.example/":          "https://xn--bcher-kva.example/",
		"https://BÜCHER.example:8443":           "https://xn--bcher-kva.example:8443/",
		"https://faß.example":                   "https://xn--fa-hia.example/",
		"https://例え。テスト/":                       "https://xn--r8jz45g.xn--zckzah/",
		"https://ｅｘａｍｐｌｅ.example":               "https://example.example/",
		"https://xn--bcher-kva.example":         "https://xn--bcher-kva.example/",
		"https://my_service.internal":           "https://my_service.internal/",
		"https://r3---sn-x.a.example":           "https://r3---sn-x.a.example/",
		"https://8.8.8.8/":                      "https://8.8.8.8/",
		"https://８.8.8.8/":                      "https://8.8.8.8/",
		"https://[2606:4700:0:0::1111]:443/":    "https://[2606:4700::1111]/",
		"https://1password.example":             "https://1password.example/",
		"https://a.example/\u00e9\u200b/x":      "https://a.example/%C3%A9%E2%80%8B/x",
	} {
		u, err := webhook.ParseURL(given)
		if err != nil {
			t.Errorf("%q: %v", given, err)
			continue
		}
		if got := u.String(); got != want {
			t.Errorf("%q is %q, want %q", given, got, want)
		}
		if again, err := webhook.ParseURL(want); err != nil || again.String() != want {
			t.Errorf("%q does not stay as it is: %v, %v", want, again, err)
		}
		// What goes out on the wire is the rest of the form that is shown.
		if wire := u.RequestURI(); !strings.HasSuffix(want, wire) {
			t.Errorf("%q is sent as %q", want, wire)
		}
		if stored := webhook.Shown(given); stored != want {
			t.Errorf("%q, stored before, is sent as %q, want %q", given, stored, want)
		}
	}
}

func TestAURLThatBreaksARuleIsRefusedByItsName(t *testing.T) {
	t.Parallel()
	for given, rule := range map[string]string{
		"":                                     "format",
		" https://a.example":                   "space",
		"https://a.example/hook ":              "space",
		"https://a.example/hook\u00a0":         "space",
		"\ufeffhttps://a.example/":             "space",
		"https://a.example/hook\u200b":         "space",
		"https://a.example/a\tb":               "control",
		"https://a.example/?a\nb":              "control",
		"https://a.example/?x=\u0085y":         "control",
		"https://a.example/\x7f":               "control",
		"https://a.example/\xff":               "control",
		"a.example/hook":                       "format",
		"//a.example/":                         "format",
		"https:a.example":                      "format",
		"https:/a.example":                     "format",
		`https:\\a.example`:                    "format",
		"/x?u=https://a.example":               "format",
		"ftp://a.example":                      "scheme",
		"javascript://a.example":               "scheme",
		"https://user@a.example":               "userinfo",
		"https://user:pw@a.example":            "userinfo",
		"https://@a.example":                   "userinfo",
		"https://a.example#@b.example":         "fragment",
		"https://a.example/#f":                 "fragment",
		"https://a.example/?q=1#f":             "fragment",
		`https://a.example\@b.example/`:        "backslash",
		`https://a.example/a\b`:                "backslash",
		"https://":                             "host",
		"https:///x":                           "host",
		"https://:443/":                        "host",
		"https://?x":                           "host",
		"https://a.example./":                  "host",
		"https://a..example/":                  "host",
		"https://.a.example/":                  "host",
		"https://a b.example/":                 "host",
		"https://a%20b.example/":               "host",
		"https://a%zz.example/":                "host",
		"https://a<b>.example/":                "host",
		"https://xn--a.example/":               "host",
		"https://" + strings.Repeat("a", 64):   "host",
		"https://2130706433/":                  "host",
		"https://0x7f.1/":                      "host",
		"https://127.1/":                       "host",
		"https://0177.0.0.1/":                  "host",
		"https://1.2.3.256/":                   "host",
		"https://[::1":                         "host",
		"https://::1/":                         "host",
		"https://[fe80::1%eth0]/":              "host",
		"https://[fe80::1%25eth0]/":            "host",
		"https://[1.2.3.4]/":                   "host",
		"https://[2606:4700::1111]x/":          "host",
		"https://a.example:0/":                 "port",
		"https://a.example:65536/":             "port",
		"https://a.example:-1/":                "port",
		"https://a.example:+80/":               "port",
		"https://a.example:80a/":               "port",
		"https://a.example/%zz":                "escape",
		"https://a.example/?x=%zz":             "escape",
		"https://a.example/?x=100%":            "escape",
		"https://a.example/?x=%4":              "escape",
		"https://a.example/%+1":                "escape",
		"https://a.example/?x=%e4%":            "escape",
		"https://a.example/" + long("a", 2048): "length",
		"https://a.example/" + long("é", 800):  "length",
	} {
		u, err := webhook.ParseURL(given)
		wrong, ok := errors.AsType[*webhook.URLError](err)
		if !ok || wrong.Rule != rule {
			t.Errorf("%.80q: %v, %v, want the rule %s", given, u, err, rule)
		}
		if ok && len(given) > 20 && strings.Contains(wrong.Error(), given) {
			t.Errorf("the error repeats %q", given)
		}
	}
}

func long(s string, n int) string { return strings.Repeat(s, n) }

// What was accepted before the grammar goes on being sent.
func TestAStoredURLThatReachedItsReceiverStillDoes(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]string{
		"https://a.example/?discount=100%&x=%zz":                        "https://a.example/?discount=100%&x=%zz",
		"https://a.example./hook":                                       "https://a.example./hook",
		"https://a.example./?name=a b%":                                 "https://a.example./?name=a%20b%",
		"https://b%C3%BCcher.example:443/":                              "https://xn--bcher-kva.example/",
		"https://a.example/" + long("%C3%A9", 3) + "?" + long("é", 900): "https://a.example/" + long("%C3%A9", 3) + "?" + long("%C3%A9", 900),
	} {
		u, err := webhook.StoredURL(stored)
		if err != nil || u.String() != want {
			t.Errorf("%.60q is sent as %v (%v), want %.80q", stored, u, err, want)
		}
	}
	if got := webhook.Shown("no URL"); got != "no URL" {
		t.Errorf("what is no URL is shown as %q", got)
	}
}

func TestAnOriginHoldsNoSecret(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]string{
		"https://hooks.slack.example/services/T0/B0/hush": "https://hooks.slack.example", "https://a.example:8443/?token=hush": "https://a.example:8443",
		"https://user:hush@a.example/": "", "https://b\u00fccher.example/hush?hush": "https://xn--bcher-kva.example", "hush": "", "https://[2606:4700::1111]:1/hush": "https://[2606:4700::1111]:1",
	} {
		if got := webhook.Origin(stored); got != want {
			t.Errorf("the origin of %q is %q, want %q", stored, got, want)
		}
	}
}

// FuzzURL holds that a form is stable, is what goes out, and is plain ASCII that no
// receiver's parser stumbles over.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"https://bücher.example/a b?c=%zz", "http://[::1]:80/%2e%2e/?a|b", `https://a\b`, "https://１.1.1.1./#"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, given string) {
		u, err := webhook.ParseURL(given)
		if err != nil {
			return
		}
		form := u.String()
		again, err := webhook.ParseURL(form)
		if err != nil || again.String() != form {
			t.Fatalf("%q is %q, and that is %v, %v", given, form, again, err)
		}
		if strings.ContainsFunc(form, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"<>\\^`{|}#", r) }) {
			t.Errorf("%q is sent as %q", given, form)
		}
		if wire, err := url.ParseRequestURI(u.RequestURI()); err != nil || !strings.HasSuffix(form, u.RequestURI()) || wire.Path != u.Path {
			t.Errorf("%q goes out as %q: %v", form, u.RequestURI(), err)
		}
		if sent := webhook.Shown(form); sent != form {
			t.Errorf("%q is sent as %q", form, sent)
		}
	})
}
