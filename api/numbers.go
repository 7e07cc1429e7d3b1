package api

import (
	"strconv"
	"strings"
)

// parseInteger reads an integer in any form that JSON Schema counts as one: 2, 2.0,
// 2e0, 20e-1. A fraction, and what 64 bits do not hold, are none. It is exact, and does
// no more work than the text is long: an exponent is never written out.
func parseInteger(s string) (int64, bool) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, true
	}
	mantissa, exponent, scaled := s, "", false
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent, scaled = s[:i], s[i+1:], true
	}
	shift := 0
	if scaled {
		var err error
		if shift, err = strconv.Atoi(exponent); err != nil {
			return 0, false
		}
	}
	unsigned := strings.TrimPrefix(mantissa, "-")
	whole, fraction, dotted := strings.Cut(unsigned, ".")
	if !digits(whole) || dotted && !digits(fraction) {
		return 0, false
	}
	all := whole + fraction
	significant := strings.TrimRight(all, "0")
	shift += len(all) - len(significant) - len(fraction)
	if significant = strings.TrimLeft(significant, "0"); significant == "" {
		return 0, true
	}
	if shift < 0 || shift > maxDigits || len(significant)+shift > maxDigits {
		return 0, false
	}
	i, err := strconv.ParseInt(mantissa[:len(mantissa)-len(unsigned)]+significant+strings.Repeat("0", shift), 10, 64)
	return i, err == nil
}

const maxDigits = 19 // of an integer of 64 bits

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// parseBoolean reads a boolean of a query: JSON's words, as Python and others print
// them too, and the digits that forms and PHP send.
func parseBoolean(s string) (value, ok bool) {
	switch s {
	case "true", "True", "TRUE", "1":
		return true, true
	case "false", "False", "FALSE", "0":
		return false, true
	}
	return false, false
}
