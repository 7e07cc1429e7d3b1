package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/embedded"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/telemetry"
	"github.com/krib-ai/krib/schemas"
)

// devConfig is config and what only dev can be told.
type devConfig struct {
	config

	kafkaAddr, receiverAddr string
	dataDir                 string
	reset                   bool
}

const devFileName = "dev.json"

// devFile is dev.json: how to reach what runs. It is there exactly while
// everything is ready.
type devFile struct {
	APIURL       string             `json:"api_url"`
	AdminURL     string             `json:"admin_url"`
	DashboardURL string             `json:"dashboard_url"`
	APIKey       string             `json:"api_key"`
	HostID       schemas.HostID     `json:"host_id"`
	HostToken    string             `json:"host_token"`
	PropertyID   schemas.PropertyID `json:"property_id"`
	KafkaBrokers []string           `json:"kafka_brokers"`
	DatabaseURL  string             `json:"database_url"`
	ReceiverURL  string             `json:"receiver_url"`
}

// hostTokenLife is long: the token of dev is for a person's shell.
const hostTokenLife = 30 * day

// dev runs everything in one process: an embedded broker, a Postgres that it
// finds or brings, all roles, a seed and a sample receiver.
func dev(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
	c := devConfig{config: config{roles: slices.Clone(allRoles), allowHTTP: true, sseDrain: time.Second}}
	s := newSettings("dev")
	c.shared(s, "0")
	c.secretSettings(s)
	c.databaseSetting(s)
	s.add("KRIB_KAFKA_ADDR", "127.0.0.1:9092", "where the embedded broker listens", address(&c.kafkaAddr))
	s.add("KRIB_RECEIVER_ADDR", "127.0.0.1:8099", "where the sample receiver listens", address(&c.receiverAddr))
	s.add("KRIB_DATA_DIR", ".krib", "the folder that holds everything", text(&c.dataDir))
	s.add("KRIB_WEBHOOK_ALLOW_CIDRS", "", "private ranges that webhooks may go to, beside loopback", ranges(&c.allow))
	s.fs.BoolVar(&c.reset, "reset", false, "begin from nothing: delete what Krib keeps in the data folder first")
	if err := s.parse(args, env); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	c.issuer, c.audience = "", "" // the tokens that dev signs have neither
	c.instance = cmp.Or(c.instance, "dev")
	c.allow = append(c.allow, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	log, err := telemetry.NewLogger(stderr, c.logFormat, c.logLevel)
	if err != nil {
		return err
	}
	return c.run(ctx, out, log)
}

// check finds what no single setting can know, before anything is touched.
func (c *devConfig) check() error {
	if c.reset && (c.databaseURL != "" || len(c.brokers) > 0) {
		return fmt.Errorf("--reset empties the data folder, but DATABASE_URL and KRIB_KAFKA_BROKERS keep what they hold; "+
			"unset them or empty them yourself (%w)", errUsage)
	}
	if len(c.brokers) > 0 {
		if err := c.checkBrokers(); err != nil {
			return err
		}
	}
	return c.mail.check()
}

func (c *devConfig) run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	unlock, err := c.openFolder(ctx, log)
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }()
	id, err := loadIdentity(c.dataDir)
	if err != nil {
		return err
	}
	// What is given wins: a database that was used with other keys needs them.
	c.jwtSecret = cmp.Or(c.jwtSecret, id.JWTSecret)
	if c.masterKeys == "" && c.secretKey == "" {
		c.masterKeys = id.MasterKeys
	}

	ring, err := c.ring()
	if err != nil {
		return err
	}
	listeners, err := c.listenAll(ctx)
	if err != nil {
		return err
	}
	defer listeners.close()
	c.mail.dashboard = cmp.Or(c.mail.dashboard, "http://"+dialable(listeners.http))

	// The servers below outlive ctx: what drains still needs them.
	g, servers := errgroup.WithContext(context.WithoutCancel(ctx))
	servers, stopServers := context.WithCancel(servers)
	defer func() {
		stopServers()
		_ = g.Wait() // their errors were told where they stopped the run
	}()
	stopKafka, err := c.bringKafka(servers, log)
	if err != nil {
		return err
	}
	defer stopKafka()
	stopPostgres, err := c.bringPostgres(ctx, log)
	if err != nil {
		return err
	}
	defer stopPostgres()

	if err := prepare(ctx, &c.config, log); err != nil {
		return err
	}
	jobsDB, err := store.Open(ctx, c.databaseURL, store.RoleJobs, 4)
	if err != nil {
		return err
	}
	defer jobsDB.Close()
	err = jobsDB.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error { return tx.PlantSeed(ctx, id.seed()) })
	if err != nil {
		return err
	}
	rc := &receiver{seen: map[string]int{}, secret: signingSecret(jobsDB, ring)}
	g.Go(func() error {
		return serveHTTP(servers, listeners.receiver, newServer(knownHost(rc.handler()), writeTime), closeGrace)
	})

	defer c.removeDevFile()
	return run(ctx, &c.config, listeners.http, listeners.admin, log, func(schemas.Feed) error {
		f, err := c.devFile(id, listeners)
		if err != nil {
			return err
		}
		if err := writeEnv(filepath.Join(c.dataDir, envFileName), f); err != nil {
			return err
		}
		if err := writeJSON(c.devPath(), f); err != nil { // last: whoever waits for it finds the rest
			return err
		}
		return banner(out, f, c.dataDir)
	})
}

func (c *devConfig) devPath() string { return filepath.Join(c.dataDir, devFileName) }

// removeDevFile removes what is there exactly while everything is ready.
func (c *devConfig) removeDevFile() {
	_ = os.Remove(c.devPath())
	_ = os.Remove(filepath.Join(c.dataDir, envFileName))
}

// openFolder makes, locks and, if asked to, empties the data folder.
func (c *devConfig) openFolder(ctx context.Context, log *slog.Logger) (unlock func() error, err error) {
	if c.dataDir, err = filepath.Abs(c.dataDir); err != nil {
		return nil, fmt.Errorf("finding the data folder: %w", err)
	}
	if err := os.MkdirAll(c.dataDir, 0o750); err != nil {
		return nil, fmt.Errorf("making the data folder: %w", err)
	}
	if unlock, err = embedded.LockFolder(c.dataDir); err != nil {
		return nil, err
	}
	c.removeDevFile()
	if !c.reset {
		return unlock, nil
	}
	if err := c.emptyFolder(ctx, log); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

// emptyFolder stops a Postgres that a killed run left behind, then removes what
// Krib has put there.
func (c *devConfig) emptyFolder(ctx context.Context, log *slog.Logger) error {
	pg := c.postgresDir()
	if _, err := os.Stat(filepath.Join(pg, "data", "postmaster.pid")); err == nil {
		p, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: pg, Logger: log})
		if err != nil {
			return err
		}
		if err := p.Stop(ctx); err != nil {
			return err
		}
	}
	// By name: the folder may be one that holds a person's own things too.
	for _, name := range []string{"dev.json", "dev.json.new", envFileName, envFileName + ".new", identityFile, identityFile + ".new", "kafka", "postgres"} {
		if err := os.RemoveAll(filepath.Join(c.dataDir, name)); err != nil {
			return fmt.Errorf("emptying the data folder: %w", err)
		}
	}
	return nil
}

func (c *devConfig) postgresDir() string { return filepath.Join(c.dataDir, "postgres") }

type devListeners struct{ http, admin, receiver net.Listener }

func (l *devListeners) close() {
	for _, ln := range []net.Listener{l.http, l.admin, l.receiver} {
		if ln != nil {
			_ = ln.Close() // a server may have closed it already
		}
	}
}

func (c *devConfig) listenAll(ctx context.Context) (*devListeners, error) {
	l := &devListeners{}
	for _, want := range []struct {
		ln         *net.Listener
		what, addr string
	}{
		{&l.http, "API", c.httpAddr}, {&l.admin, "admin listener", c.adminAddr}, {&l.receiver, "sample receiver", c.receiverAddr},
	} {
		ln, err := listen(ctx, want.what, want.addr)
		if err != nil {
			l.close()
			return nil, err
		}
		*want.ln = ln
	}
	return l, nil
}

// bringKafka starts the embedded broker unless there is a real one.
func (c *devConfig) bringKafka(servers context.Context, log *slog.Logger) (stop func(), err error) {
	if len(c.brokers) > 0 {
		return func() {}, nil
	}
	dir := filepath.Join(c.dataDir, "kafka")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the broker's folder: %w", err)
	}
	k, err := embedded.StartKafka(servers, embedded.KafkaOptions{Dir: dir, Addr: c.kafkaAddr, Logger: log})
	if err != nil {
		return nil, err
	}
	c.brokers, c.security = k.Addrs(), securityConfig{}
	trim, stopTrim := context.WithCancel(servers)
	trimmed := make(chan error, 1)
	go func() { trimmed <- k.Run(trim) }()
	return func() {
		stopTrim()
		if err := errors.Join(<-trimmed, k.Close()); err != nil {
			log.Warn("stopping the broker failed", slog.Any("error", err))
		}
	}, nil
}

// bringPostgres starts a Postgres in the data folder unless there is a real one.
func (c *devConfig) bringPostgres(ctx context.Context, log *slog.Logger) (stop func(), err error) {
	if c.databaseURL != "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(c.postgresDir(), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making Postgres's folder: %w", err)
	}
	p, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: c.postgresDir(), Logger: log})
	if err != nil {
		return nil, err
	}
	c.databaseURL = p.URL()
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			log.WarnContext(ctx, "stopping Postgres failed", slog.Any("error", err))
		}
	}, nil
}

func (c *devConfig) devFile(id *identity, l *devListeners) (*devFile, error) {
	token, err := auth.SignHostToken([]byte(c.jwtSecret), id.HostID, hostTokenLife, time.Now())
	if err != nil {
		return nil, err
	}
	apiURL := "http://" + dialable(l.http)
	return &devFile{
		APIURL: apiURL, AdminURL: "http://" + dialable(l.admin), DashboardURL: apiURL + "/dashboard/", APIKey: id.APIKey, HostID: id.HostID,
		HostToken: token, PropertyID: id.PropertyID, KafkaBrokers: c.brokers, DatabaseURL: c.databaseURL, ReceiverURL: "http://" + dialable(l.receiver),
	}, nil
}

// dialable is a listener's address as a client of this machine dials it.
func dialable(ln net.Listener) string {
	a, err := netip.ParseAddrPort(ln.Addr().String())
	if err != nil || !a.Addr().IsUnspecified() {
		return ln.Addr().String()
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.Port()).String()
}

// signingSecret lets the sample receiver verify whatever subscription points at
// it.
func signingSecret(db *store.DB, ring *seal.Ring) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, subscription string) (secret []byte, err error) {
		err = db.Read(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
			sub, err := tx.Subscription(ctx, schemas.SubscriptionID(subscription))
			if err != nil {
				return err
			}
			if len(sub.Secrets) == 0 {
				return errors.New("the subscription has no secret")
			}
			secret, err = ring.Open(sub.Secrets[0].Sealed, string(sub.ID), seal.FieldSigningSecret)
			return err
		})
		return secret, err
	}
}
