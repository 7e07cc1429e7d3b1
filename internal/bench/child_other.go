//go:build !linux

package bench

import (
	"syscall"
	"time"
)

// attributes put the child into a group of its own: a Ctrl-C is for us, and a
// second signal would end the child at once.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// threadTime is known on Linux only, as the rest of what a benchmark reads.
func threadTime() time.Duration { return 0 }
