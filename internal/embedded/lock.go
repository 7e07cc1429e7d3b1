package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A folderLock keeps a second process out of a data folder. The kernel drops it
// when its holder dies, however it dies, so it is never stale. The file stays:
// removing it would let a waiter lock a name that no longer exists.
type folderLock struct{ file *os.File }

func lockFolder(dir string) (*folderLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of %s: %w", dir, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder := readPID(f)
		_ = f.Close()
		return nil, fmt.Errorf("folder %s is in use by process %s; stop it or choose another folder", dir, holder)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", dir, err), f.Close())
	}
	l := &folderLock{file: f}
	if err := l.sign(); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the lock of %s: %w", dir, err), l.release())
	}
	return l, nil
}

// sign leaves our pid in the file, for the error message of whoever comes next.
func (l *folderLock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func (l *folderLock) release() error { return l.file.Close() }

// readPID answers "unknown" in the moment between a holder's lock and its pid.
func readPID(f *os.File) string {
	b, _ := io.ReadAll(io.LimitReader(f, 32))
	if pid := strings.TrimSpace(string(b)); pid != "" {
		return pid
	}
	return "unknown"
}
