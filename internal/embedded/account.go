package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An account is who PostgreSQL runs as. It refuses to run as root, so root lends
// it another user; everybody else keeps their own, which is the zero value.
type account struct {
	name     string
	uid, gid int
	// caps are the capabilities that let the user pass folders that only root may
	// enter, such as /root; none when every folder on the way is open.
	caps []uintptr
}

// chooseAccount answers for a server of bin that keeps its files in dir. Both its
// programs check with access(2), which looks past capabilities, that they can be
// run: a closed folder on the way to them cannot be helped.
func chooseAccount(dir string, bin binaries) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return account{}, fmt.Errorf("finding a user for postgres, which refuses root: %w", err)
		}
	}
	a := account{name: u.Username}
	if a.uid, err = strconv.Atoi(u.Uid); err != nil {
		return a, fmt.Errorf("reading the id of user %s: %w", a.name, err)
	}
	if a.gid, err = strconv.Atoi(u.Gid); err != nil {
		return a, fmt.Errorf("reading the group of user %s: %w", a.name, err)
	}
	if closed := a.closedAbove(bin.dir); closed != "" {
		return a, fmt.Errorf("postgres in %s cannot be run as user %s, who may not enter %s", bin.dir, a.name, closed)
	}
	if closed := a.closedAbove(dir); closed != "" {
		if a.caps, err = passage(); err != nil {
			return a, fmt.Errorf("user %s may not enter %s, choose a folder that it can reach: %w", a.name, closed, err)
		}
	}
	return a, nil
}

// closedAbove is the first folder on the way to dir that the account may not
// enter by its mode, or empty.
func (a account) closedAbove(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err == nil && !a.enters(info) {
			return at
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

func (a account) enters(info os.FileInfo) bool {
	mode, owner := info.Mode().Perm(), info.Sys().(*syscall.Stat_t)
	switch {
	case int(owner.Uid) == a.uid:
		return mode&0o100 != 0
	case int(owner.Gid) == a.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

func (a account) switches() bool { return a.name != "" }

// as is the user's part of an error message.
func (a account) as() string {
	if !a.switches() {
		return ""
	}
	return " as user " + a.name
}

// own hands a path to the account.
func (a account) own(path string) error {
	if !a.switches() {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// command prepares a program to run as the account, in a process group of its
// own, so that a Ctrl-C in our terminal does not reach it.
func (a account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	// Nothing of our environment: PGPORT and its kin would change what the server
	// does, and its messages are read by us. And a folder that everybody may enter:
	// ours may be closed.
	cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.switches() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
		lend(cmd.SysProcAttr, a.caps)
	}
	return cmd
}
