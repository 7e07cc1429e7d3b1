package docs_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build makes the binary and returns the folder that it is in.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "krib"), "..").CombinedOutput(); err != nil {
		t.Fatalf("building krib: %v\n%s", err, out)
	}
	return dir
}

// withPath is the environment of a command that finds what is in bin first.
func withPath(bin string, more ...string) []string {
	return append(append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")), more...)
}

// A shell is one bash for the blocks of a document: what one of them sets, the next
// ones have. It ends at the first command that fails.
type shell struct {
	t     *testing.T
	in    io.WriteCloser
	lines *bufio.Scanner
}

func newShell(t *testing.T, dir string, env []string) *shell {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // then it is killed, and the test fails
	cmd := exec.CommandContext(ctx, "bash")
	cmd.Dir, cmd.Env = dir, env
	// With what it has started: that would hold its output open.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	s := &shell{t, in, bufio.NewScanner(out)}
	s.lines.Buffer(nil, 1<<20)
	s.write("set -euo pipefail; exec 2>&1\n")
	return s
}

func (s *shell) write(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, text); err != nil {
		s.t.Fatalf("bash has ended: %v", err)
	}
}

// run runs a block as it stands, and returns what it printed.
func (s *shell) run(b block) string {
	s.t.Helper()
	const end = "=== the end of the block"
	s.write(b.text + "\necho; echo '" + end + "'\n")
	var out strings.Builder
	for s.lines.Scan() {
		if s.lines.Text() == end {
			return strings.TrimSuffix(out.String(), "\n")
		}
		out.WriteString(s.lines.Text() + "\n")
	}
	s.t.Fatalf("bash ended in the block %s\n%s%s", b.name, b.text, out.String())
	return ""
}
