package bench

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestQuantileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i, n := range rand.Perm(100) {
		hundred[i] = time.Duration(n + 1)
	}
	for _, c := range []struct {
		of   []time.Duration
		p    float64
		want time.Duration
	}{
		{hundred, 0.50, 50},
		{hundred, 0.99, 99},
		{hundred, 0.991, 100},
		{hundred, 0, 1},
		{hundred, 1, 100},
		{[]time.Duration{7}, 0.99, 7},
		{[]time.Duration{3, 1, 2}, 0.50, 2},
		{nil, 0.99, 0},
	} {
		if got := quantile(c.of, c.p); got != c.want {
			t.Errorf("quantile %v of %d values is %d, want %d", c.p, len(c.of), got, c.want)
		}
	}
}

func TestMedianIsTheMiddle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of   []float64
		want float64
	}{
		{[]float64{5, 1, 3}, 3},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{9}, 9},
	} {
		before := c.of[0]
		if got := median(c.of); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.of, got, c.want)
		}
		if c.of[0] != before {
			t.Error("it reorders what it is given: values stand in the order of their runs")
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v", got)
	}
}

// The ratio of medians would mix runs, and the raw limit is of the same run.
func TestRatiosAreOfTheSameRun(t *testing.T) {
	t.Parallel()
	if got := median(ratios([]float64{1, 10, 100}, []float64{10, 20, 50})); got != 0.5 {
		t.Errorf("got %v, want 0.5", got)
	}
}
