package api

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// formats are the forms that a check tag may ask for. Each says what is wrong, or
// nothing.
var formats = map[string]func(string) string{
	"email":              checkEmail,
	"name":               checkName,
	"phone":              checkPhone,
	"countrycode":        checkCountryCode,
	"link":               checkLink,
	"bookingcursor":      checkBookingCursor,
	"notificationcursor": checkNotificationCursor,
	"deliverycursor":     checkDeliveryCursor,
	"attemptcursor":      checkAttemptCursor,
	"country":            checkCountry,
	"currency":           checkCurrency,
	"timezone":           checkTimeZone,
	"mailbox":            checkMailbox,
	"timeofday":          checkTimeOfDay,

	"feedkinds":         func(s string) string { return checkWords(s, schemas.FeedKinds()) },
	"notificationtypes": func(s string) string { return checkWords(s, schemas.NotificationTypes()) },
}

// checkWords lets a list of known words through, with commas between them.
func checkWords[T ~string](s string, known []T) string {
	for w := range strings.SplitSeq(s, ",") {
		if !slices.Contains(known, T(w)) {
			return fmt.Sprintf("must be some of %v, with commas between them", known)
		}
	}
	return ""
}

// checkMailbox lets an address be taken away.
func checkMailbox(s string) string {
	if s == "" {
		return ""
	}
	return checkEmail(s)
}

func checkTimeOfDay(s string) string {
	if _, err := schemas.ParseTimeOfDay(s); err != nil {
		return err.Error()
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
