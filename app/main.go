// Package app is the top floor: it reads flags and environment, wires the parts
// in one straight line and runs them until it is asked to stop. It has one file
// for each command of the CLI, and it is the only package that looks at the
// environment. [Main] is the whole program as a function, so tests run the real
// thing in their own process.
package app

import (
	"context"
	"errors"
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

// Main runs one command and returns the exit status: 0 after a clean stop, 1
// after a failure, 2 for a wrong use. It stops at SIGINT or SIGTERM; a second one
// ends the process at once.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from here on signals have their default effect again
	limitMemory(memlimit.FromCgroup)
	return Run(ctx, args, os.LookupEnv, stdout, stderr)
}

// heapShare is the part of its container's memory that the process lets Go's heap grow
// to before it collects harder; the rest is for stacks of the kernel and for peaks.
const heapShare = 0.85

// limitMemory makes the garbage collector keep to the memory of the container, as its
// control group bounds it. GOMEMLIMIT stands above it; without either there is no limit.
func limitMemory(of memlimit.Provider) {
	_, _ = memlimit.Set(memlimit.WithRatio(heapShare), memlimit.WithProvider(of)) // an error is that there is no bound
}

// Run is Main with a context in the place of signals.
func Run(ctx context.Context, args []string, env Lookup, stdout, stderr io.Writer) int {
	root := commands()
	if len(args) == 0 {
		_, _ = io.WriteString(stderr, root.usage())
		return 2
	}
	path, err := root.dispatch(ctx, args, env, stdout, stderr)
	if err == nil {
		return 0
	}
	if help, ok := errors.AsType[*helpRequest](err); ok {
		if _, err := io.WriteString(stdout, help.text); err != nil {
			return 1
		}
		return 0
	}
	_, _ = fmt.Fprintf(stderr, "%s: %s\n", path, oneLine(err))
	if errors.Is(err, errUsage) {
		return 2
	}
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

func printVersion(_ context.Context, args []string, env Lookup, out, _ io.Writer) error {
	if err := newSettings("version").parse(args, env); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "krib", version())
	return err
}
