// Command apache runs a command, such as go test, beside clusters of Apache Kafka that
// all its test processes share:
//
//	go run ./internal/testenv/apache -lib .bin/kafka/lib -clusters 2 -- go test ./...
//
// The command finds the clusters' addresses in KRIB_TEST_KAFKA_BROKERS, the clusters
// separated by semicolons, and in KRIB_TEST_KAFKA_CONTROL the URL by which a test kills
// a node and starts it again. A JVM needs some seconds to start, so one for each package
// would cost minutes. The clusters end with the command. The exit status is the
// command's own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "apache:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (code int, err error) {
	flags := flag.NewFlagSet("apache", flag.ContinueOnError)
	lib := flags.String("lib", "", "the folder with Apache Kafka's jars")
	clusters := flags.Int("clusters", 1, "how many clusters; each serves one test at a time")
	nodes := flags.Int("nodes", 1, "nodes of each cluster")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if *clusters < 1 || *nodes < 1 || flags.NArg() == 0 {
		return 2, errors.New("usage: apache -lib folder [-clusters n] [-nodes n] -- command")
	}
	all, err := startAll(ctx, *lib, *clusters, *nodes)
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.stop())
		}
	}()
	if err != nil {
		return 1, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1, err
	}
	srv := &http.Server{Handler: control(all), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }() // it ends with Close
	defer func() { _ = srv.Close() }()

	var brokers []string
	for _, c := range all {
		brokers = append(brokers, strings.Join(c.addrs(), ","))
	}
	cmd := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "KRIB_TEST_KAFKA_BROKERS="+strings.Join(brokers, ";"), "KRIB_TEST_KAFKA_CONTROL=http://"+ln.Addr().String())
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// startAll starts the clusters at once. It returns those that run also with an error.
func startAll(ctx context.Context, lib string, clusters, nodes int) ([]*cluster, error) {
	all, errs := make([]*cluster, clusters), make([]error, clusters)
	var wg sync.WaitGroup
	for i := range clusters {
		wg.Go(func() { all[i], errs[i] = startCluster(ctx, lib, nodes) })
	}
	wg.Wait()
	var running []*cluster
	for _, c := range all {
		if c != nil {
			running = append(running, c)
		}
	}
	return running, errors.Join(errs...)
}

// control serves POST /kill and /start of the node that ?addr= names. Either returns
// when it is done; to start a node that runs does nothing.
func control(all []*cluster) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(*http.Request, *cluster, *node) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			for _, c := range all {
				if n := c.at(r.FormValue("addr")); n != nil {
					if err := do(r, c, n); err != nil {
						http.Error(w, err.Error(), http.StatusInternalServerError)
					}
					return
				}
			}
			http.Error(w, "no node has this address", http.StatusNotFound)
		})
	}
	handle("POST /kill", func(_ *http.Request, _ *cluster, n *node) error {
		n.kill()
		return nil
	})
	handle("POST /start", func(r *http.Request, c *cluster, n *node) error {
		if !n.ended() {
			return nil
		}
		if err := n.start(); err != nil {
			return err
		}
		return c.await(r.Context())
	})
	return mux
}
