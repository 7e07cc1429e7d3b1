package embedded

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// victimDir makes this binary a process that starts a server and is then killed.
const (
	victimDir       = "KRIB_TEST_VICTIM_DIR"
	victimThrowaway = "KRIB_TEST_VICTIM_THROWAWAY"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		os.Exit(victim(dir))
	}
	os.Exit(m.Run())
}

func victim(dir string) int {
	p, err := StartPostgres(context.Background(), PostgresOptions{Dir: dir, Throwaway: os.Getenv(victimThrowaway) != ""})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, p.pid)
	io.Copy(io.Discard, os.Stdin) // until the test kills us
	return 0
}

// killAfterStart runs a victim on dir and answers its server's pid.
func killAfterStart(t *testing.T, dir string, env ...string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), victimDir+"="+dir), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func startPostgres(t *testing.T, o PostgresOptions) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopPostgres(t, p) })
	return p
}

func stopPostgres(t *testing.T, p *Postgres) {
	t.Helper()
	if err := p.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// query answers the one text that sql selects.
func query(t *testing.T, p *Postgres, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var got string
	if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

func isGone(t *testing.T, pid int, data string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if !(&Postgres{pid: pid, data: data}).waitGone(ctx) {
		t.Errorf("process %d still runs on %s", pid, data)
	}
}

func TestAServerThatAKilledProcessLeftIsAdopted(t *testing.T) {
	dir := t.TempDir()
	pid := killAfterStart(t, dir)
	p := startPostgres(t, PostgresOptions{Dir: dir})
	if p.pid != pid {
		t.Errorf("server %d runs, want %d to be adopted", p.pid, pid)
	}
	if got, want := query(t, p, `show fsync`), "on"; got != want {
		t.Errorf("fsync is %s, want %s", got, want)
	}
	stopPostgres(t, p)
	isGone(t, pid, p.data)
}

func TestDataSurvivesAKilledServer(t *testing.T) {
	dir := t.TempDir()
	p := startPostgres(t, PostgresOptions{Dir: dir})
	conn, err := pgx.Connect(t.Context(), p.URL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `create table kept as select 'this' as word`); err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	syscall.Kill(p.pid, syscall.SIGKILL)
	<-p.exited
	stopPostgres(t, p) // of a dead one: gives the folder free

	p = startPostgres(t, PostgresOptions{Dir: dir})
	if got, want := query(t, p, `select word from kept`), "this"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAStalePidThatAnotherProgramHasNowIsNoObstacle(t *testing.T) {
	dir := t.TempDir()
	p := startPostgres(t, PostgresOptions{Dir: dir})
	stopPostgres(t, p)
	// As the same user, or PostgreSQL would see through it by itself.
	other := p.account.command(t.Context(), "/bin/sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	stale := fmt.Sprintf("%d\n%s\n1700000000\n5432\n\n127.0.0.1\n  1 2\nready   \n", other.Process.Pid, p.data)
	path := filepath.Join(p.data, "postmaster.pid")
	if err := os.WriteFile(path, []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.account.own(path); err != nil {
		t.Fatal(err)
	}

	p = startPostgres(t, PostgresOptions{Dir: dir})
	if p.pid == other.Process.Pid {
		t.Error("the other program was adopted")
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other program was ended: %v", err)
	}
	other.Process.Kill()
	other.Wait()
}

func TestHalfAClusterIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	for path, content := range map[string]string{
		"data/PG_VERSION":        "15\n", // initdb was killed before it wrote pg_control
		"data/base/1/junk":       "x",
		"init-12/data/base/junk": "x",
		"password":               "of the half one\n",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startPostgres(t, PostgresOptions{Dir: dir})
	if got, want := query(t, p, `select current_database()`), "krib"; got != want {
		t.Errorf("connected to %s, want %s", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "init-*")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

func TestRootsServerPassesAParentThatOnlyRootMayEnter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root lends another user")
	}
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	p := startPostgres(t, PostgresOptions{Dir: filepath.Join(closed, "below", "pg")})
	if len(p.account.caps) == 0 {
		t.Error("no capability was lent")
	}
	if got := query(t, p, `select system_identifier::text from pg_control_system()`); got == "" {
		t.Error("the server does not read its own files")
	}
	info, err := os.Stat(filepath.Join(p.dir, passwordName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password's file is %v (%v), want 0600", info.Mode(), err)
	}
}

func TestBinariesThatRootsServerCannotReachAreNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root lends another user")
	}
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := chooseAccount("/", binaries{dir: closed})
	if err == nil || !strings.Contains(err.Error(), "cannot be run as user") {
		t.Errorf("got error %v, want the user in it", err)
	}
}

func TestAThrowawayDiesWithItsProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pg")
	pid := killAfterStart(t, dir, victimThrowaway+"=1")
	isGone(t, pid, filepath.Join(dir, dataName))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("its folder is still there")
		}
	}
}

func TestAThrowawayDoesNotSync(t *testing.T) {
	p := startPostgres(t, PostgresOptions{Dir: t.TempDir(), Throwaway: true})
	if got, want := query(t, p, `select current_setting('fsync') || current_setting('max_connections')`), "off300"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTheErrorOfAFailedStartCarriesTheLog(t *testing.T) {
	dir := t.TempDir()
	p := startPostgres(t, PostgresOptions{Dir: dir})
	stopPostgres(t, p)
	conf := filepath.Join(p.data, "postgresql.conf")
	if err := os.WriteFile(conf, []byte("nonsense = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "nonsense"`) {
		t.Errorf("got error %v, want the parameter in it", err)
	}
}

func TestASecondStartOnTheSameFolderSaysWhoHoldsIt(t *testing.T) {
	dir := t.TempDir()
	startPostgres(t, PostgresOptions{Dir: dir, Throwaway: true})
	_, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	want := fmt.Sprintf("starting postgres: folder %s is in use by process %d;", dir, os.Getpid())
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got error %v, want %q", err, want)
	}
}

func TestAnotherMajorVersionIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "data", "global"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"PG_VERSION", "global/pg_control"} {
		if err := os.WriteFile(filepath.Join(dir, "data", name), []byte("9\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "the data is of PostgreSQL 9 ") {
		t.Errorf("got error %v, want the version in it", err)
	}
}
