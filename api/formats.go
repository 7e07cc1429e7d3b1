package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/nyaruka/phonenumbers"
)

// formats are the forms that a check tag may ask for. Each says what is wrong, or
// nothing.
var formats = map[string]func(string) string{
	"email":              checkEmail,
	"phone":              checkPhone,
	"countrycode":        checkCountryCode,
	"link":               checkLink,
	"bookingcursor":      checkBookingCursor,
	"notificationcursor": checkNotificationCursor,
	"country":            checkCountry,
	"currency":           checkCurrency,
	"timezone":           checkTimeZone,
}

func checkEmail(s string) string {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 { // a name before it is not wanted
		return "must be an e-mail address"
	}
	return ""
}

func checkPhone(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return !strings.ContainsRune("0123456789 +-().x", c) }) ||
		!strings.ContainsFunc(s, unicode.IsDigit) {
		return "must be a telephone number"
	}
	return ""
}

// A phone is a number as a booking keeps it: what stands after the country code,
// without the zero or the like that is dialled at home.
type phone struct {
	country, national string
}

// defaultCountryCode is that of the contract's market.
const defaultCountryCode = "971"

// parsePhone reads a number as people write it: at home, with its country code, or
// with what is dialled before one. The code that stands in a number must be the
// one that is given beside it. field is the one to blame for the message.
func parsePhone(country, number string) (p phone, field, message string) {
	code := cmp.Or(strings.TrimPrefix(country, "+"), defaultCountryCode)
	calling, _ := strconv.Atoi(code) // checkCountryCode lets digits through only
	region := phonenumbers.GetRegionCodeForCountryCode(calling)
	if region == phonenumbers.UNKNOWN_REGION {
		return phone{}, "country_code", "must be a country code as +971"
	}
	n, err := phonenumbers.Parse(number, region)
	if err != nil || !phonenumbers.IsValidNumber(n) {
		return phone{}, "phone", "must be a telephone number of +" + code
	}
	if country != "" && int(n.GetCountryCode()) != calling {
		return phone{}, "phone", "must be a number of country_code"
	}
	return phone{"+" + strconv.Itoa(int(n.GetCountryCode())), phonenumbers.GetNationalSignificantNumber(n)}, "", ""
}

func checkCountryCode(s string) string {
	digits := strings.TrimPrefix(s, "+")
	if digits == "" || len(digits) > 4 || strings.Trim(digits, "0123456789") != "" {
		return "must be a country code as +971"
	}
	return ""
}

// parseTime reads RFC 3339. A time without a zone is in UTC, as clients of the
// first API mean it. One whose year in UTC has not four digits is refused: no
// answer and no record could hold it.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.ParseInLocation("2006-01-02T15:04:05", s, time.UTC)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("reading a time: %w", err)
	}
	if t = t.UTC(); t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, errYear
	}
	return t, nil
}

var errYear = errors.New("the year must be between 1 and 9999 in UTC")

// checkLink lets through what a dashboard may open: a path of its own, or an
// absolute web address. "//host" is neither, and no other scheme is.
func checkLink(s string) string {
	const must = "must be a path, or an absolute http or https URL"
	u, err := url.Parse(s)
	if err != nil || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '\\' }) {
		return must
	}
	if u.Scheme == "" && u.Host == "" && strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") {
		return ""
	}
	if (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil {
		return ""
	}
	return must
}
