package embedded

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// vigil reads the pid to watch, then waits for the word that the server has
// ended; the end of the input instead means that we are dead. The loop is bounded
// because a dead server counts as alive until somebody reaps it.
const vigil = `
read -r pid || exit 0
[ "$pid" = done ] && exit 0
read -r word && exit 0
kill -QUIT "$pid"
i=0
while [ $i -lt 100 ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; i=$((i+1)); done
cd "$1" && rm -rf data data.broken init-* log log.1 password lock
rmdir "$1" 2>/dev/null
`

// A watchdog is a shell whose input ends when this process dies, whatever kills
// it. Nothing inside the process could see to that, and a parent's death signal
// exists on Linux only. A nil watchdog does nothing.
type watchdog struct {
	cmd  *exec.Cmd
	line io.WriteCloser
}

// startWatchdog is called before the server starts, so that only the moment
// between its start and watch is without.
func startWatchdog(ctx context.Context, dir string) (*watchdog, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", vigil, "sh", dir)
	// A Ctrl-C ends us first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	line, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("making the watchdog's pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the watchdog: %w", err)
	}
	return &watchdog{cmd: cmd, line: line}, nil
}

func (w *watchdog) watch(pid int) {
	if w != nil {
		_, _ = io.WriteString(w.line, strconv.Itoa(pid)+"\n") // fails when it was killed
	}
}

func (w *watchdog) dismiss() {
	if w != nil {
		_, _ = io.WriteString(w.line, "done\n")
		_ = w.line.Close()
		_ = w.cmd.Wait()
	}
}
