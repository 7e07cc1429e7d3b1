package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/bench"
)

// runBench measures an installation that it starts and stops itself: this same
// program as a child process, which inherits the environment. KRIB_KAFKA_BROKERS
// and DATABASE_URL are no flags here, since the report repeats the command line
// and a URL holds a password.
func runBench(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
	o := bench.Options{Progress: stderr}
	var file string
	s := newSettings("bench")
	s.fs.IntVar(&o.Runs, "runs", 5, "how often each measurement is made")
	s.fs.DurationVar(&o.Duration, "duration", 10*time.Second, "how long each phase of create, latency, hang and stream lasts")
	s.fs.IntVar(&o.Events, "events", 20_000, "the backlog to drain")
	s.fs.IntVar(&o.Homes, "homes", 4_000, "how many homes the bookings spread over")
	s.fs.IntVar(&o.Streams, "streams", 10_000, "how many streams there are at most")
	s.fs.StringVar(&o.Dir, "dir", "", "where the temporary data folder is made; its disk is what is measured")
	s.fs.StringVar(&file, "json", "", "write every single value to this file too")
	s.fs.Func("only", "the measurements to make, separated by commas: "+strings.Join(bench.Names(), ", ")+" (default all)", list(&o.Only))
	if err := s.parse(args, env); err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return fmt.Errorf("%w (%w)", err, errUsage)
	}
	var err error
	if o.Program, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	o.Env, o.GivenKafka, o.GivenPostgres = os.Environ(), isSet(env, "KRIB_KAFKA_BROKERS"), isSet(env, "DATABASE_URL") || isSet(env, "DATABASE_URL"+fileSuffix)
	if file != "" { // now, and not after minutes of measuring
		if err := writeReport(file, &bench.Report{}); err != nil {
			return err
		}
	}
	r, err := bench.Run(ctx, o)
	if len(r.Measurements) == 0 {
		return err
	}
	// What was measured before a failure or a Ctrl-C took minutes, and is shown.
	r.Command = strings.Join(append([]string{"krib", "bench"}, args...), " ")
	if file != "" {
		err = errors.Join(err, writeReport(file, r))
	}
	return errors.Join(err, r.WriteMarkdown(out))
}

func isSet(env Lookup, name string) bool {
	v, ok := env(name)
	return ok && v != ""
}

func writeReport(file string, r *bench.Report) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if err := r.WriteJSON(f); err != nil {
		_ = f.Close() // the first error says more
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
