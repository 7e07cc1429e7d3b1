package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNonsenseIsRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Only: []string{Create, "sleep"}}, {Runs: -1}, {Duration: -time.Second}, {Events: -1}, {Homes: -1}, {Streams: -1}} {
		if err := o.Check(); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if err := (Options{Only: Names()}).Check(); err != nil {
		t.Error(err)
	}
}

func TestAProgramThatDoesNotStartLeavesNothing(t *testing.T) {
	t.Parallel()
	ends, err := exec.LookPath("false")
	if err != nil {
		t.Fatal(err) // POSIX has it
	}
	for name, program := range map[string]string{"it is not there": filepath.Join(t.TempDir(), "krib"), "it ends at once": ends} {
		dir := t.TempDir()
		_, err := Run(t.Context(), Options{Program: program, Dir: dir, Only: []string{Drain}})
		if err == nil || !strings.HasPrefix(err.Error(), "starting krib: ") {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: it left %v (%v)", name, left, err)
		}
	}
}
