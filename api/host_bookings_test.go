package api_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

func hostPath(h schemas.HostID, rest string) string {
	return "/api/v1/hosts/" + string(h) + "/bookings" + rest
}

func TestAHostAnswersItsRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("bookings:write", "bookings:read"), w.host(hostOne)
	act := func(id, name string, body any, headers ...string) reply {
		return h.do("POST", hostPath(hostOne, "/"+id+"/"+name), body, headers...)
	}
	stays := a.book(7)
	r := act(stays, "confirm", nil).want(200).is("data.booking_id", stays, "data.old_status", "pending", "data.new_status", "confirmed", "data.version", 3)
	if r.header.Get("ETag") != `"3"` {
		t.Errorf("ETag %s", r.header.Get("ETag"))
	}
	before := w.outbox()
	act(stays, "confirm", nil).want(200).is("data.old_status", "confirmed", "data.version", 3)
	act(stays, "decline", nil).refused(409, "illegal_status").is("current_status", "confirmed", "version", 3)
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows without a change", n)
	}
	w.travel(9)
	act(stays, "complete", map[string]any{}).want(200).is("data.new_status", "completed", "data.version", 4)
	act(stays, "no-show", nil).refused(409, "illegal_status").is("current_status", "completed")
	act(stays, "cancel", nil).refused(409, "illegal_status")

	w.travel(0)
	declined, absent, cancelled := a.book(10), a.book(13), a.book(16)
	act(declined, "decline", nil).want(200).is("data.new_status", "cancelled")
	act(declined, "decline", nil).want(200).is("data.old_status", "cancelled", "data.version", 3)
	act(declined, "confirm", nil).refused(409, "illegal_status")
	a.do("GET", statusPath(declined), nil).want(200).is("data.cancellation_reason", "declined by the host")
	act(absent, "no-show", nil).refused(409, "illegal_status").is("current_status", "pending")
	act(absent, "confirm", nil).want(200)
	w.travel(13)
	act(absent, "no-show", nil).want(200).is("data.new_status", "no_show")
	w.travel(0)
	act(cancelled, "confirm", map[string]any{"version": 2}).want(200)
	act(cancelled, "cancel", map[string]any{"reason": "a burst pipe"}, "If-Match", `"2"`).refused(409, "version_mismatch").is("version", 3)
	act(cancelled, "cancel", map[string]any{"reason": "a burst pipe"}, "If-Match", `"3"`).want(200)
	h.do("GET", hostPath(hostOne, "/"+cancelled), nil).want(200).is("data.status", "cancelled", "data.cancellation_reason", "a burst pipe")
	a.book(10) // its dates are free again
}

// The event of a host's answer is that of the agent's, but for who did it.
func TestTheHostsAnswerMakesTheEventOfTheAgents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("bookings:write", "bookings:confirm"), w.host(hostOne)
	one, two := a.book(7), a.book(10)
	a.do("PUT", statusPath(one), map[string]any{"status": "confirmed"}).want(200)
	h.do("POST", hostPath(hostOne, "/"+two+"/confirm"), nil).want(200)
	event := func(id string) (e schemas.Event) {
		var raw []byte
		if err := w.sql.QueryRow(t.Context(), `select value from outbox where key = $1 order by id desc limit 1`, id).Scan(&raw); err != nil {
			t.Fatal(err)
		}
		e, err := schemas.Decode[schemas.Event](raw)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	byAgent, byHost := event(one), event(two)
	if byAgent.Type != byHost.Type || byAgent.Version != byHost.Version || byAgent.PreviousStatus != byHost.PreviousStatus ||
		!slices.Equal(byAgent.Changed, byHost.Changed) || byHost.Booking.AgentID != a.agent {
		t.Errorf("%+v\nis of another form than\n%+v", byHost, byAgent)
	}
	if byHost.Actor != (schemas.Actor{Kind: schemas.ActorHost, ID: string(hostOne)}) {
		t.Errorf("done by %+v", byHost.Actor)
	}
}

func TestAHostsBookingsAreItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, one, two := w.key("bookings:write"), w.host(hostOne), w.host(hostTwo)
	id := a.book(7)
	before := w.outbox()
	for _, action := range []string{"confirm", "decline", "cancel", "complete", "no-show"} {
		two.do("POST", hostPath(hostTwo, "/"+id+"/"+action), nil).refused(404, "booking_not_found")
		two.do("POST", hostPath(hostOne, "/"+id+"/"+action), nil).refused(403, "not_your_host")
		one.do("POST", hostPath(hostOne, "/bkg_none/"+action), nil).refused(404, "booking_not_found")
		for _, odd := range []string{"[]", "{", `{"status":"confirmed"}`, `{"version":0}`, `{"reason":"` + strings.Repeat("x", 501) + `"}`, " "} {
			one.do("POST", hostPath(hostOne, "/"+id+"/"+action), odd).want(422)
		}
	}
	two.do("GET", hostPath(hostTwo, "/"+id), nil).refused(404, "booking_not_found")
	two.do("GET", hostPath(hostTwo, ""), nil).want(200).is("data.total_count", 0)
	two.do("GET", hostPath(hostTwo, "?property_id="+home), nil).want(200).is("data.total_count", 0)
	one.do("GET", hostPath(hostOne, "/"+id), nil).want(200).is("data.id", id, "data.status", "pending", "data.version", 2)
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestAHostsBookingsAreFoundByEveryFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("bookings:write"), w.host(hostOne)
	w.property("prop_second", hostOne, "Dubai", 42500)
	first, second := a.book(7), a.book(10)
	third := a.do("POST", bookings, with(stay(10), "property_id", "prop_second")).want(200).text("data.booking_id")
	h.do("POST", hostPath(hostOne, "/"+second+"/confirm"), nil).want(200)
	w.exec(`update bookings set created_at = '2026-01-01T00:00:00Z' where id = $1`, first)
	w.exec(`update bookings set created_at = '2026-01-02T00:00:00Z' where id = $1`, second)
	w.exec(`update bookings set created_at = '2026-01-02T00:00:00Z' where id = $1`, third) // ids decide
	for q, want := range map[string][]string{
		"":                                     {third, second, first},
		"status=pending":                       {third, first},
		"status=confirmed":                     {second},
		"status=no_show":                       {},
		"property_id=prop_second":              {third},
		"property_id=prop_none":                {},
		"from=" + day(9):                       {third, second}, // the day of departure does not belong to a stay
		"from=" + day(8):                       {third, second, first},
		"to=" + day(9):                         {first},
		"to=" + day(10):                        {third, second, first},
		"from=" + day(8) + "&to=" + day(8):     {first},
		"created_from=2026-01-02T00:00:00Z":    {third, second},
		"created_to=2026-01-02T00:00:00Z":      {first},
		"status=pending&created_to=2026-01-02": nil,
		"created_from=2026-01-02T04:00:00%2B04:00&status=confirmed": {second},
	} {
		r := h.do("GET", hostPath(hostOne, "?"+q), nil)
		if want == nil {
			r.want(422)
			continue
		}
		r.want(200).is("data.total_count", len(want), "data.returned_count", len(want), "data.has_more", false)
		got := []string{}
		for _, b := range r.get("data.bookings").([]any) {
			got = append(got, b.(map[string]any)["id"].(string))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s found %v, want %v", q, got, want)
		}
	}
}

func TestAHostsBookingsComeInPagesThatMissNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("bookings:write"), w.host(hostOne)
	var want []string
	for n := range 7 {
		want = append(want, a.book(7+2*n))
	}
	w.exec(`update bookings set created_at = '2026-01-01T00:00:00.123456Z'`) // then the order is that of the ids
	slices.Sort(want)
	slices.Reverse(want)
	var got []string
	for at, pages := "", 0; ; pages++ {
		r := h.do("GET", hostPath(hostOne, "?limit=3"+at), nil).want(200).is("data.total_count", 7+pages)
		for _, b := range r.get("data.bookings").([]any) {
			got = append(got, b.(map[string]any)["id"].(string))
		}
		if r.get("data.has_more") != true {
			r.is("data.pagination.next_cursor", nil, "data.pagination.next_offset", nil)
			break
		}
		at = "&cursor=" + r.text("data.pagination.next_cursor")
		a.book(30 + 2*pages) // what comes in meanwhile moves nothing
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages have %v, want %v", got, want)
	}
	h.do("GET", hostPath(hostOne, "?limit=3&offset=3"), nil).want(200).is("data.pagination.next_offset", 6, "data.returned_count", 3)
	h.do("GET", hostPath(hostOne, "?offset=100"), nil).want(200).is("data.pagination.next_offset", nil, "data.returned_count", 0)
}

func TestAHostsListRefusesWhatItCannotMean(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.host(hostOne)
	cursor := func(s string) string { return url.QueryEscape(base64.RawURLEncoding.EncodeToString([]byte(s))) }
	good := cursor("1767225600000000.bkg_1")
	h.do("GET", hostPath(hostOne, "?cursor="+good), nil).want(200)
	for q, field := range map[string]string{
		"status=gone": "status", "from=2027-02-30": "from", "from=2027-01-02&to=2027-01-01": "to", "limit=101": "limit", "limit=0": "limit", "offset=-1": "offset",
		"created_from=yesterday": "created_from", "created_from=2027-01-02T00:00:00Z&created_to=2027-01-01T00:00:00Z": "created_to",
		"cursor=x": "cursor", "cursor=" + cursor("1.a"): "cursor", "cursor=" + cursor("1767225600000000."): "cursor", "cursor=" + cursor("a.b"): "cursor",
		"cursor=" + cursor("99999999999999999999.a"): "cursor", "cursor=" + cursor("1767225600000000.\x00"): "cursor", "cursor=" + good + "&offset=1": "cursor",
		"cursor=" + good + "%3D": "cursor", "property_id=%00": "property_id",
	} {
		if got := h.do("GET", hostPath(hostOne, "?"+q), nil).want(422).fields(); got[field] == "" {
			t.Errorf("%s: %v, want %s", q, got, field)
		}
	}
}

func TestABookingThatTheCallerHasIsNotSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("bookings:write", "bookings:read", "bookings:confirm"), w.host(hostOne)
	id := a.book(7)
	for _, get := range []func(...string) reply{
		func(headers ...string) reply { return a.do("GET", statusPath(id), nil, headers...) },
		func(headers ...string) reply { return h.do("GET", hostPath(hostOne, "/"+id), nil, headers...) },
	} {
		tag := get().want(200).header.Get("ETag")
		for _, have := range []string{tag, "W/" + tag, `"1", ` + tag, "*"} {
			if r := get("If-None-Match", have).want(304); len(r.body) != 0 || r.header.Get("ETag") != tag {
				t.Errorf("%s: %d bytes, ETag %s", have, len(r.body), r.header.Get("ETag"))
			}
		}
		for _, have := range []string{`"1"`, "2", `""`, fmt.Sprintf("%q", tag), ""} {
			get("If-None-Match", have).want(200)
		}
	}
	a.do("PUT", statusPath(id), map[string]any{"status": "confirmed"}, "If-None-Match", "*").want(200) // a change has no such header
	a.do("GET", statusPath(id), nil, "If-None-Match", `"2"`).want(200).is("data.version", 3)
	a.do("GET", statusPath("bkg_none"), nil, "If-None-Match", "*").want(404)
}

func TestARequestThatRanOutIsNotConfirmedByItsHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.host(hostOne)
	id := w.key("bookings:write").book(7)
	w.exec(`update bookings set expires_at = $1`, time.Now().Add(-time.Second))
	h.do("POST", hostPath(hostOne, "/"+id+"/confirm"), nil).refused(409, "booking_expired").is("current_status", "pending")
	h.do("POST", hostPath(hostOne, "/"+id+"/decline"), nil).want(200).is("data.new_status", "cancelled")
}
