// Package app is the top floor: it reads flags and environment, wires the parts
// in one straight line and runs them until it is asked to stop. It has one file
// for each command of the CLI, and it is the only package that looks at the
// environment. [Main] is the whole program as a function, so tests run the real
// thing in their own process.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// Lookup reads an environment variable, as os.LookupEnv.
type Lookup func(string) (string, bool)

const usage = `krib carries booking events to webhooks, dashboards and raw topics.

  krib dev       everything in one process, with its own Kafka and Postgres
  krib serve     the roles of a real installation (--roles)
  krib migrate   bring the database to this version
  krib topics    apply | diff: create and repair the topics, or say how they differ
  krib schemas   list | show | register: the topics' schemas, and a registry for them
  krib keys      create | list | revoke | rotate: the API keys of agents
  krib listen    post an agent's events to a local URL, without a public address
  krib replay    start | list | show | cancel: send events of the log to a subscription again
  krib dead      list | show | requeue: what was given up, and another try
  krib audit     prove from the topics that no delivery is missing
  krib tail      print the records of a topic, and follow it
  krib export    write a topic's records to ndjson or Parquet, also without personal data
  krib bench     measure an installation on this machine
  krib version   what this is

krib COMMAND -h lists a command's flags and the variables behind them.
`

// Main runs one command and returns the exit status: 0 after a clean stop, 1
// after a failure, 2 for a wrong use. It stops at SIGINT or SIGTERM; a second one
// ends the process at once.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from here on signals have their default effect again
	limitMemory()
	return Run(ctx, args, os.LookupEnv, stdout, stderr)
}

// heapShare is the part of its container's memory that the process lets Go's heap grow
// to before it collects harder; the rest is for stacks of the kernel and for peaks.
const heapShare = 0.85

// limitMemory makes the garbage collector keep to the memory of the container, as its
// control group bounds it. GOMEMLIMIT stands above it; without either there is no limit.
func limitMemory() {
	_, _ = memlimit.Set(memlimit.WithRatio(heapShare), memlimit.WithProvider(memlimit.FromCgroup)) // an error is that there is no bound
}

// Run is Main with a context in the place of signals.
func Run(ctx context.Context, args []string, env Lookup, stdout, stderr io.Writer) int {
	commands := map[string]func(context.Context, []string, Lookup, io.Writer, io.Writer) error{
		"dev": dev, "serve": serve, "migrate": migrate, "topics": topics, "schemas": runSchemas, "keys": keys, "replay": runReplay, "dead": dead,
		"audit": runAudit, "listen": forward, "tail": tail, "export": runExport, "bench": runBench, "version": printVersion,
	}
	if len(args) == 0 {
		_, _ = fmt.Fprint(stderr, usage)
		return 2
	}
	run, ok := commands[args[0]]
	if !ok {
		_, _ = fmt.Fprintf(stderr, "krib: there is no command %q\n\n%s", args[0], usage)
		return 2
	}
	err := run(ctx, args[1:], env, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		_, _ = fmt.Fprintf(stderr, "krib %s: %s\n", args[0], oneLine(err))
		return 2
	}
	_, _ = fmt.Fprintf(stderr, "krib %s: %s\n", args[0], oneLine(err))
	return 1
}

// oneLine is an error as a person reads it in a terminal: joined errors and the
// drivers' lists are made one line.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\t' }), "; ")
}

// errUsage marks a command line or an environment that makes no sense.
var errUsage = errors.New("see -h")

func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "2.0.0-dev"
}

func printVersion(_ context.Context, _ []string, _ Lookup, out, _ io.Writer) error {
	_, err := fmt.Fprintln(out, "krib", version())
	return err
}
