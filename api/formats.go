package api

import (
	"net/mail"
	"net/url"
	"strings"
	"unicode"
)

// formats are the forms that a check tag may ask for. Each says what is wrong, or
// nothing.
var formats = map[string]func(string) string{
	"email":       checkEmail,
	"phone":       checkPhone,
	"countrycode": checkCountryCode,
	"link":        checkLink,
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

func checkCountryCode(s string) string {
	digits, ok := strings.CutPrefix(s, "+")
	if !ok || digits == "" || len(digits) > 4 || strings.Trim(digits, "0123456789") != "" {
		return "must be a country code as +971"
	}
	return ""
}

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
