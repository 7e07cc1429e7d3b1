package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/telemetry"
	"github.com/krib-ai/krib/schemas"
)

type kafkaClient = kgo.Client

// topics says how the topics differ from what they should be (diff), or makes them
// so (apply), as far as nothing is lost and no key moves. Its exit status is 1 when
// something differs in the end.
func topics(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
	if len(args) == 0 || (args[0] != "apply" && args[0] != "diff") {
		return fmt.Errorf("say apply or diff (%w)", errUsage)
	}
	var (
		c     config
		force bool
	)
	s := newSettings("topics "+args[0], io.Discard)
	c.topicSettings(s)
	if args[0] == "apply" {
		s.fs.BoolVar(&force, "force", false, "shorten what is kept also where records are deleted for it")
	}
	err := s.parse(args[1:], env)
	switch {
	case errors.Is(err, flag.ErrHelp):
		s.fs.SetOutput(stderr)
		s.fs.Usage()
		return err
	case err != nil:
		return err
	case s.fs.NArg() > 0:
		return fmt.Errorf("%d arguments too many; flags begin with - (%w)", s.fs.NArg(), errUsage)
	case len(c.brokers) == 0:
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
			return applyTopics(ctx, cl, want, force, out)
		}
		return diffTopics(ctx, cl, want, out)
	})
}

func diffTopics(ctx context.Context, cl *kafkaClient, want []schemas.Topic, out io.Writer) error {
	drifts, err := kafka.Diff(ctx, cl, want)
	if err != nil {
		return err
	}
	for _, d := range drifts {
		says := "apply repairs it"
		if d.Refused != "" {
			says = refusal(d)
		}
		if _, err := fmt.Fprintf(out, "%s; %s\n", d, says); err != nil {
			return err
		}
	}
	return topicsDiffer(out, len(drifts), len(want))
}

func applyTopics(ctx context.Context, cl *kafkaClient, want []schemas.Topic, force bool, out io.Writer) error {
	repaired, left, err := kafka.Repair(ctx, cl, want, force)
	if err != nil {
		return err
	}
	for _, d := range repaired {
		if _, err := fmt.Fprintf(out, "%s: %s was %q, is %q\n", d.Topic, d.Setting, d.Got, d.Want); err != nil {
			return err
		}
	}
	for _, d := range left {
		if _, err := fmt.Fprintf(out, "%s; %s\n", d, refusal(d)); err != nil {
			return err
		}
	}
	return topicsDiffer(out, len(left), len(want))
}

func refusal(d kafka.Drift) string {
	says := "apply does not repair it: " + d.Refused
	if d.Loses {
		says += "; with --force it does"
	}
	return says
}

func topicsDiffer(out io.Writer, drifts, topics int) error {
	if drifts > 0 {
		return fmt.Errorf("%d settings differ", drifts)
	}
	_, err := fmt.Fprintf(out, "%d topics are as they should be\n", topics)
	return err
}

func withTopics(_ context.Context, c *config, log *slog.Logger, do func([]schemas.Topic, *kafkaClient) error) error {
	kc, err := c.kafka(log)
	if err != nil {
		return err
	}
	cl, err := kafka.NewProducer(kc, "topics")
	if err != nil {
		return err
	}
	defer cl.Close()
	return do(c.topics(), cl)
}
