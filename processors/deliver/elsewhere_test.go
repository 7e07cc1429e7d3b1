package deliver_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/schemas"
)

// What makes this test binary a worker, so that a test can kill one.
const (
	elsewhereBrokers  = "KRIB_TEST_WORKER_BROKERS"
	elsewhereInstance = "KRIB_TEST_WORKER_INSTANCE"
	elsewhereLadder   = "KRIB_TEST_WORKER_LADDER"
)

func TestMain(m *testing.M) {
	if os.Getenv(elsewhereBrokers) != "" {
		workHere()
		return
	}
	testenv.Main(m)
}

// workHere is the worker of startElsewhere, until it is killed or its parent is
// gone.
func workHere() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ladder, err := schemas.ParseLadder(os.Getenv(elsewhereLadder))
	if err != nil {
		panic(err)
	}
	ring, err := seal.DeriveRing(ringSecret)
	if err != nil {
		panic(err)
	}
	conf := kafka.Config{Brokers: strings.Split(os.Getenv(elsewhereBrokers), ","), Instance: os.Getenv(elsewhereInstance), Logger: logger}
	d, err := deliver.New(deliver.Options{Kafka: conf, Ring: ring, Ladder: ladder, Timeout: 5 * time.Second, Allow: loopback, AllowHTTP: true})
	if err != nil {
		panic(err)
	}
	if err := d.Run(context.Background()); err != nil {
		panic(err)
	}
}

// startElsewhere starts this binary as a worker. It ends with the test, if kill
// does not end it before.
func startElsewhere(tb testing.TB, conf kafka.Config, ladder schemas.Ladder) (kill func()) {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	var delays []string
	for _, d := range ladder {
		delays = append(delays, d.String())
	}
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), exe)
	cmd.Env = append(os.Environ(), elsewhereBrokers+"="+strings.Join(conf.Brokers, ","),
		elsewhereInstance+"="+conf.Instance, elsewhereLadder+"="+strings.Join(delays, ","))
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // it ends when this process does
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	dead := false
	kill = func() {
		if !dead {
			dead = true
			_ = cmd.Process.Kill() // it may have ended by itself, which Wait tells
			_ = cmd.Wait()
		}
	}
	tb.Cleanup(kill)
	return kill
}
