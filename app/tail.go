package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/krib-ai/krib/internal/export"
	"github.com/krib-ai/krib/schemas"
)

// tail prints what is committed on a topic, and goes on with --follow.
func tail(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
	t := newTopicReader("tail", env, out, stderr)
	var (
		o      = export.Options{Since: time.Now().Add(-time.Hour).UTC()}
		redact redaction
	)
	fs := t.s.fs
	fs.StringVar(&o.Topic, "topic", "", "the topic, such as "+string(schemas.BookingEvents))
	fs.Func("since", "only what came onto it since this time, or so long ago (default 1h)", instant(&o.Since))
	fs.StringVar(&o.Key, "key", "", "only the records of this key, such as a booking's id")
	fs.BoolVar(&o.Follow, "follow", false, "go on behind the end, until interrupted")
	redact.settings(t.s)
	if _, err := t.parse(args, ""); err != nil {
		return err
	}
	if o.Topic == "" {
		return fmt.Errorf("--topic is needed (%w)", errUsage)
	}
	var err error
	if o.Redactor, err = redact.redactor(stderr, "tail"); err != nil {
		return err
	}
	if o.Kafka, err = t.kafka(ctx); err != nil {
		return err
	}
	lines := export.NewLines(out)
	write := func(r *export.Record) error { return printRecord(out, r) }
	if t.asJSON {
		write = func(r *export.Record) error { // whoever follows waits for each line
			return errors.Join(lines.Write(r), lines.Flush())
		}
	}
	done, err := export.Read(ctx, o, write)
	if o.Follow && ctx.Err() != nil {
		err = nil // it was asked to stop
	}
	return errors.Join(err, redact.confess(stderr, "tail", done))
}

// printRecord is a line for people; the value comes last and whole.
func printRecord(out io.Writer, r *export.Record) error {
	value := string(r.Value)
	switch {
	case r.Raw != nil:
		value = fmt.Sprintf("%q", r.Raw)
	case r.Value == nil:
		value = "-"
	}
	_, err := fmt.Fprintf(out, "%s %s/%d@%d %s %s %s\n", r.Timestamp.Format("2006-01-02T15:04:05.000Z07:00"), r.Topic, r.Partition, r.Offset,
		word(r.Key), word(r.Headers["ce_type"]), value)
	return err
}

// word keeps what others wrote from steering a terminal, and from being two words.
func word(s string) string {
	if s == "" {
		return "-"
	}
	for _, c := range s {
		if c <= ' ' || c >= 0x7f {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}
