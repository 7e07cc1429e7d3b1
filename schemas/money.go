package schemas

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// An Amount is money in minor units (fils, cents). On the wire it is a decimal
// number with two places: 95000 is 950.00. Currencies with other than two
// places are not supported.
type Amount int64

// MaxAmount bounds what one booking may cost: ten million in major units.
const MaxAmount Amount = 1_000_000_000

// String is the wire form: digits, a point, two digits.
func (a Amount) String() string {
	sign, n := "", uint64(a) // two's complement: the negation below is exact, the smallest int64 included
	if a < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%02d", sign, n/100, n%100)
}

// MarshalJSON writes the amount as a number, never as a string.
func (a Amount) MarshalJSON() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalJSON reads a number exactly. It refuses what has more than two
// places, so that no amount is ever rounded on its way in.
func (a *Amount) UnmarshalJSON(b []byte) error {
	v, err := ParseAmount(string(b))
	if err != nil {
		return err
	}
	*a = v
	return nil
}

// ParseAmount reads a JSON number. It is bounded in length and exponent, since
// the exact form of 1e999999999 would need gigabytes.
func ParseAmount(s string) (Amount, error) {
	if len(s) > 32 {
		return 0, errors.New("must be a number of at most 32 characters")
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 && len(s)-i > 4 {
		return 0, errors.New("must have an exponent between -99 and 99")
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok || strings.ContainsAny(s, "/_xXpPbBoO\"") {
		return 0, errors.New("must be a number")
	}
	r.Mul(r, big.NewRat(100, 1))
	if !r.IsInt() {
		return 0, errors.New("must have at most two decimal places")
	}
	if !r.Num().IsInt64() {
		return 0, errors.New("is out of range")
	}
	return Amount(r.Num().Int64()), nil
}
