package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Names inside PostgresOptions.Dir.
const (
	dataName     = "data"
	brokenName   = "data.broken"
	passwordName = "password"
	logName      = "log"
	scratchName  = "init-"
)

const superuser = "krib"

// major is the version of the cluster in dir, zero when there is none.
func clusterMajor(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, dataName, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the version of the cluster: %w", err)
	}
	return leadingNumber(string(b)), nil
}

// prepare leaves a whole cluster in dir. initdb works in a folder beside it which
// is renamed when all is written, so one that was killed half way is never taken
// for a cluster; what it left is removed.
func (p *Postgres) prepare(ctx context.Context) error {
	leftovers, _ := filepath.Glob(filepath.Join(p.dir, scratchName+"*"))
	for _, l := range leftovers {
		if err := os.RemoveAll(l); err != nil {
			return fmt.Errorf("removing what a killed start left: %w", err)
		}
	}
	whole, err := p.isWhole()
	if err != nil || whole {
		return err
	}
	if p.password, err = newPassword(filepath.Join(p.dir, passwordName)); err != nil {
		return err
	}
	return p.initialise(ctx)
}

// isWhole moves aside what no server can start on. The last thing that initdb
// writes is global/pg_control. Moved, not removed: it may be a person's data that
// lost a file.
func (p *Postgres) isWhole() (bool, error) {
	if _, err := os.Stat(p.data); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	_, version := os.Stat(filepath.Join(p.data, "PG_VERSION"))
	_, control := os.Stat(filepath.Join(p.data, "global", "pg_control"))
	if err := errors.Join(version, control); err == nil {
		return true, p.readPassword()
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("looking at the cluster: %w", err)
	}
	aside := filepath.Join(p.dir, brokenName)
	if err := os.RemoveAll(aside); err != nil {
		return false, fmt.Errorf("removing an older broken cluster: %w", err)
	}
	if err := os.Rename(p.data, aside); err != nil {
		return false, fmt.Errorf("moving the broken cluster aside: %w", err)
	}
	p.log.LogAttrs(context.Background(), slog.LevelWarn, "half a cluster was moved aside", slog.String("to", aside))
	return false, nil
}

func (p *Postgres) readPassword() error {
	b, err := os.ReadFile(filepath.Join(p.dir, passwordName))
	if err != nil {
		return fmt.Errorf("reading the cluster's password, without which %s is of no use: %w", p.data, err)
	}
	p.password = strings.TrimSpace(string(b))
	return nil
}

// newPassword writes before the cluster exists, so that none exists without it.
func newPassword(path string) (string, error) {
	password := rand.Text()
	if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("writing the cluster's password: %w", err)
	}
	return password, nil
}

func (p *Postgres) initialise(ctx context.Context) error {
	scratch, err := os.MkdirTemp(p.dir, scratchName)
	if err != nil {
		return fmt.Errorf("making a folder for initdb: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	// The account cannot read our password file: it gets a copy for as long as
	// initdb runs.
	pwfile := filepath.Join(scratch, "pw")
	if err := os.WriteFile(pwfile, []byte(p.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("handing the password to initdb: %w", err)
	}
	if err := errors.Join(p.account.own(scratch), p.account.own(pwfile)); err != nil {
		return fmt.Errorf("handing over %s%s: %w", scratch, p.account.as(), err)
	}
	made := filepath.Join(scratch, dataName)
	args := []string{
		"--pgdata=" + made, "--username=" + superuser, "--pwfile=" + pwfile,
		"--auth=scram-sha-256", "--encoding=UTF8",
		// The same order of texts on every machine.
		"--no-locale",
	}
	if p.throwaway {
		args = append(args, "--no-sync")
	}
	cmd := p.account.command(ctx, p.bin.path("initdb"), args...)
	// Cancelled, initdb leaves a server of its own behind for a moment, which holds
	// the pipe of its output.
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb%s: %w: %s", p.account.as(), err, tail(out))
	}
	if err := os.Rename(made, p.data); err != nil {
		return fmt.Errorf("putting the new cluster in place: %w", err)
	}
	return syncFolder(p.dir)
}

// syncFolder makes a rename survive a loss of power.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening %s: %w", dir, err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

// tail is the end of what a program said, on one line for an error.
func tail(out []byte) string {
	const lines = 12
	said := strings.Split(string(bytes.TrimSpace(out)), "\n")
	return strings.Join(said[max(0, len(said)-lines):], " | ")
}

// settings are what the server is started with. They stand on the command line
// and not in postgresql.conf, so that a new version of us changes them.
func (p *Postgres) settings(port int) []string {
	set := []string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port),
		// Its path would have to be short and its folder open to both users; nobody
		// needs it.
		"unix_socket_directories=",
		"timezone=UTC", "log_timezone=UTC",
		"logging_collector=off", "log_destination=stderr",
	}
	if p.throwaway {
		return append(set, "fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=300")
	}
	return append(set, "max_connections=200")
}
