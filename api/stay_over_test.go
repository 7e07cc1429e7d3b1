package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// moments are the last moment of a day at the home and the first of the next, in UTC:
// where clocks change, where days are far from those of UTC, where months, years and
// Februaries end, and where a day has no midnight.
var moments = []struct {
	zone             string
	day              schemas.Date // the first day on which it may happen
	before, at, name string
}{
	{"Asia/Dubai", "2027-03-10", "2027-03-09T19:59:59Z", "2027-03-09T20:00:00Z", "the contract's market"},
	{"Pacific/Kiritimati", "2027-06-15", "2027-06-14T09:59:59Z", "2027-06-14T10:00:00Z", "fourteen hours ahead"},
	{"Pacific/Pago_Pago", "2027-06-15", "2027-06-15T10:59:59Z", "2027-06-15T11:00:00Z", "eleven hours behind"},
	{"Asia/Kathmandu", "2027-01-01", "2026-12-31T18:14:59Z", "2026-12-31T18:15:00Z", "a new year, at a quarter of an hour"},
	{"America/Los_Angeles", "2028-02-29", "2028-02-29T07:59:59Z", "2028-02-29T08:00:00Z", "a leap day"},
	{"Europe/Berlin", "2027-03-01", "2027-02-28T22:59:59Z", "2027-02-28T23:00:00Z", "no leap day"},
	{"America/Santiago", "2027-09-05", "2027-09-05T03:59:59Z", "2027-09-05T04:00:00Z", "a day that begins at one o'clock"},
	{"Asia/Beirut", "2027-03-28", "2027-03-27T21:59:59Z", "2027-03-27T22:00:00Z", "the same, on the other side of UTC"},
	{"Europe/London", "2027-11-01", "2027-10-31T23:59:59Z", "2027-11-01T00:00:00Z", "after a day of 25 hours"},
	{"Australia/Lord_Howe", "2027-10-03", "2027-10-02T13:29:59Z", "2027-10-02T13:30:00Z", "before half an hour is left out"},
}

// Each route that can end a stay does so from the day on, and not one second earlier.
func TestStayIsOverOrMissedByTheDaysOfItsProperty(t *testing.T) {
	w := newWorld(t)
	a, h := w.key("bookings:read", "bookings:write"), w.host(hostOne)
	model := a.model()
	for i, m := range moments {
		t.Run(m.zone, func(t *testing.T) {
			for j, c := range []struct {
				to      schemas.BookingStatus
				in, out schemas.Date
			}{{schemas.Completed, m.day.AddDays(-2), m.day}, {schemas.NoShow, m.day, m.day.AddDays(2)}} {
				w.exec(`update properties set time_zone = $1`, m.zone)
				booked := moment(t, m.before).AddDate(0, 0, -20)
				w.at(booked)
				id := a.do("POST", bookings, with(stay(0), "check_in", c.in, "check_out", c.out)).want(200).text("data.booking_id")
				end := func(n int) reply {
					switch n % 3 {
					case 0:
						return a.do("PUT", statusPath(id), map[string]any{"status": c.to})
					case 1:
						r := model.call("change_booking_status", map[string]any{"booking_id": id, "status": c.to})
						r.header = http.Header{"Content-Type": {"application/problem+json"}, "X-Request-Id": {fmt.Sprint(r.doc["request_id"])}}
						return r
					}
					return h.do("POST", hostPath(hostOne, "/"+id+"/"+map[schemas.BookingStatus]string{schemas.Completed: "complete", schemas.NoShow: "no-show"}[c.to]), nil)
				}
				end(0).refused(409, "illegal_status") // pending
				h.do("POST", hostPath(hostOne, "/"+id+"/confirm"), nil).want(200)
				w.exec(`update properties set status = 'inactive'`) // a stay goes on
				before := w.outbox()
				for n := range 3 {
					w.at(booked)
					end(n).refused(409, "too_early").is("current_status", "confirmed", "version", 3)
					w.at(moment(t, m.before))
					end(n).refused(409, "too_early").is("possible_from", m.day, "today", m.day.AddDays(-1), "time_zone", m.zone)
				}
				if n := w.outbox() - before; n != 0 {
					t.Errorf("%d outbox rows without a change", n)
				}
				w.at(moment(t, m.at))
				end(i + j).want(200)
				a.do("GET", statusPath(id), nil).want(200).is("data.status", c.to, "data.version", 4)
				w.exec(`update properties set status = 'active'`)
				w.exec(`delete from bookings`)
			}
		})
	}
}

// What a stay that lies ahead holds cannot be sold again, whatever its agent says of it.
func TestNightsOfAStayAheadAreSoldOnce(t *testing.T) {
	w := newWorld(t)
	a, b, h := w.key("bookings:write"), w.key("bookings:write"), w.host(hostOne)
	id := a.book(7)
	h.do("POST", hostPath(hostOne, "/"+id+"/confirm"), nil).want(200)
	for _, status := range []string{"completed", "no_show"} {
		a.do("PUT", statusPath(id), map[string]any{"status": status}).refused(409, "too_early")
		b.do("POST", bookings, stay(7)).refused(409, "dates_taken")
	}
}

func moment(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return at
}
