package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var errGone = errors.New("the server ended")

// launch starts the server and waits for it to answer. A port that was free when
// we looked may be taken when the server binds it, and a server that was killed
// may have children that still let go of its memory: both pass.
func (p *Postgres) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		said, err := p.launchOnce(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errGone) || !passes(said) {
			return fmt.Errorf("%w; its log: %s", err, tail(said))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; its log: %s", err, tail(said))
		}
	}
}

func passes(said []byte) bool {
	return bytes.Contains(said, []byte("could not bind")) ||
		bytes.Contains(said, []byte("pre-existing shared memory block"))
}

// launchOnce leaves either a server that answers or none, and what it said.
func (p *Postgres) launchOnce(ctx context.Context) (said []byte, err error) {
	if p.port, err = freePort(); err != nil {
		return nil, err
	}
	path := filepath.Join(p.dir, logName)
	if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("keeping the last log: %w", err)
	}
	if err := p.spawn(ctx, path); err != nil {
		return nil, err
	}
	if err = p.waitReady(ctx); err == nil {
		return nil, nil
	}
	if !errors.Is(err, errGone) {
		err = errors.Join(err, p.stop(ctx))
	}
	said, _ = os.ReadFile(path)
	return said, err
}

// spawn starts the server and a goroutine that reaps it. The goroutine ends with
// the server, which may be after us.
func (p *Postgres) spawn(ctx context.Context, logPath string) error {
	out, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the server's log: %w", err)
	}
	defer func() { _ = out.Close() }() // the server has its own copy
	args := []string{"-D", p.data}
	for _, s := range p.settings(p.port) {
		args = append(args, "-c", s)
	}
	// The server outlives the context of its start.
	ctx = context.WithoutCancel(ctx)
	cmd := p.account.command(ctx, p.bin.path("postgres"), args...)
	cmd.Stdout, cmd.Stderr = out, out
	var guard *watchdog
	if p.throwaway {
		if guard, err = startWatchdog(ctx, p.dir); err != nil {
			return err
		}
	}
	if err := cmd.Start(); err != nil {
		guard.dismiss()
		return fmt.Errorf("running %s%s: %w", p.bin.path("postgres"), p.account.as(), err)
	}
	guard.watch(cmd.Process.Pid)
	p.pid, p.exited = cmd.Process.Pid, make(chan struct{})
	go func(exited chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		guard.dismiss()
		close(exited)
	}(p.exited)
	return nil
}

// adopt takes over the server that an earlier process left running on our data,
// or stops it when it does not answer.
func (p *Postgres) adopt(ctx context.Context) (bool, error) {
	path := filepath.Join(p.data, "postmaster.pid")
	pid, port, err := readPostmaster(path)
	if err != nil || pid == 0 {
		return false, err
	}
	switch identify(pid, p.data) {
	case ours:
	case foreign:
		// The pid went to another program. PostgreSQL would take that one for a server
		// of its own if it runs as the same user.
		if err := os.Remove(path); err != nil {
			return false, fmt.Errorf("removing a stale pid file: %w", err)
		}
		return false, nil
	case unknown:
		return false, nil // PostgreSQL knows better than we do
	}
	p.pid, p.port, p.exited = pid, port, nil
	if err := p.readPassword(); err != nil {
		return false, err
	}
	// A throwaway would have neither its settings nor its watchdog.
	if !p.throwaway && p.answers(ctx) {
		p.log.LogAttrs(ctx, slog.LevelInfo, "took over a running postgres", slog.Int("pid", pid))
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*quitWithin)
	defer cancel()
	if err := p.stop(ctx); err != nil {
		return false, fmt.Errorf("stopping the server that an earlier process left: %w", err)
	}
	return false, nil
}

// answers gives a server that was left in the middle of its own start some time.
func (p *Postgres) answers(ctx context.Context) bool {
	if p.port == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, quitWithin)
	defer cancel()
	return p.waitReady(ctx) == nil
}

// readPostmaster answers no pid when there is no such file. The port is missing
// in the first moments of a start.
func readPostmaster(path string) (pid, port int, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("reading who runs on the data: %w", err)
	}
	lines := strings.Split(string(b), "\n") // pid, data, start, port, …
	pid, _ = strconv.Atoi(lines[0])         // half a file is no pid: PostgreSQL decides
	if len(lines) > 3 {
		port, _ = strconv.Atoi(lines[3])
	}
	return max(pid, 0), port, nil
}

// An identity is what a pid stands for now.
type identity int

const (
	unknown identity = iota // no such process, or a PostgreSQL that is not surely ours
	ours                    // a PostgreSQL on our data
	foreign                 // another program
)

// identify goes by the command line, since everybody may read it. A zombie has
// none.
func identify(pid int, data string) identity {
	args := commandLine(pid)
	switch {
	case len(args) == 0:
		return unknown
	case !strings.HasPrefix(filepath.Base(args[0]), "postgres"):
		return foreign
	}
	if slices.Contains(args[1:], data) {
		return ours
	}
	return unknown
}

func commandLine(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil {
		return strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 })
	}
	if _, err := os.Stat("/proc/self"); err == nil {
		return nil
	}
	// Not Linux. A folder with a space in its name is not recognised here, and its
	// server is left to PostgreSQL's own judgement.
	out, _ := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return strings.Fields(string(out))
}
