package email

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/krib-ai/krib/schemas"
)

// A Server is where mail is handed over.
type Server struct {
	host     string
	port     int
	implicit bool           // TLS from the first byte
	starttls mail.TLSPolicy // without implicit
	user     string
	password schemas.Secret
	// trust is the system's roots where it is nil.
	trust *tls.Config
}

// ParseServer reads smtp://user:password@host:587, where TLS begins with STARTTLS,
// or smtps://…:465, where it comes first. ?starttls=optional takes what the server
// offers and ?starttls=off none, both without a password only; a server on this
// machine is asked for it by default, others must have it. No error repeats the
// URL, which holds a secret.
func ParseServer(secret schemas.Secret) (Server, error) {
	u, err := url.Parse(secret.Reveal())
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return Server{}, errors.New("it must be smtp://user:password@host:587 or smtps://user:password@host:465")
	}
	s := Server{host: u.Hostname(), implicit: u.Scheme == "smtps", port: 587, starttls: mail.TLSMandatory}
	if s.implicit {
		s.port = 465
	}
	if p := u.Port(); p != "" {
		if s.port, err = strconv.Atoi(p); err != nil || s.port < 1 || s.port > 65535 {
			return Server{}, errors.New("its port must be from 1 to 65535")
		}
	}
	password, _ := u.User.Password()
	s.user, s.password = u.User.Username(), schemas.Secret(password)
	return s, s.policy(u.Query())
}

func (s *Server) policy(q url.Values) error {
	local := s.host == "localhost"
	if a, err := netip.ParseAddr(s.host); err == nil {
		local = a.IsLoopback()
	}
	if local {
		s.starttls = mail.TLSOpportunistic
	}
	said := q.Get("starttls")
	q.Del("starttls")
	switch {
	case len(q) > 0:
		return errors.New("it may ask for starttls only, behind its question mark")
	case said == "":
	case s.implicit:
		return errors.New("smtps:// has TLS already, and no starttls")
	case said == "required":
		s.starttls = mail.TLSMandatory
	case said != "optional" && said != "off":
		return errors.New("starttls must be required, optional or off")
	case s.user != "" && !local:
		return errors.New("a password goes over TLS only: starttls must be required")
	case said == "optional":
		s.starttls = mail.TLSOpportunistic
	default:
		s.starttls = mail.NoTLS
	}
	return nil
}

const (
	// sendTimeout bounds a connection's making, and a mail. It is well below the
	// lease, so that nobody takes a mail that may still be under way.
	sendTimeout = 30 * time.Second
	// idleTimeout is how long a connection is kept without mail.
	idleTimeout = 5 * time.Second
)

// A connection is one session with the server. Not safe for concurrent use, but
// for drop.
type connection struct {
	client  *mail.Client
	session *smtp.Client
	raw     net.Conn
}

// connect makes a session that is ready for mail.
func (s *Server) connect(ctx context.Context) (*connection, error) {
	c := &connection{}
	ready := func() bool { return true }
	defer func() { ready() }()
	opts := []mail.Option{
		mail.WithPort(s.port), mail.WithTimeout(sendTimeout),
		// Its own dialer would leave a connection open on which TLS or the login failed.
		mail.WithDialContextFunc(func(dialing context.Context, network, _ string) (_ net.Conn, err error) {
			if c.raw, err = s.dial(dialing, network); err == nil {
				ready = context.AfterFunc(ctx, c.drop) // what follows does not look at a context
			}
			return c.raw, err
		}),
		mail.WithTLSPolicy(s.starttls),
		// An answer to RSET would only delay the writing down of what became of a mail,
		// and an error of it would look like one of the mail.
		mail.WithoutRset(),
	}
	if s.implicit {
		opts = append(opts, mail.WithSSL())
	}
	if s.trust != nil {
		opts = append(opts, mail.WithTLSConfig(s.trust))
	}
	if s.user != "" {
		// The strongest that the server has; the last two refuse to speak without TLS
		// to another machine.
		opts = append(opts, mail.WithUsername(s.user), mail.WithPassword(s.password.Reveal()), mail.WithOpportunisticSMTPAuth(
			mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	var err error
	if c.client, err = mail.NewClient(s.host, opts...); err != nil {
		return nil, fmt.Errorf("preparing for %s: %w", s.host, err)
	}
	if c.session, err = c.client.DialToSMTPClientWithContext(ctx); err != nil {
		c.drop()
		return nil, fmt.Errorf("connecting to %s: %w", s.host, err)
	}
	return c, nil
}

func (s *Server) dial(ctx context.Context, network string) (net.Conn, error) {
	addr := net.JoinHostPort(s.host, strconv.Itoa(s.port)) // go-mail's own is wrong for IPv6
	if !s.implicit {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.trust != nil {
		conf = s.trust.Clone()
	}
	conf.ServerName = cmp.Or(conf.ServerName, s.host)
	return (&tls.Dialer{Config: conf}).DialContext(ctx, network, addr)
}

// send hands a mail over. delivered is true once the server has taken it, whatever
// went wrong afterwards.
func (c *connection) send(m *mail.Msg) (delivered bool, err error) {
	err = c.client.SendWithSMTPClient(c.session, m)
	return m.IsDelivered(), err
}

// close says goodbye, for a moment.
func (c *connection) close() {
	_ = c.raw.SetDeadline(time.Now().Add(time.Second))
	_ = c.client.CloseWithSMTPClient(c.session) // nothing depends on it
	c.drop()
}

// drop ends the connection at once, and whatever goes on over it.
func (c *connection) drop() {
	if c.raw != nil {
		_ = c.raw.Close()
	}
}

// A verdict is what becomes of a mail after an attempt.
type verdict int

const (
	sent    verdict = iota
	later           // the server may take it another time
	refused         // the server will never take it
	unheard         // the mail was not the reason: the server has heard nothing of it
	verdicts
)

func (v verdict) String() string {
	return [verdicts]string{"sent", "later", "refused", "unheard"}[v]
}

// judge reads an attempt. Only what the server says of the recipient or of the
// content is for good: what it says of the sender is about our settings, and people
// can mend them. An answer that never came may have been a yes; the mail is sent
// again, under the same Message-ID.
func judge(delivered bool, err error) verdict {
	var e *mail.SendError
	switch {
	case delivered || err == nil:
		return sent
	case !errors.As(err, &e):
		return later
	case e.Reason == mail.ErrConnCheck:
		return unheard
	case e.Reason == mail.ErrSMTPMailFrom:
		return later
	case e.Reason == mail.ErrGetRcpts || e.Reason == mail.ErrGetSender:
		return refused
	case e.ErrorCode() >= 500:
		return refused
	}
	return later
}
