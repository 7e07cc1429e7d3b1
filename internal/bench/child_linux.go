package bench

import (
	"syscall"
	"time"
)

// attributes put the child into a group of its own: a Ctrl-C is for us, and a
// second signal would end the child at once. When we are killed it is asked to
// stop all the same.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
}

// threadTime is the processor time of the thread that calls, user's and system's.
func threadTime() time.Duration {
	const thread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	if err := syscall.Getrusage(thread, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
