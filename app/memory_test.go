package app

import (
	"math"
	"os"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestTheHeapKeepsToTheContainersMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOMEMLIMIT", "") // puts the test's own back at its end
	if err := os.Unsetenv("GOMEMLIMIT"); err != nil {
		t.Fatal(err)
	}
	none := func() (uint64, error) { return 0, memlimit.ErrNoLimit }
	away := func() (uint64, error) { return 0, memlimit.ErrNoCgroup }
	for _, c := range []struct {
		name string
		of   memlimit.Provider
		want int64
	}{
		{"1 GB", memlimit.Limit(1_000_000_000), 850_000_000},
		{"no control group leaves what there is", away, 850_000_000},
		{"64 MB", memlimit.Limit(64_000_000), 54_400_000},
		{"a group without a bound", none, math.MaxInt64},
	} {
		limitMemory(c.of)
		if got := debug.SetMemoryLimit(-1); got != c.want {
			t.Errorf("%s: the limit is %d, want %d", c.name, got, c.want)
		}
	}
	t.Setenv("GOMEMLIMIT", "123456789")
	limitMemory(memlimit.Limit(1_000_000_000))
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 { // the runtime has read it at the start
		t.Errorf("GOMEMLIMIT is overruled by %d", got)
	}
}
