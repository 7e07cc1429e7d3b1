package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/telemetry"
	"github.com/krib-ai/krib/schemas"
)

type kafkaClient = kgo.Client

// topics creates what is missing (apply) or says what differs (diff), with exit
// status 1 when something does.
func topics(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
	if len(args) == 0 || (args[0] != "apply" && args[0] != "diff") {
		return fmt.Errorf("say apply or diff (%w)", errUsage)
	}
	var c config
	s := newSettings("topics "+args[0], stderr)
	c.topicSettings(s)
	if err := s.parse(args[1:], env); err != nil {
		return err
	}
	if len(c.brokers) == 0 {
		return fmt.Errorf("KRIB_KAFKA_BROKERS must be set (%w)", errUsage)
	}
	log, err := telemetry.NewLogger(stderr, "text", "warn")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return withTopics(ctx, &c, log, func(want []schemas.Topic, cl *kafkaClient) error {
		if args[0] == "apply" {
			if err := kafka.CreateTopics(ctx, cl, want); err != nil {
				return err
			}
		}
		drifts, err := kafka.Diff(ctx, cl, want)
		if err != nil {
			return err
		}
		for _, d := range drifts {
			if _, err := fmt.Fprintln(out, d); err != nil {
				return err
			}
		}
		if len(drifts) > 0 {
			return fmt.Errorf("%d settings differ", len(drifts))
		}
		_, err = fmt.Fprintf(out, "%d topics are as they should be\n", len(want))
		return err
	})
}

func withTopics(_ context.Context, c *config, log *slog.Logger, do func([]schemas.Topic, *kafkaClient) error) error {
	cl, err := kafka.NewProducer(kafka.Config{Brokers: c.brokers, Logger: log}, "topics")
	if err != nil {
		return err
	}
	defer cl.Close()
	return do(c.topics(), cl)
}
