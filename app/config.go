package app

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/telemetry"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/email"
)

// config is everything that a process of Krib can be told, whatever its roles.
type config struct {
	roles       []string
	httpAddr    string
	adminAddr   string
	adminHosts  []string
	pprof       bool
	brokers     []string
	security    securityConfig
	databaseURL string
	instance    string

	logFormat, logLevel string

	partitions   int32
	replayWindow time.Duration
	bookingTTL   time.Duration

	expiryEvery, cleanUpEvery, maintenanceEvery, attemptsRetention time.Duration

	ladder       schemas.Ladder
	maxRetries   int
	timeout      time.Duration
	allow        []netip.Prefix
	allowHTTP    bool
	disableAfter time.Duration

	heartbeat      time.Duration
	maxConnections int
	maxPerHost     int
	maxPerAddress  int
	sseDrain       time.Duration

	pullMaxReaders, pullMaxPerKey int

	connections, connectionsPerAddress int // 0 for what follows from the streams and polls
	hostReads, hostWrites              api.Rate

	pendingNights, pendingRequests int

	masterKeys, secretKey string
	jwtSecret, jwksURL    string
	stripeSecret          schemas.Secret
	issuer, audience      string
	corsOrigins           []string
	proxies               []netip.Prefix
	compression           kafka.Compression

	mail mailConfig
}

// mailConfig is the e-mail sink's; without a server there is none.
type mailConfig struct {
	server    *email.Server
	from      *mail.Address
	digest    time.Duration
	rate      int
	dashboard string
}

// allRoles are what one process can do, in the order in which they start.
var allRoles = []string{"relay", "fanout", "deliver", "retry", "sinks", "push", "jobs", "api"}

func (c *config) has(role string) bool { return slices.Contains(c.roles, role) }

const day = 24 * time.Hour

// shared are the settings of dev and serve alike. perHost is the default bound on
// the streams of one host.
func (c *config) shared(s *settings, perHost string) {
	s.add("KRIB_HTTP_ADDR", "127.0.0.1:8080", "where the API listens", address(&c.httpAddr))
	s.add("KRIB_ADMIN_ADDR", "127.0.0.1:9090", "where /metrics, /healthz and /readyz listen", address(&c.adminAddr))
	s.addBool("KRIB_ADMIN_PPROF", "false", "have /debug/pprof on the admin listener too, for callers of this machine", &c.pprof)
	s.add("KRIB_ADMIN_HOSTS", "", "public names by which the admin listener is called, separated by commas; addresses and private names need not be listed", hostNames(&c.adminHosts))
	s.add("KRIB_LOG_FORMAT", "text", "text or json", logFormat(&c.logFormat))
	s.add("LOG_LEVEL", "info", "debug, info, warn or error", logLevel(&c.logLevel))
	c.topicSettings(s)
	s.add("KRIB_BOOKING_TTL", "24h", "how long a host has to answer a request", duration(&c.bookingTTL, time.Second, 30*day))
	s.add("KRIB_EXPIRY_EVERY", "2s", "how often to look for requests that have run out or need a reminder", duration(&c.expiryEvery, 100*time.Millisecond, time.Hour))
	s.add("KRIB_CLEANUP_EVERY", "2h", "how often to remove what has expired (notifications, idempotency keys) and disable what has failed for too long", duration(&c.cleanUpEvery, time.Minute, 7*day))
	s.add("KRIB_MAINTENANCE_EVERY", "24h", "how often to prepare the next month's partitions, drop old ones and forget Stripe's old events and old replays", duration(&c.maintenanceEvery, time.Minute, 7*day))
	s.add("KRIB_ATTEMPTS_RETENTION", "2160h", "how long webhook attempts are kept, to the month", duration(&c.attemptsRetention, 31*day, 3650*day))
	s.addSecret("STRIPE_WEBHOOK_SECRET", "the signing secret of Stripe's webhook endpoint; without it Stripe is answered 503", func(v string) error {
		c.stripeSecret = schemas.Secret(v)
		return nil
	})
	s.add("WEBHOOK_MAX_RETRIES", "50", "cut the ladder after this many retries", number(&c.maxRetries, 0, 50))
	s.add("WEBHOOK_TIMEOUT", "15s", "for one webhook attempt, headers and body", duration(&c.timeout, 100*time.Millisecond, 5*time.Minute))
	s.add("KRIB_WEBHOOK_DISABLE_AFTER", "120h", "disable a subscription that has failed for so long", duration(&c.disableAfter, time.Minute, 90*day))
	s.add("SSE_HEARTBEAT_INTERVAL", "5s", "between heartbeats of a stream", duration(&c.heartbeat, 100*time.Millisecond, 5*time.Minute))
	s.add("SSE_MAX_CONNECTIONS", "1000", "streams of this process", number(&c.maxConnections, 1, 200_000))
	s.add("SSE_MAX_PER_HOST", perHost, "streams of one host in this process; 0 for no bound of its own", number(&c.maxPerHost, 0, 200_000))
	s.add("SSE_MAX_PER_ADDRESS", "0", "streams from one address; 0 for no bound of its own, as behind a proxy, where all come from one", number(&c.maxPerAddress, 0, 200_000))
	s.add("KRIB_PULL_MAX_READERS", "1000", "agents' streams and polls of this process at a time", number(&c.pullMaxReaders, 1, 200_000))
	s.add("KRIB_PULL_MAX_PER_KEY", "20", "of these, how many one API key may have", number(&c.pullMaxPerKey, 1, 200_000))
	s.add("KRIB_MAX_CONNECTIONS", "0", "connections of the API's listener, streams and polls with them; 0 for those of SSE_MAX_CONNECTIONS and KRIB_PULL_MAX_READERS and 2000 more",
		number(&c.connections, 0, 1_000_000))
	s.add("KRIB_MAX_CONNECTIONS_PER_ADDRESS", "0", "of these, how many one address (of IPv6 a /64) may have; 0 for all but 500, since behind a proxy all come from one",
		number(&c.connectionsPerAddress, 0, 1_000_000))
	c.limitSettings(s)
	c.mail.settings(s)
	s.add("KRIB_TRUSTED_PROXIES", "", "networks of the proxies before the API, separated by commas: 10.0.0.0/8; their X-Forwarded-For says which address a request counts for", ranges(&c.proxies))
	s.add("KRIB_CORS_ORIGINS", "", "origins whose pages may call the API, separated by commas: https://app.example.com; or * for all, without cookies", origins(&c.corsOrigins))
}

// limitSettings bound what a host may do, and what an agent may hold without an
// answer. What a key may do in a minute stands in the key.
func (c *config) limitSettings(s *settings) {
	s.add("KRIB_HOST_WRITE_RATE", "10", "a host's writes a second, in this process", perSecond(&c.hostWrites.PerSecond))
	s.add("KRIB_HOST_WRITE_BURST", "200", "a host's writes at once, after a rest", number(&c.hostWrites.Burst, 1, 1_000_000))
	s.add("KRIB_HOST_READ_RATE", "50", "a host's reads a second, in this process", perSecond(&c.hostReads.PerSecond))
	s.add("KRIB_HOST_READ_BURST", "500", "a host's reads at once, after a rest", number(&c.hostReads.Burst, 1, 1_000_000))
	s.add("KRIB_PENDING_NIGHTS", "90", "nights of one property that an agent's pending requests may hold; 0 for no bound, as platform keys have none", number(&c.pendingNights, 0, 1_000_000))
	s.add("KRIB_PENDING_REQUESTS", "30", "pending requests that an agent may have with one host; 0 for no bound, as platform keys have none", number(&c.pendingRequests, 0, 1_000_000))
}

func (m *mailConfig) settings(s *settings) {
	s.addSecret("KRIB_SMTP_URL", "the server that takes mail: smtp://user:password@host:587, or smtps:// for TLS from the start; no mail without it", func(v string) error {
		m.server = nil
		if v == "" {
			return nil
		}
		server, err := email.ParseServer(schemas.Secret(v))
		m.server = &server
		return err
	})
	s.add("KRIB_MAIL_FROM", "", "whom mail is from: Krib <no-reply@example.com>", func(v string) (err error) {
		if m.from = nil; v == "" {
			return nil
		}
		if m.from, err = mail.ParseAddress(v); err != nil {
			return errors.New("it must be an address, as Krib <no-reply@example.com>")
		}
		return nil
	})
	s.add("KRIB_MAIL_DIGEST", "1m", "how long a host's mail waits for more to tell; what is urgent or asks for an answer never does", duration(&m.digest, 0, day))
	s.add("KRIB_SMTP_RATE", "120", "mails a minute, of the whole installation", number(&m.rate, 1, 100_000))
	s.add("KRIB_DASHBOARD_URL", "", "where the hosts' dashboard is; links in mails begin with it", func(v string) error {
		u, err := url.Parse(v)
		if v != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "") {
			return errors.New("it must be an absolute http or https URL, without ? and #")
		}
		m.dashboard = v
		return nil
	})
}

func (m *mailConfig) check() error {
	if m.server != nil && m.from == nil {
		return fmt.Errorf("KRIB_MAIL_FROM must be set with KRIB_SMTP_URL (%w)", errUsage)
	}
	return nil
}

// topicSettings are those that decide which topics there are.
func (c *config) topicSettings(s *settings) {
	c.brokerSetting(s)
	s.add("KRIB_TOPIC_PARTITIONS", "12", "partitions of a new topic; never raised in place", number(&c.partitions, 1, 1_000))
	s.add("KRIB_REPLAY_WINDOW", "720h", "how long every single booking event is kept", duration(&c.replayWindow, time.Hour, 3650*day))
	s.add("KRIB_RETRY_TIERS", ladderText(schemas.DefaultLadder()), "delays before the second, third, … attempt", func(v string) error {
		var err error
		c.ladder, err = schemas.ParseLadder(v)
		return err
	})
}

func (c *config) brokerSetting(s *settings) {
	s.add("KRIB_KAFKA_BROKERS", "", "Kafka's bootstrap servers, separated by commas", brokers(&c.brokers))
	s.add("KRIB_KAFKA_COMPRESSION", string(kafka.DefaultCompression), "codec of what Krib writes: none, gzip, snappy, lz4 or zstd", func(v string) error {
		if c.compression = kafka.Compression(v); !slices.Contains(kafka.Compressions(), c.compression) {
			return fmt.Errorf("%q must be none, gzip, snappy, lz4 or zstd", v)
		}
		return nil
	})
	c.security.settings(s)
}

func (c *config) databaseSetting(s *settings) {
	s.addSecret("DATABASE_URL", "the Postgres to use: postgres://user:password@host:port/database", func(v string) error {
		c.databaseURL = v
		if v == "" {
			return nil
		}
		return store.CheckURL(v)
	})
}

// checked takes text that passes a check, or none.
func checked(p *string, check func(string) error) func(string) error {
	return func(v string) error {
		*p = v
		if v == "" {
			return nil
		}
		return check(v)
	}
}

func logLevel(p *string) func(string) error {
	return func(v string) error {
		*p = v
		_, err := telemetry.NewLogger(io.Discard, "text", v)
		return err
	}
}

func logFormat(p *string) func(string) error {
	return func(v string) error {
		*p = v
		_, err := telemetry.NewLogger(io.Discard, v, "info")
		return err
	}
}

func brokers(p *[]string) func(string) error {
	return func(v string) error {
		_ = list(p)(v) // never fails
		for _, b := range *p {
			_, port, err := net.SplitHostPort(b)
			if err == nil {
				_, err = portOf(port)
			}
			if err != nil && strings.Contains(b, ":") { // without a port it is Kafka's own
				return fmt.Errorf("%q must be an address and a port, such as broker-1:9092", b)
			}
		}
		return nil
	}
}

func hostNames(p *[]string) func(string) error {
	return func(v string) error {
		_ = list(p)(strings.ToLower(v)) // never fails
		for _, name := range *p {
			if strings.ContainsAny(name, "/:* ") {
				return fmt.Errorf("%q must be a name such as krib-1.example.com, without a port", name)
			}
		}
		return nil
	}
}

// instance becomes a part of a member's name, to which Kafka has the rules of a
// topic's name.
func instance(p *string) func(string) error {
	const longest = 100
	return func(v string) error {
		odd := func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r)
		}
		if len(v) > longest || strings.ContainsFunc(v, odd) {
			return fmt.Errorf("must have at most %d letters, digits, dots, hyphens and underscores", longest)
		}
		*p = v
		return nil
	}
}

func ladderText(l schemas.Ladder) string {
	out := make([]string, len(l))
	for i, d := range l {
		out[i] = strings.TrimPrefix(schemas.TierTopic(d), schemas.RetryPrefix)
	}
	return strings.Join(out, ",")
}

// secrets are what serve must be given; dev makes its own.
func (c *config) secretSettings(s *settings) {
	s.addSecret("KRIB_MASTER_KEYS", "keys that seal secrets at rest: id:base64 of 32 bytes, the sealing one first", checked(&c.masterKeys, func(v string) error {
		_, err := seal.ParseRing(v)
		return err
	}))
	s.addSecret("WEBHOOK_SECRET_KEY", "what the master key is derived from when KRIB_MASTER_KEYS is unset", checked(&c.secretKey, func(v string) error {
		_, err := seal.DeriveRing(v)
		return err
	}))
	s.addSecret("KRIB_JWT_SECRET", "HS256 secret of hosts' tokens", checked(&c.jwtSecret, func(v string) error {
		if len(v) < auth.ShortestSecret {
			return fmt.Errorf("must have at least %d bytes", auth.ShortestSecret)
		}
		return nil
	}))
	s.add("KRIB_JWKS_URL", "", "the identity provider's key set for hosts' tokens", checked(&c.jwksURL, isWebURL))
	s.add("KRIB_JWT_ISSUER", "", "the iss that hosts' tokens must have", text(&c.issuer))
	s.add("KRIB_JWT_AUDIENCE", "", "the aud that hosts' tokens must have; set it with KRIB_JWKS_URL, whose provider signs for other applications too", text(&c.audience))
}

// reachSettings say where webhooks may go beyond the public internet.
func (c *config) reachSettings(s *settings) {
	s.add("KRIB_WEBHOOK_ALLOW_CIDRS", "", "private ranges that webhooks may go to", ranges(&c.allow))
	s.addBool("KRIB_WEBHOOK_ALLOW_HTTP", "false", "let webhooks go to plain http", &c.allowHTTP)
	s.add("KRIB_INSTANCE", "", "a stable ordinal of this process, unique in the installation", instance(&c.instance))
}

func (c *config) ring() (*seal.Ring, error) {
	if c.masterKeys != "" {
		return seal.ParseRing(c.masterKeys)
	}
	if c.secretKey == "" {
		return nil, fmt.Errorf("KRIB_MASTER_KEYS or WEBHOOK_SECRET_KEY must be set (%w)", errUsage)
	}
	return seal.DeriveRing(c.secretKey)
}

func (c *config) topics() []schemas.Topic {
	return schemas.Topics(schemas.TopicOptions{Partitions: c.partitions, ReplayWindow: c.replayWindow, Ladder: c.ladder})
}

// check finds what no single setting can know, before anything is touched.
func (c *config) check() error {
	switch err := c.checkBrokers(); {
	case err != nil:
		return err
	case c.databaseURL == "":
		return fmt.Errorf("DATABASE_URL must be set (%w)", errUsage)
	case c.has("push") && !c.has("api"):
		return fmt.Errorf("the role push needs the role api in the same process: streams come in through the API (%w)", errUsage)
	case c.has("api") && c.jwtSecret == "" && c.jwksURL == "":
		return fmt.Errorf("KRIB_JWT_SECRET or KRIB_JWKS_URL must be set for the role api (%w)", errUsage)
	}
	if c.seals() {
		if _, err := c.ring(); err != nil {
			return err
		}
	}
	return c.mail.check()
}

// seals is whether a role of this process seals secrets or opens them.
func (c *config) seals() bool { return c.has("api") || c.has("deliver") }

// checkBrokers also reads the files of certificates, which are read again when they
// are used.
func (c *config) checkBrokers() error {
	if len(c.brokers) == 0 {
		return fmt.Errorf("KRIB_KAFKA_BROKERS must be set (%w)", errUsage)
	}
	_, err := c.security.read()
	return err
}

func parseRoles(p *[]string) func(string) error {
	return func(v string) error {
		if err := list(p)(v); err != nil {
			return err
		}
		if slices.Equal(*p, []string{"all"}) {
			*p = slices.Clone(allRoles)
		}
		for _, r := range *p {
			if !slices.Contains(allRoles, r) {
				return fmt.Errorf("there is no role %q; there are all, %s", r, strings.Join(allRoles, ", "))
			}
		}
		if len(*p) == 0 {
			return errors.New("at least one role is needed")
		}
		return nil
	}
}
