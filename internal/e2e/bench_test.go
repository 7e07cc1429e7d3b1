//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/krib-ai/krib/internal/bench"
	"github.com/krib-ai/krib/internal/testenv"
)

// benchmark is the built program about to measure on its own servers, whatever
// the tests were given. What it leaves in dir is a fault.
func benchmark(t *testing.T, dir string, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), binary(t), append([]string{"bench", "--runs", "1", "--homes", "100", "--dir", dir}, args...)...)
	cmd.Env = append(os.Environ(), "DATABASE_URL=", "KRIB_KAFKA_BROKERS=")
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

func leftNothing(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
}

// A tiny run of every measurement on the built program: no figure is judged, but
// each must be there, and nothing may be left behind.
func TestTheBenchmarkMeasuresEverythingAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "report.json")
	cmd, stdout, stderr := benchmark(t, dir, "--duration", "200ms", "--events", "50", "--streams", "20", "--json", file)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	leftNothing(t, dir)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r bench.Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range r.Measurements {
		names = append(names, m.Name)
		if len(m.Figures) == 0 || len(m.Marks) == 0 {
			t.Errorf("%s has %d figures and %d marks", m.Name, len(m.Figures), len(m.Marks))
		}
		for _, f := range m.Figures {
			checkFigure(t, m.Name, f)
			if !strings.Contains(stdout.String(), "| "+f.Name+" |") {
				t.Errorf("%s, %s is not in the report for people", m.Name, f.Name)
			}
		}
	}
	if !slices.Equal(names, bench.Names()) {
		t.Errorf("measured %v, want %v", names, bench.Names())
	}
}

func checkFigure(t *testing.T, measurement string, f *bench.Figure) {
	t.Helper()
	if f.Limit != "" && len(f.Raw) != len(f.Values) {
		t.Errorf("%s, %s: %d raw limits for %d values", measurement, f.Name, len(f.Raw), len(f.Values))
	}
	for _, v := range slices.Concat(f.Values, f.Raw) {
		// Processor time is counted in hundredths; nothing has to wait on a tier, and no
		// partition must be paused. Between two looks all may be committed.
		mayBeZero := slices.ContainsFunc([]string{"processor time", "tier", "not fetched", "uncommitted"}, func(part string) bool { return strings.Contains(f.Name, part) })
		if v < 0 || v == 0 && !mayBeZero {
			t.Errorf("%s, %s: %v beside %v", measurement, f.Name, f.Values, f.Raw)
		}
	}
}

func TestABenchmarkThatIsInterruptedLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, _, stderr := benchmark(t, dir, "--only", bench.Create)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "krib runs", func() bool {
		found, _ := filepath.Glob(filepath.Join(dir, "*", "dev.json"))
		return len(found) > 0
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v\n%s", err, stderr)
	}
	leftNothing(t, dir)
}
