package api

import "testing"

func TestStripesAmountsAreCountedInHundredths(t *testing.T) {
	for _, c := range []struct {
		amount   int64
		currency string
		want     int64
	}{{95000, "aed", 95000}, {950, "jpy", 95000}, {950000, "kwd", 95000}, {1, "XOF", 100}} {
		if got := hundredths(c.amount, c.currency); int64(got) != c.want {
			t.Errorf("%d %s is %d, want %d", c.amount, c.currency, got, c.want)
		}
	}
}
