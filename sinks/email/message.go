package email

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	htmltemplate "html/template"
	"net/mail"
	"net/url"
	"strings"
	"text/template"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"

	"github.com/krib-ai/krib/schemas"
)

//go:embed mail.txt.tmpl
var plainText string

//go:embed mail.html.tmpl
var htmlText string

var (
	plain = template.Must(template.New("mail.txt").Parse(plainText))
	html  = htmltemplate.Must(htmltemplate.New("mail.html").Parse(htmlText))
)

// A page is what the templates show.
type page struct {
	Subject string
	Entries []shown
	Guest   bool
}

type shown struct {
	entry

	At string // when it happened, for hosts
}

// compose makes the mail of a letter: text and HTML, both of the same words.
func (s *sender) compose(l *letter) (*gomail.Msg, error) {
	to, err := mail.ParseAddress(l.to)
	if err != nil {
		return nil, fmt.Errorf("reading the address: %w", err)
	}
	p, err := s.page(l)
	if err != nil {
		return nil, err
	}
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	m.FromMailAddress(&s.o.From)
	m.ToMailAddress(to)
	m.Subject(p.Subject)
	m.SetDateWithValue(time.Now())
	m.SetMessageIDWithValue(messageID(l.lease.MailID, s.o.From.Address))
	m.SetGenHeader("Auto-Submitted", "auto-generated") // no machine shall answer
	if err := m.SetBodyTextTemplate(plain, p); err != nil {
		return nil, fmt.Errorf("writing the text: %w", err)
	}
	if err := m.AddAlternativeHTMLTemplate(html, p); err != nil {
		return nil, fmt.Errorf("writing the HTML: %w", err)
	}
	return m, nil
}

func (s *sender) page(l *letter) (*page, error) {
	p := &page{Guest: l.forGuest()}
	zone := schemas.StoredZone(l.box.TimeZone)
	for i := range l.entries {
		e, err := schemas.Decode[entry](l.entries[i].Content)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", l.entries[i].ID, err)
		}
		e.Link = link(s.o.Dashboard, e.Link)
		v := shown{entry: e}
		if !p.Guest {
			v.At = l.entries[i].HappenedAt.In(zone).Format("Mon 2 Jan 2006, 15:04")
		}
		p.Entries = append(p.Entries, v)
	}
	p.Subject = clip(oneLine(p.Entries[0].Title), 150)
	if n := len(p.Entries) - 1; n > 0 {
		p.Subject = clip(p.Subject, 100) + fmt.Sprintf(" (and %d more)", n)
	}
	return p, nil
}

// oneLine makes a text that is no second header, whoever reads it.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

// messageID is the same for each attempt at a mail, so that a server that gets it
// twice can tell. It shows nothing of the id, which may be anything.
func messageID(id, from string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16]) + from[strings.LastIndex(from, "@"):]
}

// link is where a notification's button leads: an absolute web address is itself, a
// path is one of the dashboard, and anything else is nowhere.
func link(dashboard, action string) string {
	u, err := url.Parse(action)
	switch {
	case err != nil || action == "":
		return ""
	case u.Scheme == "https" || u.Scheme == "http":
		if u.Host == "" || u.User != nil {
			return ""
		}
		return u.String()
	case u.Scheme != "" || u.Host != "" || dashboard == "" || !strings.HasPrefix(action, "/") || strings.HasPrefix(action, "//"):
		return ""
	}
	return strings.TrimSuffix(dashboard, "/") + u.String()
}
