package schemas_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/krib-ai/krib/schemas"
)

func TestCurrenciesAreThoseOfTwoMinorDigits(t *testing.T) {
	t.Parallel()
	all := schemas.Currencies()
	if len(all) != 132 || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("%d currencies, or not each once and in order", len(all))
	}
	for _, code := range append(all, "PKR", "IDR", "COP", "MRU", "MGA", "HUF", "TWD", "LBP", "XCG", "SLE", "ZWG", "VED", "VES", "XCD", "KPW") {
		if err := schemas.CheckCurrency(code); err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
	for code, why := range map[string]string{
		"JPY": "has 0", "ISK": "has 0", "UGX": "has 0", "XAF": "has 0", "IQD": "has 3", "BHD": "has 3", "TND": "has 3", "UYW": "has 4", "CLF": "has 4",
		"XXX": "not one of payments", "XTS": "not one of payments", "XAU": "not one of payments", "XDR": "not one of payments", "CHE": "not one of payments",
		"USN": "not one of payments", "XAD": "not one of payments",
		"HRK": "withdrawn on 2023-01-01", "BGN": "withdrawn on 2026-01-01", "ANG": "withdrawn on 2025-03-31", "ZWL": "withdrawn in 2024", "DEM": "withdrawn in 2002",
		"aed": "capital letters", "": "ISO 4217", "AE": "ISO 4217", "AED ": "ISO 4217", "AED AFN": "ISO 4217", "BTC": "ISO 4217", "USDT": "ISO 4217", "\uff21ED": "ISO 4217",
	} {
		if err := schemas.CheckCurrency(code); err == nil || !strings.Contains(err.Error(), why) || why[0] == 'h' && !strings.Contains(err.Error(), code) {
			t.Errorf("%q: %v, want that it %s", code, err, why)
		}
	}
}
