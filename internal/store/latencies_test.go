package store_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/internal/store"
)

// The bound that the documentation promises, on shapes that latencies have.
func TestAQuantileIsAtMostAFifthAwayFromTheTrueOne(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() int64{
		"fast":      func() int64 { return 1 + r.Int64N(20) },
		"even":      func() int64 { return 1 + r.Int64N(15_000) },
		"long tail": func() int64 { return int64(5 + 40*r.ExpFloat64()*r.ExpFloat64()) },
		"two humps": func() int64 { return []int64{12, 15_000}[r.IntN(2)] + r.Int64N(5) },
		"one value": func() int64 { return 73 },
	} {
		var (
			h   store.Latencies
			all []int64
		)
		for range 5_000 {
			ms := draw()
			h.Add(ms)
			all = append(all, ms)
		}
		slices.Sort(all)
		for _, q := range []float64{0.01, 0.5, 0.95, 0.99, 1} {
			want := float64(all[max(0, int(q*float64(len(all))+0.999999)-1)])
			got, ok := h.Quantile(q)
			if !ok || got < want/1.19 || got > want*1.19 {
				t.Errorf("%s: quantile %v is %v, the true one %v", name, q, got, want)
			}
		}
	}
}

func TestLatenciesMergeByAddition(t *testing.T) {
	t.Parallel()
	var a, b, both store.Latencies
	for i, ms := range []int64{0, 1, 5, 80, 81, 15_000, 1 << 40} {
		if i%2 == 0 {
			a.Add(ms)
		} else {
			b.Add(ms)
		}
		both.Add(ms)
	}
	a.Merge(b)
	if diff := cmp.Diff(both, a); diff != "" {
		t.Error(diff)
	}
	if _, ok := store.Latencies(nil).Quantile(0.5); ok {
		t.Error("nothing has a median")
	}
}
