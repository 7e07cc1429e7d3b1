//go:build !linux

package embedded

import (
	"errors"
	"syscall"
)

// passage: only Linux has capabilities to lend.
func passage() ([]uintptr, error) {
	return nil, errors.New("this system has no way to lend one right of root")
}

func lend(*syscall.SysProcAttr, []uintptr) {}
