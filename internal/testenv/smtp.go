package testenv

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// A Letter is a mail as a MailServer took it.
type Letter struct {
	From       string // of the envelope, as To
	To         []string
	Raw        string
	Header     mail.Header
	Text, HTML string
}

// A MailServer is a real SMTP server that keeps what it takes.
type MailServer struct {
	tb   testing.TB
	gate *gate

	mu      sync.Mutex
	verdict func(to string) error
	user    string
	letters []Letter
	tries   int
}

// SMTP starts a mail server that takes everything. It ends with the test.
func SMTP(tb testing.TB) *MailServer {
	tb.Helper()
	return startMail(tb, nil, false)
}

// SMTPOverTLS starts one with a certificate that only trust believes, for
// implicit TLS or for STARTTLS.
func SMTPOverTLS(tb testing.TB, implicit bool) (m *MailServer, trust *tls.Config) {
	tb.Helper()
	web := httptest.NewTLSServer(nil) // it has a certificate for 127.0.0.1
	defer web.Close()
	trust = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}
	trust.RootCAs.AddCert(web.Certificate())
	return startMail(tb, &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}, implicit), trust
}

func startMail(tb testing.TB, conf *tls.Config, implicit bool) *MailServer {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	m := &MailServer{tb: tb, gate: &gate{Listener: ln}, verdict: func(string) error { return nil }}
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailSession{m: m}, nil }))
	srv.Domain, srv.AllowInsecureAuth, srv.ErrorLog = "mail.test", conf == nil, silent{}
	if ln = m.gate; implicit {
		ln = tls.NewListener(ln, conf)
	} else {
		srv.TLSConfig = conf
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	tb.Cleanup(func() {
		_ = srv.Close() // Serve says the same
		m.Stop()
		if err := <-ended; err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			tb.Errorf("the mail server ended with %v", err)
		}
	})
	return m
}

// A gate lets connections through, or ends them. Its port stays its own.
type gate struct {
	net.Listener

	mu    sync.Mutex
	shut  bool
	conns []net.Conn
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		shut := g.shut
		g.conns = append(g.conns, c)
		g.mu.Unlock()
		if !shut {
			return c, nil
		}
		_ = c.Close()
	}
}

// URL is the server's, without a login.
func (m *MailServer) URL() string { return "smtp://" + m.Addr() }

// Addr is host:port.
func (m *MailServer) Addr() string { return m.gate.Addr().String() }

// Stop ends every connection, and every one that comes, before a word is said.
func (m *MailServer) Stop() {
	m.gate.mu.Lock()
	defer m.gate.mu.Unlock()
	m.gate.shut = true
	for _, c := range m.gate.conns {
		_ = c.Close()
	}
	m.gate.conns = nil
}

// Start ends a stop.
func (m *MailServer) Start() {
	m.gate.mu.Lock()
	defer m.gate.mu.Unlock()
	m.gate.shut = false
}

// Judge lets f say what the server answers to a recipient: nil, or an
// *smtp.SMTPError. It may be called again.
func (m *MailServer) Judge(f func(to string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.verdict = f
}

// Login makes the server ask for a user, whose password is "secret".
func (m *MailServer) Login(user string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.user = user
}

// Letters are what the server has taken, in order.
func (m *MailServer) Letters() []Letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.letters)
}

// Tries is how often a recipient was named to it.
func (m *MailServer) Tries() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tries
}

type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// mailSession is one connection's.
type mailSession struct {
	m      *MailServer
	letter Letter
	known  bool
}

func (s *mailSession) wants() string {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.m.user
}

func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if s.known = user == s.wants() && password == "secret"; !s.known {
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.wants() != "" && !s.known {
		return smtp.ErrAuthRequired
	}
	s.letter = Letter{From: from}
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.m.mu.Lock()
	judge := s.m.verdict
	s.m.tries++
	s.m.mu.Unlock()
	if err := judge(to); err != nil {
		return err
	}
	s.letter.To = append(s.letter.To, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	l := s.letter
	l.Raw = string(raw)
	if err := l.parse(); err != nil {
		s.m.tb.Errorf("a mail that cannot be read: %v\n%s", err, raw)
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.letters = append(s.m.letters, l)
	return nil
}

func (s *mailSession) Reset()        { s.letter = Letter{} }
func (s *mailSession) Logout() error { return nil }

func (l *Letter) parse() error {
	msg, err := mail.ReadMessage(bytes.NewReader([]byte(l.Raw)))
	if err != nil {
		return err
	}
	l.Header = msg.Header
	kind, params, err := mime.ParseMediaType(l.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		return errors.Join(err, errors.New("it is not multipart/alternative but "+kind))
	}
	for parts := multipart.NewReader(msg.Body, params["boundary"]); ; {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		body, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			return err
		}
		switch kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type")); kind {
		case "text/plain":
			l.Text = strings.ReplaceAll(string(body), "\r\n", "\n")
		case "text/html":
			l.HTML = strings.ReplaceAll(string(body), "\r\n", "\n")
		default:
			return errors.New("a part of type " + kind)
		}
	}
}

// Subject is decoded.
func (l *Letter) Subject() string {
	s, err := new(mime.WordDecoder).DecodeHeader(l.Header.Get("Subject"))
	if err != nil {
		return l.Header.Get("Subject")
	}
	return s
}
