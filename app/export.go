package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/krib-ai/krib/internal/export"
	"github.com/krib-ai/krib/schemas"
)

// The formats of krib export.
const (
	ndjson  = "ndjson"
	parquet = "parquet"
)

// An exportCommand is what krib export was told.
type exportCommand struct {
	*topicReader

	o      export.Options
	redact redaction
	format string
	file   string // empty for the standard output
	force  bool
}

// runExport writes what was committed on a topic when it began, as lines of JSON or
// as a Parquet file.
func runExport(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
	e := &exportCommand{topicReader: newRecordReader("export", env, out, stderr), format: ndjson}
	e.flags()
	if _, err := e.parse(args, ""); err != nil {
		return err
	}
	if err := e.check(); err != nil {
		return err
	}
	var err error
	if e.o.Redactor, err = e.redact.redactor(stderr, "export"); err != nil {
		return err
	}
	if e.o.Kafka, err = e.kafka(ctx); err != nil {
		return err
	}
	return e.run(ctx)
}

func (e *exportCommand) flags() {
	fs := e.s.fs
	fs.StringVar(&e.o.Topic, "topic", "", "the topic, such as "+string(schemas.BookingEvents))
	fs.Func("since", "only what came onto it since this time, or so long ago (default its start)", instant(&e.o.Since))
	fs.Func("until", "only what came onto it before this time, or so long ago (default its end now)", instant(&e.o.Until))
	fs.StringVar(&e.o.Key, "key", "", "only the records of this key, such as a booking's id")
	fs.Func("format", "ndjson or parquet (default ndjson)", func(v string) error {
		if v != ndjson && v != parquet {
			return errors.New("must be ndjson or parquet")
		}
		e.format = v
		return nil
	})
	fs.StringVar(&e.file, "out", "", "the file to write, which is not there yet (default the standard output, for ndjson)")
	fs.BoolVar(&e.force, "force", false, "write over the file")
	e.redact.settings(e.s)
}

func (e *exportCommand) check() error {
	switch {
	case e.o.Topic == "":
		return fmt.Errorf("--topic is needed (%w)", errUsage)
	case !e.o.Until.IsZero() && !e.o.Since.Before(e.o.Until):
		return fmt.Errorf("--until must be after --since (%w)", errUsage)
	case e.format == parquet && e.file == "":
		return fmt.Errorf("--out is needed for parquet, which is no text (%w)", errUsage)
	}
	return nil
}

func (e *exportCommand) run(ctx context.Context) (err error) {
	var done export.Summary
	if e.file == "" {
		done, err = e.write(ctx, e.out)
	} else {
		err = export.ToFile(e.file, e.force, func(w io.Writer) (err error) {
			done, err = e.write(ctx, w)
			return err
		})
	}
	switch {
	case errors.Is(err, export.ErrExists):
		return fmt.Errorf("%w; --force writes over it", err)
	case err == nil && e.file != "":
		_, err = fmt.Fprintf(e.stderr, "krib export: %d records of %s are in %s\n", done.Records, e.o.Topic, e.file)
	}
	return errors.Join(err, e.redact.confess(e.stderr, "export", done))
}

func (e *exportCommand) write(ctx context.Context, w io.Writer) (export.Summary, error) {
	to := export.Writer(export.NewLines(w))
	if e.format == parquet {
		to = export.NewParquet(w, e.o.Topic)
	}
	done, err := export.Read(ctx, e.o, to.Write)
	if err != nil {
		return done, err
	}
	return done, to.Close()
}
