package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeProc is a /proc with a program, a Postgres of three processes and a
// stranger.
func fakeProc(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range []struct {
		pid, parent int
		name        string
		ticks       [4]int // utime, stime, cutime, cstime
		pss         int
	}{
		{100, 1, "krib", [4]int{150, 50, 999, 999}, 30_000},
		{200, 100, "postgres", [4]int{10, 10, 40, 40}, 4_000},
		{201, 200, "postgres", [4]int{100, 0, 0, 0}, 2_000},
		{202, 200, "a ) name (of", [4]int{0, 100, 0, 0}, 1_000},
		{300, 1, "stranger", [4]int{5_000, 0, 0, 0}, 9_000},
	} {
		stat := fmt.Sprintf("%d (%s) S %d 1 1 0 -1 4194560 1 2 3 4 %d %d %d %d 20 0 9 0 4711 1 2\n",
			p.pid, p.name, p.parent, p.ticks[0], p.ticks[1], p.ticks[2], p.ticks[3])
		smaps := fmt.Sprintf("00400000-7ffe00000000 ---p 00000000 00:00 0 [rollup]\nRss:  99999 kB\nPss:  %d kB\nPss_Dirty:  1 kB\n", p.pss)
		at := filepath.Join(dir, strconv.Itoa(p.pid))
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"stat": stat, "smaps_rollup": smaps} {
			if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestTheMeterCountsKribAndItsPostgresOnly(t *testing.T) {
	t.Parallel()
	m := meter{proc: fakeProc(t), krib: 100, postgres: 200}
	u, err := m.cpu()
	if err != nil {
		t.Fatal(err)
	}
	// What Krib has waited for is its Postgres, which is counted by itself.
	if want := (use{2 * time.Second, 3 * time.Second}); u != want {
		t.Errorf("used %+v, want %+v", u, want)
	}
	s, err := m.memory()
	if err != nil {
		t.Fatal(err)
	}
	if want := (size{30_000 << 10, 7_000 << 10}); s != want {
		t.Errorf("has %+v, want %+v", s, want)
	}
}

func TestAGivenPostgresIsNotCounted(t *testing.T) {
	t.Parallel()
	m := meter{proc: fakeProc(t), krib: 100}
	u, err1 := m.cpu()
	s, err2 := m.memory()
	if err1 != nil || err2 != nil || u.postgres != 0 || s.postgres != 0 {
		t.Errorf("%+v %v, %+v %v", u, err1, s, err2)
	}
}

func TestAKribThatIsGoneIsAnError(t *testing.T) {
	t.Parallel()
	m := meter{proc: fakeProc(t), krib: 101}
	if _, err := m.cpu(); !ended(err) {
		t.Errorf("cpu: %v", err)
	}
	if _, err := m.memory(); !ended(err) {
		t.Errorf("memory: %v", err)
	}
}

func TestTheMeterReadsThisMachine(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		t.Skip("this machine has no /proc as Linux has it")
	}
	m := meter{proc: "/proc", krib: os.Getpid()}
	s, err := m.memory()
	if err != nil || s.krib < 1<<20 {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := m.cpu(); err != nil {
		t.Error(err)
	}
}

func TestNonsenseInProcIsAnError(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"", "1 (krib) S 1", "no parenthesis at all 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", "1 (krib) S 1 1 1 0 -1 4194560 1 2 3 4 x 1 1 1 20"} {
		if s, err := parseStat(line); err == nil {
			t.Errorf("%q is read as %+v", line, s)
		}
	}
	if n, err := kilobytes("Rss: 1 kB\n", "Pss:"); err == nil {
		t.Errorf("a missing line is read as %d", n)
	}
}

func TestMetricsAreSummedOverTheirLabels(t *testing.T) {
	t.Parallel()
	const text = `# HELP krib_deliver_parked_total Records parked on a tier, by reason.
# TYPE krib_deliver_parked_total counter
krib_deliver_parked_total{reason="flood"} 3
krib_deliver_parked_total{reason="closed"} 1.5e+01
krib_deliver_parked_total_other 100
krib_fanout_events_total 7
`
	got := map[string]float64{}
	for _, name := range []string{"krib_deliver_parked_total", "krib_fanout_events_total", "krib_nothing"} {
		got[name] = sumOf(text, name)
	}
	if diff := cmp.Diff(map[string]float64{"krib_deliver_parked_total": 18, "krib_fanout_events_total": 7, "krib_nothing": 0}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheProcessorsNameIsFound(t *testing.T) {
	t.Parallel()
	if got := cpuModel("processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU @ 2.00GHz\nprocessor\t: 1\n"); got != "Some CPU @ 2.00GHz" {
		t.Errorf("got %q", got)
	}
}
