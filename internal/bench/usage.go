package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of /proc's processor times, USER_HZ, which is the same on
// every Linux.
const tick = time.Second / 100

// A meter reads what Krib and its Postgres use. A pid of zero is a server that is
// not ours to count.
type meter struct {
	proc           string // "/proc"; tests have their own
	krib, postgres int
}

// A use is processor time.
type use struct{ krib, postgres time.Duration }

func (u use) minus(v use) use { return use{u.krib - v.krib, u.postgres - v.postgres} }

// cpu is what was used since the start, by Krib's process and by all of
// Postgres's, also those that have ended.
func (m meter) cpu() (use, error) {
	var u use
	s, err := m.stat(m.krib)
	if err != nil {
		return u, err
	}
	u.krib = s.own
	err = m.cluster(func(pid int) error {
		s, err := m.stat(pid)
		u.postgres += s.own + s.reaped
		return err
	})
	return u, err
}

// A size is memory in bytes.
type size struct{ krib, postgres int64 }

func (s size) all() int64 { return s.krib + s.postgres }

// memory is the proportional set size: a page that n processes share counts one
// nth in each, so the sum is what the machine really gives.
func (m meter) memory() (size, error) {
	var s size
	var err error
	if s.krib, err = m.pss(m.krib); err != nil {
		return s, err
	}
	err = m.cluster(func(pid int) error {
		n, err := m.pss(pid)
		s.postgres += n
		return err
	})
	return s, err
}

// cluster visits Postgres's postmaster and the processes that it has forked. One
// that ends meanwhile is passed.
func (m meter) cluster(visit func(pid int) error) error {
	if m.postgres == 0 {
		return nil
	}
	dirs, err := filepath.Glob(filepath.Join(m.proc, "[0-9]*"))
	if err != nil {
		return fmt.Errorf("listing processes: %w", err)
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		if pid != m.postgres {
			if s, err := m.stat(pid); err != nil || s.parent != m.postgres {
				continue
			}
		}
		if err := visit(pid); err != nil && !ended(err) {
			return err
		}
	}
	return nil
}

// ended says that a process was not there any more.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

type stat struct {
	parent      int
	own, reaped time.Duration // reaped is that of children who were waited for
}

func (m meter) stat(pid int) (stat, error) {
	b, err := os.ReadFile(filepath.Join(m.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	s, err := parseStat(string(b))
	if err != nil {
		return s, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	return s, nil
}

// parseStat reads /proc/PID/stat. The name of the program stands in parentheses
// and may hold anything, so the fields are counted after the last one.
func parseStat(line string) (stat, error) {
	i := strings.LastIndexByte(line, ')')
	f := strings.Fields(line[i+1:])
	if i < 0 || len(f) < 15 {
		return stat{}, errors.New("it is not in the form of proc(5)")
	}
	var n [5]int64 // parent, utime, stime, cutime, cstime
	for i, at := range []int{1, 11, 12, 13, 14} {
		var err error
		if n[i], err = strconv.ParseInt(f[at], 10, 64); err != nil {
			return stat{}, fmt.Errorf("reading field %d: %w", at+3, err)
		}
	}
	return stat{parent: int(n[0]), own: time.Duration(n[1]+n[2]) * tick, reaped: time.Duration(n[3]+n[4]) * tick}, nil
}

func (m meter) pss(pid int) (int64, error) {
	b, err := os.ReadFile(filepath.Join(m.proc, strconv.Itoa(pid), "smaps_rollup"))
	if err == nil {
		var n int64
		if n, err = kilobytes(string(b), "Pss:"); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
}

// kilobytes finds a line such as "Pss:  123 kB" and returns bytes.
func kilobytes(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == name && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("there is no line %s", name)
}

// counter is the sum of a metric over its labels, from the child's /metrics.
func (b *bench) counter(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.child.dev.AdminURL+"/metrics", http.NoBody)
	if err != nil {
		return 0, fmt.Errorf("asking for metrics: %w", err)
	}
	res, err := b.api.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("asking for metrics: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, fmt.Errorf("reading metrics: %w", err)
	}
	return sumOf(string(text), name), nil
}

// sumOf adds up the samples of a metric in Prometheus's text format.
func sumOf(text, name string) float64 {
	var sum float64
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		f := strings.Fields(rest)
		v, err := strconv.ParseFloat(f[len(f)-1], 64)
		if err == nil {
			sum += v
		}
	}
	return sum
}
