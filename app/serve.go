package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/telemetry"
	"github.com/krib-ai/krib/schemas"
)

// startTimeout bounds what a start waits for: migrations of others, topics.
const startTimeout = 2 * time.Minute

// serve runs the chosen roles against Kafka and Postgres of one's own. It brings
// the database up to date and creates the topics that are missing.
func serve(ctx context.Context, args []string, env Lookup, _, stderr io.Writer) error {
	c := config{sseDrain: 3 * time.Second}
	s := newSettings("serve")
	s.add("KRIB_ROLES", "all", "what this process does: all, or some of "+strings.Join(allRoles, ", "), parseRoles(&c.roles))
	c.shared(s, "100")
	c.databaseSetting(s)
	c.secretSettings(s)
	c.reachSettings(s)
	if err := s.parse(args, env); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	log, err := telemetry.NewLogger(stderr, c.logFormat, c.logLevel)
	if err != nil {
		return err
	}
	var httpLn net.Listener
	api := "none"
	if c.has("api") {
		if httpLn, err = listen(ctx, "API", c.httpAddr); err != nil {
			return err
		}
		defer func() { _ = httpLn.Close() }()
		api = httpLn.Addr().String()
		if !c.has("push") {
			log.WarnContext(ctx, "this process has no role push: it turns streams away, so route them to one that has it")
		}
	}
	adminLn, err := listen(ctx, "admin listener", c.adminAddr)
	if err != nil {
		return err
	}
	defer func() { _ = adminLn.Close() }()
	if err := prepare(ctx, &c, log); err != nil {
		return err
	}
	return run(ctx, &c, httpLn, adminLn, log, func(schemas.Feed) error {
		log.InfoContext(ctx, "ready", slog.String("api", api), slog.String("admin", adminLn.Addr().String()), slog.Int64("memory_limit", debug.SetMemoryLimit(-1)))
		return nil
	})
}

// prepare brings database and topics to what this version needs.
func prepare(ctx context.Context, c *config, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := store.Migrate(ctx, c.databaseURL); err != nil {
		return err
	}
	return withTopics(ctx, c, log, func(topics []schemas.Topic, cl *kafkaClient) error {
		if err := kafka.CreateTopics(ctx, cl, topics); err != nil {
			return err
		}
		drifts, err := kafka.Diff(ctx, cl, topics)
		for _, d := range drifts {
			log.WarnContext(ctx, "a topic differs from what it should be", slog.String("drift", d.String()))
		}
		return err
	})
}

func migrate(ctx context.Context, args []string, env Lookup, out, _ io.Writer) error {
	var c config
	s := newSettings("migrate")
	c.databaseSetting(s)
	if err := s.parse(args, env); err != nil {
		return err
	}
	if c.databaseURL == "" {
		return fmt.Errorf("DATABASE_URL must be set (%w)", errUsage)
	}
	if err := store.Migrate(ctx, c.databaseURL); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "the database is up to date")
	return err
}
