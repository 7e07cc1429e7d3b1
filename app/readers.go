package app

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	t := &topicReader{s: newSettings(command), env: env, out: out, stderr: stderr}
	t.c.brokerSetting(t.s)
	return t
}

// parse reads the flags, and an argument where one is needed. The files of
// certificates are read too, so that what is wrong with them comes before any
// connection.
func (t *topicReader) parse(args []string, needs string) (given string, err error) {
	if needs == "" {
		err = t.s.parse(args, t.env)
	} else {
		t.s.takes = " ID"
		given, err = t.s.parseID(args, t.env, needs)
	}
	if err != nil {
		return "", err
	}
	return given, t.c.checkBrokers()
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
