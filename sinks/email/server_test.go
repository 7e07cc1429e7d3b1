package email

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"testing"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

func TestAServersURLSaysHowItIsReached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url      string
		port     int
		implicit bool
		starttls gomail.TLSPolicy
	}{
		{"smtp://user:pw@mail.example.com", 587, false, gomail.TLSMandatory},
		{"smtp://mail.example.com:2525/", 2525, false, gomail.TLSMandatory},
		{"smtp://mail.example.com?starttls=optional", 587, false, gomail.TLSOpportunistic},
		{"smtp://mail.example.com?starttls=off", 587, false, gomail.NoTLS},
		{"smtp://localhost:25", 25, false, gomail.TLSOpportunistic},
		{"smtp://127.0.0.1:25?starttls=required", 25, false, gomail.TLSMandatory},
		{"smtp://user:pw@[::1]:25?starttls=off", 25, false, gomail.NoTLS},
		{"smtps://user:p%40w@mail.example.com", 465, true, gomail.TLSMandatory},
	} {
		s, err := ParseServer(schemas.Secret(c.url))
		if err != nil || s.port != c.port || s.implicit != c.implicit || s.starttls != c.starttls {
			t.Errorf("%s: %+v, %v", c.url, s, err)
		}
	}
	for _, url := range []string{
		"", "mail.example.com", "http://mail.example.com", "smtp://", "smtp://user:topsecret@mail.example.com:0", "smtp://user:topsecret@mail.example.com:x",
		"smtp://user:topsecret@mail.example.com?starttls=off", "smtp://user:topsecret@mail.example.com?starttls=optional", "smtp://mail.example.com?starttls=maybe",
		"smtps://mail.example.com?starttls=off", "smtp://mail.example.com?tls=off", "smtp://user:topsecret@mail.example.com/path", "smtp://user:top\x00secret@mail.example.com",
	} {
		if s, err := ParseServer(schemas.Secret(url)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %+v, %v", url, s, err)
		}
	}
}

func aMail(t *testing.T) *gomail.Msg {
	t.Helper()
	m := gomail.NewMsg()
	m.FromMailAddress(&mail.Address{Address: "a@example.com"})
	m.ToMailAddress(&mail.Address{Address: "b@example.com"})
	m.SetBodyString(gomail.TypeTextPlain, "text")
	m.AddAlternativeString(gomail.TypeTextHTML, "html")
	return m
}

func TestAMailGoesOverTLSWithALogin(t *testing.T) {
	t.Parallel()
	for scheme, implicit := range map[string]bool{"smtp": false, "smtps": true} {
		m, trust := testenv.SMTPOverTLS(t, implicit)
		m.Login("krib")
		dial := func(user string) (*connection, error) {
			s, err := ParseServer(schemas.Secret(scheme + "://" + user + "@" + m.Addr() + map[bool]string{false: "?starttls=required"}[implicit]))
			if err != nil {
				t.Fatal(err)
			}
			s.trust = trust
			return s.connect(t.Context())
		}
		c, err := dial("krib:secret")
		if err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		if delivered, err := c.send(aMail(t)); !delivered || err != nil {
			t.Errorf("%s: delivered %t, %v", scheme, delivered, err)
		}
		c.close()
		if n := len(m.Letters()); n != 1 {
			t.Errorf("%s: %d letters", scheme, n)
		}
		if _, err := dial("krib:topsecret"); err == nil || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s with the wrong password: %v", scheme, err)
		}
		trust = nil
		if _, err := dial("krib:secret"); err == nil {
			t.Errorf("%s believes any certificate", scheme)
		}
	}
	plain := testenv.SMTP(t)
	s, err := ParseServer(schemas.Secret(plain.URL() + "?starttls=required"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.connect(t.Context()); err == nil {
		t.Error("it does without the TLS that it must have")
	}
}

func TestOnlyWhatTheServerSaysOfAMailIsForGood(t *testing.T) {
	t.Parallel()
	for want, err := range map[verdict]error{
		unheard: &gomail.SendError{Reason: gomail.ErrConnCheck},
		later:   errors.New("anything else"),
		refused: fmt.Errorf("wrapped: %w", &gomail.SendError{Reason: gomail.ErrGetRcpts}),
	} {
		if got := judge(false, err); got != want {
			t.Errorf("%v is %v, want %v", err, got, want)
		}
	}
	if got := judge(false, &gomail.SendError{Reason: gomail.ErrSMTPMailFrom}); got != later {
		t.Errorf("what is said of the sender is %v", got)
	}
	if got := judge(true, errors.New("after the answer")); got != sent {
		t.Errorf("a mail that was taken is %v", got)
	}
}

func TestAttemptsBecomeRarer(t *testing.T) {
	t.Parallel()
	var sum time.Duration
	for n := 1; n < maxAttempts; n++ {
		if n > 1 && backoff(n) < backoff(n-1) {
			t.Errorf("attempt %d comes sooner than the one before", n)
		}
		sum += backoff(n)
	}
	if backoff(1) != 30*time.Second || sum < 12*time.Hour || sum > 24*time.Hour || sum > tooOld {
		t.Errorf("first after %v, all within %v", backoff(1), sum)
	}
	if sendTimeout*3 > lease || grace >= lease {
		t.Error("a lease may end before its mail does")
	}
}

func TestALinkLeadsToTheDashboardOrToTheWeb(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dashboard, action, want string }{
		{"https://krib.test", "/dashboard/bookings/bkg_1", "https://krib.test/dashboard/bookings/bkg_1"},
		{"https://krib.test/app/", "/b?x=1&y=2#z", "https://krib.test/app/b?x=1&y=2#z"},
		{"https://krib.test", "https://other.test/a", "https://other.test/a"},
		{"https://krib.test", "http://other.test", "http://other.test"},
		{"", "/dashboard", ""},
		{"https://krib.test", "", ""},
		{"https://krib.test", "//other.test/a", ""},
		{"https://krib.test", "@other.test/a", ""},
		{"https://krib.test", ".other.test/a", ""},
		{"https://krib.test", "javascript:alert(1)", ""},
		{"https://krib.test", "data:text/html,x", ""},
		{"https://krib.test", "https:///a", ""},
		{"https://krib.test", "https://user@other.test/", ""},
		{"https://krib.test", "mailto:a@example.com", ""},
		{"https://krib.test", "/a\nb", ""},
	} {
		if got := link(c.dashboard, c.action); got != c.want {
			t.Errorf("%q at %q is %q, want %q", c.action, c.dashboard, got, c.want)
		}
	}
}
