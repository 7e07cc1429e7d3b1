package api

import (
	"math"
	"math/big"
	"strings"
	"testing"
)

func TestAnIntegerIsTakenInEveryFormThatJSONSchemaCountsAsOne(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{
		"0": 0, "-0": 0, "-0.0": 0, "0e5": 0, "0.000e99": 0, "7": 7, "2.0": 2, "2e0": 2, "2E+1": 20, "-3.00": -3, "1.5e1": 15, "20e-1": 2, "1200.0e-2": 12, "0.002e3": 2,
		"9007199254740993.0": 9007199254740993, "9223372036854775807": math.MaxInt64, "-9223372036854775808.0": math.MinInt64, "922337203685477580.7e1": math.MaxInt64,
		"1" + strings.Repeat("0", 40) + "e-40": 1, "0." + strings.Repeat("0", 40) + "1e41": 1,
	} {
		if got, ok := parseInteger(s); !ok || got != want {
			t.Errorf("%s is read as %d, %t; want %d", s, got, ok, want)
		}
	}
	for _, s := range []string{
		"", "-", ".", "2.5", "2.50", "25e-1", "1e-1", "0.1", "1e19", "9223372036854775808", "9223372036854775807.1", "1e400", "1e999999999", "1e99999999999999999999", "1e", "1e+",
		"2.", ".5", "--2", "2.0.0", "0x10", "1_0", "NaN", "Infinity", " 2", "2 ", "٢", strings.Repeat("9", 1000),
	} {
		if got, ok := parseInteger(s); ok {
			t.Errorf("%q is taken for %d", s, got)
		}
	}
}

// What is taken is exactly what the text says.
func FuzzInteger(f *testing.F) {
	for _, s := range []string{"2.0", "2e0", "-1.5e1", "9223372036854775807.0", "1e-3", "00.10e1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseInteger(s)
		if !ok || len(s) > 60 {
			return
		}
		if i := strings.IndexAny(s, "eE"); i >= 0 && len(s)-i > 5 {
			return // too long to write out here
		}
		if exact, valid := new(big.Rat).SetString(s); !valid || exact.Cmp(new(big.Rat).SetInt64(got)) != 0 {
			t.Errorf("%q is read as %d", s, got)
		}
	})
}
