package schemas

import (
	"errors"
	"time"
)

// A Date is a day in the calendar, without time or zone: yyyy-mm-dd. It is
// compared as text, which is the order of days.
type Date string

// ParseDate refuses days that do not exist and years outside 2000 to 9999.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil || t.Year() < 2000 {
		return "", errors.New("must be a date as 2006-01-02")
	}
	return Date(s), nil
}

// DateOf is the day that t falls on in its own zone.
func DateOf(t time.Time) Date { return Date(t.Format(time.DateOnly)) }

// UnmarshalText checks the form, so a Date that was decoded is a real day.
func (d *Date) UnmarshalText(b []byte) error {
	v, err := ParseDate(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// Time is the start of the day in UTC; the zero time if the date is malformed.
func (d Date) Time() time.Time {
	t, _ := time.Parse(time.DateOnly, string(d))
	return t
}

// AddDays moves by whole calendar days.
func (d Date) AddDays(n int) Date { return DateOf(d.Time().AddDate(0, 0, n)) }

// NightsUntil counts the nights from d to out.
func (d Date) NightsUntil(out Date) int {
	return int(out.Time().Sub(d.Time()) / (24 * time.Hour))
}

// Stamp brings a time to what the wire and Postgres both hold: UTC, microseconds.
func Stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
