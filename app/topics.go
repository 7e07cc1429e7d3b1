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

// topicsCommands report how the topics differ from what they should be (diff), or make
// them so (apply), as far as nothing is lost and no key moves. The exit status is 1
// when something differs in the end.
func topicsCommands() []command {
	var force bool
	apply := func(ctx context.Context, cl *kafkaClient, want []schemas.Topic, out io.Writer) error {
		return applyTopics(ctx, cl, want, force, out)
	}
	return []command{
		topicsCommand("apply", "create the topics that are missing and repair the others", apply, func(s *settings) {
			s.fs.BoolVar(&force, "force", false, "shorten what is kept also where records are deleted for it")
		}),
		topicsCommand("diff", "report how the topics differ from what they should be", diffTopics, func(*settings) {}),
	}
}

func topicsCommand(name, does string, do func(context.Context, *kafkaClient, []schemas.Topic, io.Writer) error, flags func(*settings)) command {
	return command{name: name, does: does, run: func(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
		var c config
		s := newSettings("topics " + name)
		c.topicSettings(s)
		flags(s)
		if err := s.parse(args, env); err != nil {
			return err
		}
		if err := c.checkBrokers(); err != nil {
			return err
		}
		log, err := telemetry.NewLogger(stderr, "text", "warn")
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		return withTopics(ctx, &c, log, func(want []schemas.Topic, cl *kafkaClient) error { return do(ctx, cl, want, out) })
	}}
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
