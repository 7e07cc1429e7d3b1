package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/telemetry"
)

// A topicReader is what the commands that look at the topics have in common.
type topicReader struct {
	c           config
	s           *settings
	env         Lookup
	out, stderr io.Writer
	asJSON      bool
}

func newTopicReader(command string, env Lookup, out, stderr io.Writer) *topicReader {
	t := newRecordReader(command, env, out, stderr)
	t.s.fs.BoolVar(&t.asJSON, "json", false, "answer as JSON")
	return t
}

// newRecordReader is for a command that has a format of its own.
func newRecordReader(command string, env Lookup, out, stderr io.Writer) *topicReader {
	// The flag package answers a wrong value with the whole usage; here it is one line.
	t := &topicReader{s: newSettings(command, io.Discard), env: env, out: out, stderr: stderr}
	t.c.brokerSetting(t.s)
	return t
}

// parse reads the flags, before or after an argument where one is needed.
func (t *topicReader) parse(args []string, needs string) (given string, err error) {
	if needs != "" && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		given, args = args[0], args[1:]
	}
	if err := t.s.parse(args, t.env); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			t.s.fs.SetOutput(t.stderr)
			t.s.fs.Usage()
		}
		return "", err
	}
	rest := t.s.fs.Args()
	if needs != "" && given == "" && len(rest) == 1 {
		given, rest = rest[0], nil
	}
	switch {
	case len(rest) > 0:
		return "", fmt.Errorf("%d arguments too many; flags begin with - (%w)", len(rest), errUsage)
	case needs != "" && given == "":
		return "", fmt.Errorf("%s is needed (%w)", needs, errUsage)
	case len(t.c.brokers) == 0:
		return "", fmt.Errorf("KRIB_KAFKA_BROKERS must be set (%w)", errUsage)
	}
	return given, nil
}

// kafka is how to reach the cluster, which must answer soon.
func (t *topicReader) kafka(ctx context.Context) (kafka.Config, error) {
	log, err := telemetry.NewLogger(t.stderr, "text", "error")
	if err != nil {
		return kafka.Config{}, err
	}
	c, err := t.c.kafka(log)
	if err != nil {
		return c, err
	}
	cl, err := kafka.NewProducer(c, "cli")
	if err != nil {
		return c, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	switch err := cl.Ping(ctx); {
	case errors.Is(err, io.EOF):
		return c, fmt.Errorf("reaching Kafka: the broker closes the connection, as one does that wants KRIB_KAFKA_TLS or another KRIB_KAFKA_SASL: %w", err)
	case err != nil:
		return c, fmt.Errorf("reaching Kafka: %w", err)
	}
	return c, nil
}

// instant reads a moment, or how long ago one was.
func instant(at *time.Time) func(string) error {
	return func(v string) error {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			d, wrong := lifetime(v)
			if wrong != nil {
				return errors.New("must be a time such as 2026-01-31T12:00:00Z, or how long ago, such as 12h or 7d")
			}
			t = time.Now().Add(-d)
		}
		*at = t.UTC()
		return nil
	}
}
