package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/krib-ai/krib/schemas"
)

const (
	startWithin = 2 * time.Minute
	// stopWithin is above what the program gives itself to stop.
	stopWithin = 30 * time.Second
)

// A child is krib dev in a process of its own, so that processor time and memory
// are those of the whole program and of nothing else.
type child struct {
	cmd   *exec.Cmd
	dir   string
	dev   devFile
	ended chan struct{} // closed when it is reaped
	state error         // how it ended
	ours  bool          // its Postgres
}

// devFile is what is needed of dev.json.
type devFile struct {
	APIURL       string         `json:"api_url"`
	AdminURL     string         `json:"admin_url"`
	APIKey       string         `json:"api_key"`
	HostID       schemas.HostID `json:"host_id"`
	HostToken    schemas.Secret `json:"host_token"`
	KafkaBrokers []string       `json:"kafka_brokers"`
	DatabaseURL  string         `json:"database_url"`
}

// startChild returns when the program is ready. The caller stops it.
func startChild(ctx context.Context, o *Options) (*child, error) {
	dir, err := os.MkdirTemp(o.Dir, "krib-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for krib: %w", err)
	}
	c := &child{dir: dir, ended: make(chan struct{}), ours: !o.GivenPostgres}
	// A file and not a pipe: the child must be able to stop also after us.
	log, err := os.Create(c.logPath())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making krib's log: %w", err), os.RemoveAll(dir))
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	const free = "127.0.0.1:0"
	// Not this context: a child that is asked to stop stops cleanly.
	c.cmd = exec.CommandContext(context.WithoutCancel(ctx), o.Program, "dev", "--data-dir", dir, "--http-addr", free,
		"--admin-addr", free, "--kafka-addr", free, "--receiver-addr", free, "--log-level", "warn")
	c.cmd.Env, c.cmd.Stderr = append(slices.Clone(o.Env), fmt.Sprint("SSE_MAX_CONNECTIONS=", max(o.Streams, 1000)), "SSE_MAX_PER_HOST=0", "SSE_MAX_PER_ADDRESS=0",
		"KRIB_HOST_READ_RATE=1000000", "KRIB_HOST_READ_BURST=1000000"), log // one host opens all streams
	c.cmd.SysProcAttr = attributes()
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting krib: %w", err), os.RemoveAll(dir))
	}
	go func() {
		c.state = c.cmd.Wait()
		close(c.ended)
	}()
	if err := c.awaitReady(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting krib: %w", err), c.stop(ctx))
	}
	return c, nil
}

// awaitReady waits for dev.json, which is written as a whole once everything is
// ready.
func (c *child) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if b, err := os.ReadFile(filepath.Join(c.dir, "dev.json")); err == nil {
			if err := json.Unmarshal(b, &c.dev); err != nil {
				return fmt.Errorf("reading dev.json: %w", err)
			}
			return nil
		}
		select {
		case <-look.C:
		case <-c.ended:
			return errEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errEnded says that the program is gone; stop says why.
var errEnded = errors.New("the program has ended")

// stop asks the program to end, waits for it and removes its folder. A program
// that did not end well is an error, with its last words.
func (c *child) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	_ = c.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-c.ended:
	case <-ctx.Done():
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
	// A Postgres is left behind only by a program that did not end as it should.
	if pid := c.postmaster(); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGQUIT)
		c.awaitGone(ctx)
	}
	var err error
	if c.state != nil {
		err = fmt.Errorf("krib ended with %w: %s", c.state, c.said())
	}
	if e := os.RemoveAll(c.dir); e != nil {
		err = errors.Join(err, fmt.Errorf("removing krib's folder: %w", e))
	}
	return err
}

// postmaster is the process id of the child's own Postgres; zero without one.
func (c *child) postmaster() int {
	if !c.ours {
		return 0
	}
	var pid int
	b, err := os.ReadFile(filepath.Join(c.dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscan(string(b), &pid) // half a file is no pid
	return pid
}

// awaitGone waits until Postgres has taken its pid file away.
func (c *child) awaitGone(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for c.postmaster() > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *child) meter() meter {
	return meter{proc: "/proc", krib: c.cmd.Process.Pid, postgres: c.postmaster()}
}

// said is the end of what the program wrote to its log.
func (c *child) said() string {
	b, err := os.ReadFile(c.logPath())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-keepSaid):])
}

const keepSaid = 4 << 10

func (c *child) logPath() string { return filepath.Join(c.dir, "bench.log") }
