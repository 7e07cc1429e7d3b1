package schemas

import (
	"errors"
	"fmt"
	"time"
)

// A TimeOfDay is a minute of the day on the clock on the wall, from 0 to 1439.
type TimeOfDay int16

// ParseTimeOfDay reads 00:00 to 23:59, with two digits each.
func ParseTimeOfDay(s string) (TimeOfDay, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, errors.New("must be a time of day as 22:00")
	}
	return wall(t), nil
}

func (t TimeOfDay) String() string { return fmt.Sprintf("%02d:%02d", t/60, t%60) }

func wall(t time.Time) TimeOfDay { return TimeOfDay(t.Hour()*60 + t.Minute()) }

// QuietHours are when a host wants no mail: from Start to before End, over
// midnight when Start is the later one. AllowUrgent lets what is urgent through.
type QuietHours struct {
	Enabled     bool
	Start, End  TimeOfDay
	AllowUrgent bool
}

// holds says whether the hours hold mail at a time of the day.
func (q QuietHours) holds(t TimeOfDay) bool {
	if q.Start <= q.End {
		return q.Start <= t && t < q.End
	}
	return t >= q.Start || t < q.End
}

// Over is when the quiet hours that at is in are over; false when it is in none.
//
// It walks by minutes until the clock on the wall is outside: on the two days of a
// year on which clocks are changed, hours are missing or come twice, an end may
// not exist, and sums of hours are wrong.
func (q QuietHours) Over(at time.Time, zone *time.Location) (time.Time, bool) {
	t := at.In(zone)
	if !q.Enabled || !q.holds(wall(t)) || q.Start == q.End {
		return time.Time{}, false
	}
	for t = t.Truncate(time.Minute); q.holds(wall(t)); {
		t = t.Add(time.Minute)
	}
	return t.UTC(), true
}
