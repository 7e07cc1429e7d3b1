//go:build !linux

package bench

import "syscall"

// attributes put the child into a group of its own: a Ctrl-C is for us, and a
// second signal would end the child at once.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
