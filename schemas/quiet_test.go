package schemas_test

import (
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

func clock(t *testing.T, s string) schemas.TimeOfDay {
	t.Helper()
	c, err := schemas.ParseTimeOfDay(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Times are in the zone's own clock, or with the offset where that clock shows
// them twice.
func TestQuietHoursEndWhenTheClockOnTheWallSaysSo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, zone, start, end, at, over string // over is empty where it is not quiet
	}{
		{"in the middle of the day", "Asia/Dubai", "13:00", "15:00", "2026-11-25T14:10:30+04:00", "2026-11-25T15:00:00+04:00"},
		{"they begin at their start", "Asia/Dubai", "13:00", "15:00", "2026-11-25T13:00:00+04:00", "2026-11-25T15:00:00+04:00"},
		{"their end is outside", "Asia/Dubai", "13:00", "15:00", "2026-11-25T15:00:00+04:00", ""},
		{"the minute before is outside", "Asia/Dubai", "13:00", "15:00", "2026-11-25T12:59:59+04:00", ""},
		{"before midnight", "Asia/Dubai", "22:00", "07:00", "2026-11-25T23:30:00+04:00", "2026-11-26T07:00:00+04:00"},
		{"after midnight", "Asia/Dubai", "22:00", "07:00", "2026-11-26T00:00:00+04:00", "2026-11-26T07:00:00+04:00"},
		{"by day", "Asia/Dubai", "22:00", "07:00", "2026-11-26T12:00:00+04:00", ""},
		{"the host's night is not that of UTC", "Asia/Dubai", "22:00", "07:00", "2026-11-25T19:00:00Z", "2026-11-26T03:00:00Z"},
		{"quarters of an hour", "Asia/Kathmandu", "22:00", "07:00", "2026-11-25T16:15:00Z", "2026-11-26T01:15:00Z"},
		{"to the end of the day", "UTC", "18:00", "00:00", "2026-11-25T20:00:00Z", "2026-11-26T00:00:00Z"},
		{"nearly all day", "UTC", "08:00", "07:59", "2026-11-25T08:00:00Z", "2026-11-26T07:59:00Z"},
		{"the night that has an hour less", "Europe/Berlin", "22:00", "07:00", "2026-03-28T23:00:00+01:00", "2026-03-29T07:00:00+02:00"},
		{"the night that has an hour more", "Europe/Berlin", "22:00", "07:00", "2026-10-24T23:00:00+02:00", "2026-10-25T07:00:00+01:00"},
		{"an end that does not exist", "Europe/Berlin", "22:00", "02:30", "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"an end that comes twice, at its first", "Europe/Berlin", "22:00", "02:30", "2026-10-25T01:00:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"between the two, where it is quiet once more", "Europe/Berlin", "22:00", "02:30", "2026-10-25T02:10:00+01:00", "2026-10-25T02:30:00+01:00"},
		{"half an hour of summer time", "Australia/Lord_Howe", "22:00", "07:00", "2026-10-03T23:00:00+10:30", "2026-10-04T07:00:00+11:00"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		q := schemas.QuietHours{Enabled: true, Start: clock(t, c.start), End: clock(t, c.end)}
		over, quiet := q.Over(at, zone)
		if quiet != (c.over != "") {
			t.Errorf("%s: quiet is %t", c.name, quiet)
			continue
		}
		if want, _ := time.Parse(time.RFC3339, c.over); quiet && !over.Equal(want) {
			t.Errorf("%s: over at %v, want %v", c.name, over, want)
		}
		if q.Enabled = false; quiet {
			if _, still := q.Over(at, zone); still {
				t.Errorf("%s: quiet although they are switched off", c.name)
			}
		}
	}
}

func TestATimeOfDayHasOneForm(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"00:00", "07:05", "23:59"} {
		if got := clock(t, s).String(); got != s {
			t.Errorf("%s is written %s", s, got)
		}
	}
	for _, s := range []string{"", "24:00", "7:00", "12:60", "12", "12:00:00", "-1:00", "12:00 ", "１２:00"} {
		if got, err := schemas.ParseTimeOfDay(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}
