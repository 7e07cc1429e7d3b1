package bench

import "syscall"

// attributes put the child into a group of its own: a Ctrl-C is for us, and a
// second signal would end the child at once. When we are killed it is asked to
// stop all the same.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
}
