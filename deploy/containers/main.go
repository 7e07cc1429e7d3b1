// Command containers starts Apache Kafka and PostgreSQL in containers, runs a
// command against them and takes them away again:
//
//	go run . -C ../.. -- go test ./internal/kafka/ -count=1
//
// The command finds the servers in KRIB_TEST_KAFKA_BROKERS and DATABASE_URL, and
// its exit status is this program's. Everything else about the tests stays as it
// is without containers.
//
// It is a module of its own, so that what it takes to drive a container engine is
// no part of Krib.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/kafka"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
)

const (
	// The same as in docker-compose.yml, which a test sees to.
	defaultKafka    = "apache/kafka:4.1.1@sha256:0bc1bb2478f45b6cea78864df86acdc11e8df2c5172477819a4d12942cbe5d40"
	defaultPostgres = "postgres:17@sha256:d74eeac9a635390a49bc21bd49fccd973de707e2a53a76ac49b552b8712ec46f"

	// engineWithin bounds the question whether there is an engine.
	engineWithin = 5 * time.Second
	// startWithin bounds a start, images to be pulled among it.
	startWithin = 5 * time.Minute
	// stopWithin bounds the removal of a container.
	stopWithin = 30 * time.Second
	// leaveWithin is what the command gets after a signal.
	leaveWithin = 30 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	//nolint:forbidigo // this is a program, and here is where it reads its environment
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// run is the program. Its status is the command's, or 1 when that did not come to
// run, or 2 for a wrong use.
func run(ctx context.Context, args []string, env func(string) (string, bool), stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("containers", flag.ContinueOnError)
	fs.SetOutput(stderr)
	dir := fs.String("C", ".", "the folder to run the command in")
	fs.Usage = func() {
		fmt.Fprintln(stderr, "usage: containers [-C folder] -- command [argument…]")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if fs.NArg() == 0 {
		fs.Usage()
		return 2
	}
	if err := findEngine(ctx); err != nil {
		fmt.Fprintln(stderr, "containers:", err)
		return 1
	}
	s, err := start(ctx, env)
	defer func() {
		if err := s.stop(); err != nil {
			fmt.Fprintln(stderr, "containers: removing the containers:", oneLine(err))
		}
	}()
	if err != nil {
		fmt.Fprintln(stderr, "containers:", oneLine(err))
		return 1
	}
	fmt.Fprintf(stderr, "containers: Kafka at %s, PostgreSQL at %s\n", s.brokers, s.address)
	code, err := command(ctx, *dir, fs.Args(), s.environ(), stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "containers:", err)
	}
	return code
}

// findEngine says at once when no container can be started. The library asks
// without a bound of its own.
func findEngine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, engineWithin)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		provider, err := testcontainers.NewDockerProvider()
		if err == nil {
			err = provider.Close()
		}
		answer <- err
	}()
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("no container engine answers (%s): start Docker or Podman, or set DOCKER_HOST to its socket", oneLine(err))
}

// oneLine is an error as a person reads it in a terminal: joined errors are made
// one line.
func oneLine(err error) string { return strings.Join(strings.Split(err.Error(), "\n"), "; ") }

// servers are the two containers, as far as they have come up.
type servers struct {
	kafka    *kafka.KafkaContainer
	postgres *postgres.PostgresContainer

	brokers, address, url string
}

// start brings up both at the same time. What it answers is to be stopped also
// when there is an error.
func start(ctx context.Context, env func(string) (string, bool)) (*servers, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	s := &servers{}
	var wg sync.WaitGroup
	var kafkaErr, postgresErr error
	wg.Go(func() { kafkaErr = s.startKafka(ctx, image(env, "KRIB_TEST_KAFKA_IMAGE", defaultKafka)) })
	wg.Go(func() { postgresErr = s.startPostgres(ctx, image(env, "KRIB_TEST_POSTGRES_IMAGE", defaultPostgres)) })
	wg.Wait()
	return s, errors.Join(kafkaErr, postgresErr)
}

func image(env func(string) (string, bool), name, def string) string {
	if v, ok := env(name); ok && v != "" {
		return v
	}
	return def
}

// The module is written for an image of another vendor: it leaves a script in the
// container that exports the address to advertise, which nobody knows before the
// port is mapped, and then calls programs of that image. This takes the address
// from the script and starts Apache Kafka's image the way that image does.
const startKafka = `until line=$(grep '^export KAFKA_ADVERTISED_LISTENERS=' /usr/sbin/testcontainers_start.sh 2>/dev/null); do sleep 0.1; done
eval "$line"
exec /etc/kafka/docker/run`

func (s *servers) startKafka(ctx context.Context, image string) error {
	var err error
	s.kafka, err = kafka.Run(
		ctx, image,
		testcontainers.WithCmd("-c", startKafka),
		testcontainers.WithEnv(map[string]string{
			// A consumer that asks for a topic that is gone must not bring it back.
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
			// The defaults, 50 each, take seconds to create and tests need no more.
			"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":                     "4",
			"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":             "4",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_NUM_PARTITIONS":     "1",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR":            "1",
		}),
	)
	if err != nil {
		return fmt.Errorf("starting Kafka from %s: %w", image, err)
	}
	brokers, err := s.kafka.Brokers(ctx)
	if err != nil {
		return fmt.Errorf("asking for Kafka's address: %w", err)
	}
	s.brokers = strings.Join(brokers, ",")
	return nil
}

func (s *servers) startPostgres(ctx context.Context, image string) error {
	var err error
	s.postgres, err = postgres.Run(
		ctx, image,
		postgres.WithDatabase("krib"), postgres.WithUsername("krib"), postgres.WithPassword("krib"),
		postgres.BasicWaitStrategies(),
		// Many packages are tested at the same time, each with several pools.
		testcontainers.WithCmdArgs("-c", "max_connections=500"),
	)
	if err != nil {
		return fmt.Errorf("starting PostgreSQL from %s: %w", image, err)
	}
	if s.address, err = s.postgres.PortEndpoint(ctx, "5432/tcp", ""); err != nil {
		return fmt.Errorf("asking for PostgreSQL's address: %w", err)
	}
	if s.url, err = s.postgres.ConnectionString(ctx, "sslmode=disable"); err != nil {
		return fmt.Errorf("asking for PostgreSQL's URL: %w", err)
	}
	return nil
}

// environ is what the command is told beyond this program's own environment.
func (s *servers) environ() []string {
	return []string{"KRIB_TEST_KAFKA_BROKERS=" + s.brokers, "DATABASE_URL=" + s.url}
}

// stop removes what there is, volumes included. The run's context may have ended.
func (s *servers) stop() error {
	var wg sync.WaitGroup
	var kafkaErr, postgresErr error
	wg.Go(func() { kafkaErr = remove(s.kafka) })
	wg.Go(func() { postgresErr = remove(s.postgres) })
	wg.Wait()
	return errors.Join(kafkaErr, postgresErr)
}

// remove kills: nothing in the container is to be kept. A container that is nil
// was never made.
func remove(c testcontainers.Container) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return testcontainers.TerminateContainer(c, testcontainers.StopContext(ctx), testcontainers.StopTimeout(0))
}

// command runs args in dir and answers their exit status. It is the leader of a
// process group of its own: when ctx ends the whole group is interrupted, as a
// terminal does it, because go test does not pass signals on to its tests.
func command(ctx context.Context, dir string, args, environ []string, stdout, stderr io.Writer) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), environ...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = leaveWithin
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // those who did not leave; mostly nobody
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("running %s: %w", args[0], err)
	}
	return 0, nil
}
