package api_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/encoding/json"
)

const bookings = "/api/v1/bookings"

func TestABookingIsCreatedPending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write", "bookings:read")
	r := a.do("POST", bookings, stay(7)).want(200).is(
		"success", true, "data.status", "pending", "data.version", 2, "data.property.id", home, "data.property.address", "1 Marina Walk, Dubai, Dubai",
		"data.dates.check_in", day(7), "data.dates.nights", 2, "data.guest_info.first_name", "Test", "data.guest_info.email", "test.user+a@example.com",
		"data.total_amount", 950, "data.currency", "AED", "data.payment.method", "pending", "data.payment.status", "pending",
		"data.payment.payment_intent_id", "<nil>", "data.cancellation_policy", "moderate", "data.host_contact.response_time", "within 24 hours",
	)
	if n := len(r.get("data.next_steps").([]any)); n != 4 {
		t.Errorf("%d next steps, want 4", n)
	}
	if !strings.Contains(string(r.body), `"total_amount":950.00`) || !strings.HasSuffix(r.text("data.expires_at"), "Z") {
		t.Errorf("money or time of another form: %s", r.body)
	}
	if n := w.outbox(); n != 2 {
		t.Errorf("%d outbox rows, want booking.created and host.response_needed", n)
	}
	id := r.text("data.booking_id")
	s := a.do("GET", statusPath(id), nil).want(200).is(
		"data.booking_id", id, "data.status", "pending", "data.confirmed_at", nil, "data.total_amount", 950, "data.nights", 2, "data.guests", 2,
		"data.guest_name", "Test User", "data.guest_email", "test.user+a@example.com", "data.property.address", "1 Marina Walk, Dubai, Dubai",
		"data.host_id", hostOne, "data.version", 2,
	)
	if got := s.header.Get("ETag"); got != `"2"` {
		t.Errorf("ETag %s, want the version", got)
	}
}

func TestDefaultsStandInForWhatABookingLeavesOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := stay(7)
	delete(b, "payment_method")
	delete(b, "special_requests")
	delete(b, "source")
	delete(b["guest_info"].(map[string]any), "country_code")
	w.key("bookings:write").do("POST", bookings, b).want(200).is("data.payment.method", "pending", "data.guest_info.country_code", "+971", "data.special_requests", nil)
}

func TestEverythingWrongWithABookingIsToldAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	got := a.do("POST", bookings, map[string]any{
		"check_in": "2026-02-30", "check_out": 5, "guests": 51, "total_amount": json.Number("0"), "payment_method": "gold\nbars", "colour": "red",
		"guest_info":       map[string]any{"first_name": "", "last_name": strings.Repeat("ü", 51), "email": "Me <a@b.example>", "phone": "no", "nick": 1},
		"special_requests": strings.Repeat("é", 501),
	}).refused(422, "invalid_request").fields()
	want := map[string]string{
		"property_id": "required", "check_in": "format", "check_out": "type", "guests": "range", "total_amount": "range", "payment_method": "format",
		"colour": "unknown", "guest_info.first_name": "length", "guest_info.last_name": "length", "guest_info.email": "format",
		"guest_info.phone": "length", "guest_info.nick": "unknown", "special_requests": "length",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	a.do("POST", bookings, with(stay(7), "special_requests", strings.Repeat("é", 500), "check_in", day(8), "check_out", day(8))).want(422).is("errors.0.field", "check_out", "errors.0.rule", "after")
	if n := w.outbox(); n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestNumbersAreTakenExactly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	for amount, rule := range map[string]string{"950.001": "format", "-1": "range", "1e999999999": "format", "10000000.01": "range", `"950.00"`: "type", "true": "type"} {
		if got := a.do("POST", bookings, with(stay(7), "total_amount", json.RawMessage(amount))).want(422).fields(); got["total_amount"] != rule {
			t.Errorf("total_amount %s: %v, want %s", amount, got, rule)
		}
	}
	for _, guests := range []string{"1.5", `"2"`, "15e-1", "99999999999999999999"} {
		if got := a.do("POST", bookings, with(stay(7), "guests", json.RawMessage(guests))).want(422).fields(); got["guests"] != "type" {
			t.Errorf("guests %s: %v", guests, got)
		}
	}
	a.do("POST", bookings, with(stay(7), "total_amount", json.RawMessage("9.5e2"))).want(200)
}

func TestTheRulesOfAStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	w.exec(`update properties set minimum_nights = 2, maximum_nights = 5, available_to = $1::text::date where id = $2`, day(60), home)
	for code, b := range map[string]map[string]any{
		"check_in_past":          stay(-3),
		"check_in_too_far":       stay(732),
		"too_few_nights":         with(stay(7), "check_out", day(8)),
		"too_many_nights":        with(stay(7), "check_out", day(14)),
		"too_many_guests":        with(stay(7), "guests", 5),
		"not_available_any_more": stay(59),
	} {
		a.do("POST", bookings, b).refused(400, code)
	}
	w.exec(`update properties set available_from = $1::text::date`, day(8))
	a.do("POST", bookings, stay(7)).refused(400, "not_available_yet").is("errors.0.field", "check_in")
	a.do("POST", bookings, with(stay(7), "property_id", "prop_none")).refused(404, "property_not_found")
	w.exec(`update properties set status = 'inactive'`)
	a.do("POST", bookings, stay(7)).refused(404, "property_not_found")
	if n := w.outbox(); n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestAWrongPriceIsAnsweredWithTheRightOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.key("bookings:write").do("POST", bookings, with(stay(7), "total_amount", 949.99)).refused(400, "price_mismatch").
		is("expected_amount", 950, "currency", "AED", "errors.0.field", "total_amount", "breakdown.0.amount", 850, "breakdown.0.type", "base")
	sum := 0.0
	for _, l := range r.get("breakdown").([]any) {
		sum += l.(map[string]any)["amount"].(float64)
	}
	if sum != 950 {
		t.Errorf("the lines of the breakdown make %v, want 950", sum)
	}
}

func TestTodayIsThePropertys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	for _, zone := range []string{"Pacific/Kiritimati", "Etc/GMT+12"} { // 26 hours apart: never the same day
		w.exec(`update properties set time_zone = $1`, zone)
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		today := time.Now().In(loc)
		at := func(n int) string { return today.AddDate(0, 0, n).Format(time.DateOnly) }
		a.do("POST", bookings, with(stay(0), "check_in", at(-1), "check_out", at(1))).refused(400, "check_in_past")
		a.do("POST", bookings, with(stay(0), "check_in", at(0), "check_out", at(2))).want(200)
		w.exec(`delete from bookings`)
	}
}

func TestTheSameRequestAgainIsTheSameBooking(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.key("bookings:write"), w.key("bookings:write")
	first := a.do("POST", bookings, stay(7)).want(200)
	again := stay(7)
	again["guest_info"].(map[string]any)["email"] = "TEST.user+a@example.com"
	second := a.do("POST", bookings, again).want(200)
	if first.text("data.booking_id") != second.text("data.booking_id") || !strings.Contains(second.text("message"), "already") {
		t.Errorf("not told as the same: %s", second.body)
	}
	if n := w.outbox(); n != 2 {
		t.Errorf("%d outbox rows, want those of one booking", n)
	}
	b.do("POST", bookings, stay(7)).refused(409, "dates_taken").is("conflict.check_in", day(7))
	a.do("POST", bookings, with(stay(7), "guests", 1)).refused(409, "dates_taken")
	a.do("POST", bookings, stay(8)).refused(409, "dates_taken")
	a.do("POST", bookings, stay(9)).want(200) // the day of departure is free
}

func TestARepeatedBookingIsNotJudgedByTodaysRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.key("bookings:write"), w.key("bookings:write")
	id := a.book(7)
	repeated := func(body map[string]any) {
		t.Helper()
		if r := a.do("POST", bookings, body).want(200).is("data.booking_id", id); !strings.Contains(r.text("message"), "already") {
			t.Errorf("not told as the same: %s", r.body)
		}
	}
	w.exec(`update properties set price_per_night = 1, minimum_nights = 5, max_guests = 1`)
	repeated(stay(7))
	w.exec(`update bookings set status = 'confirmed', expires_at = null`)
	repeated(stay(7))
	w.exec(`update properties set status = 'inactive'`)
	repeated(stay(7))
	w.exec(`update properties set status = 'active'`)
	w.exec(`update bookings set check_in = $1::text::date, check_out = $2::text::date`, day(-3), day(-1))
	repeated(stay(-3))

	a.do("POST", bookings, with(stay(-3), "total_amount", 951)).want(400) // another stay, and judged
	b.do("POST", bookings, stay(-3)).want(400)
	w.exec(`update bookings set status = 'cancelled'`)
	a.do("POST", bookings, stay(-3)).refused(400, "check_in_past")
	w.exec(`update bookings set status = 'pending', expires_at = now() - interval '1 second'`)
	a.do("POST", bookings, stay(-3)).refused(400, "check_in_past")
	if n := w.outbox(); n != 2 {
		t.Errorf("%d outbox rows, want those of one booking", n)
	}
}

func TestOfManyWhoWantTheSameNightsOneWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const racers = 64
	agents := make([]client, racers)
	for i := range agents {
		agents[i] = w.key("bookings:write")
	}
	statuses := make([]int, racers)
	var wg sync.WaitGroup
	for i, a := range agents {
		wg.Go(func() {
			r, err := a.send("POST", bookings, stay(7+i%2)) // overlapping, not equal
			if err != nil {
				t.Error(err)
			}
			statuses[i] = r.status
		})
	}
	wg.Wait()
	won := 0
	for _, s := range statuses {
		switch s {
		case 200:
			won++
		case 409:
		default:
			t.Errorf("answered %d", s)
		}
	}
	if won != 1 || w.count(`select count(*) from bookings`) != 1 || w.outbox() != 2 {
		t.Errorf("%d won, %d bookings, %d outbox rows", won, w.count(`select count(*) from bookings`), w.outbox())
	}
}

func TestAnIdempotencyKeyAnswersTheSameOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.key("bookings:write"), w.key("bookings:write")
	const racers = 32
	bodies := make([]string, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			r, err := a.send("POST", bookings, stay(7), "Idempotency-Key", "k1")
			if err != nil || r.status != 200 {
				t.Errorf("answered %d, %v: %s", r.status, err, r.body)
			}
			bodies[i] = string(r.body)
		})
	}
	wg.Wait()
	if all := slices.Compact(bodies); len(all) != 1 {
		t.Errorf("%d different answers to one key", len(all))
	}
	if n := w.count(`select count(*) from bookings`); n != 1 {
		t.Errorf("%d bookings, want 1", n)
	}
	a.do("POST", bookings, stay(20), "Idempotency-Key", "k1").refused(422, "idempotency_key_reused")
	b.do("POST", bookings, stay(20), "Idempotency-Key", "k1").want(200) // another caller's key is another key
	for _, k := range []string{"", "with blank", strings.Repeat("k", 256), "ü"} {
		a.do("POST", bookings, stay(30), "Idempotency-Key", k).refused(422, "invalid_idempotency_key")
	}
	a.do("POST", bookings, stay(7), "Idempotency-Key", strings.Repeat("k", 255)).want(200)
}

func TestARefusedRequestDoesNotUseItsKeyUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	body := stay(7)
	w.exec(`update properties set status = 'inactive'`)
	a.do("POST", bookings, body, "Idempotency-Key", "k").want(404)
	w.exec(`update properties set status = 'active'`)
	a.do("POST", bookings, body, "Idempotency-Key", "k").want(200)
}

func TestABookingMovesThroughItsStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write", "bookings:read", "bookings:confirm")
	id := a.book(7)
	put := func(status string, headers ...string) reply {
		return a.do("PUT", statusPath(id), map[string]any{"status": status}, headers...)
	}
	r := put("confirmed").want(200).is("data.booking_id", id, "data.old_status", "pending", "data.new_status", "confirmed", "data.host_id", hostOne,
		"data.property_title", "Home "+home, "data.version", 3)
	if r.header.Get("ETag") != `"3"` || !strings.HasSuffix(r.text("data.updated_at"), "Z") {
		t.Errorf("ETag %s, updated_at %s", r.header.Get("ETag"), r.text("data.updated_at"))
	}
	before := w.outbox()
	put("confirmed").want(200).is("data.old_status", "confirmed", "data.new_status", "confirmed", "data.version", 3)
	if after := w.outbox(); after != before {
		t.Errorf("the same status again made %d outbox rows", after-before)
	}
	put("pending").refused(409, "illegal_status").is("current_status", "confirmed", "version", 3)
	put("gone").refused(400, "invalid_status").is("allowed_values.0", "confirmed", "errors.0.field", "status")
	w.travel(7)
	put("no_show").want(200)
	put("cancelled").refused(409, "illegal_status").is("current_status", "no_show")
	if got := a.do("GET", statusPath(id), nil).want(200).is("data.status", "no_show").get("data.confirmed_at"); got == nil {
		t.Error("confirmed_at is null after a confirmation")
	}
	if n := w.outbox(); n != before+1 {
		t.Errorf("%d more outbox rows, want one", n-before)
	}
}

func TestAChangeMayDependOnTheVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write", "bookings:confirm")
	path := statusPath(a.book(7))
	confirm := map[string]any{"status": "confirmed", "note": "unknown members are taken here"}
	a.do("PUT", path, confirm, "If-Match", `"1"`).refused(409, "version_mismatch").is("version", 2, "current_status", "pending")
	a.do("PUT", path, with(confirm, "version", 7)).refused(409, "version_mismatch")
	a.do("PUT", path, with(confirm, "version", 2), "If-Match", `"1"`).refused(422, "invalid_if_match")
	for _, odd := range []string{"two", `W/"2"`, `"2", "3"`, `""2""`} {
		a.do("PUT", path, map[string]any{"status": "confirmed"}, "If-Match", odd).refused(422, "invalid_if_match")
	}
	a.do("PUT", path, confirm, "If-Match", `"2"`).want(200)
	a.do("PUT", path, map[string]any{"status": "cancelled", "reason": strings.Repeat("x", 501)}).want(422).is("errors.0.field", "reason")
	a.do("PUT", path, map[string]any{}).want(422).is("errors.0.rule", "required")
	a.do("PUT", path, map[string]any{"status": "cancelled", "reason": "ill"}, "If-Match", "*").want(200)
}

func TestARequestThatRanOutCannotBeConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.key("bookings:write", "bookings:read", "bookings:confirm"), w.key("bookings:write")
	id := a.book(7)
	w.exec(`update bookings set expires_at = now() - interval '1 second'`)
	a.do("PUT", statusPath(id), map[string]any{"status": "confirmed"}).refused(409, "booking_expired").is("current_status", "pending")
	a.do("GET", "/api/v1/external/hosts/host_one/pending-bookings", nil).want(200).is("data.total_count", 0)
	b.book(7) // its dates are free again
	a.do("GET", statusPath(id), nil).want(200).is("data.status", "cancelled", "data.cancellation_reason", "expired")
}

func TestPendingBookingsAreListedInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, other := w.key("bookings:write", "bookings:read"), w.key("bookings:read")
	platform := w.key("platform", "bookings:read")
	for n := range 3 {
		a.book(7 + 3*n)
	}
	const path = "/api/v1/external/hosts/host_one/pending-bookings"
	a.do("GET", path+"?limit=2", nil).want(200).is("data.returned_count", 2, "data.total_count", 3, "data.has_more", true, "data.host_id", hostOne,
		"data.pagination.next_offset", 2, "data.bookings.0.check_in", day(13), "data.bookings.0.guest_phone", "+971501234567", "data.bookings.0.nights", 2,
		"data.bookings.0.property_title", "Home "+home, "data.bookings.0.special_requests", "A quiet room")
	a.do("GET", path+"?limit=2&offset=2", nil).want(200).is("data.returned_count", 1, "data.has_more", false, "data.pagination.next_offset", nil)
	other.do("GET", path, nil).want(200).is("data.total_count", 0, "data.bookings", "[]")
	platform.do("GET", path, nil).want(200).is("data.total_count", 3)
	a.do("GET", "/api/v1/external/hosts/nobody/pending-bookings", nil).want(200).is("data.total_count", 0)
	got := a.do("GET", path+"?limit=101&offset=-1&offset=-1", nil).refused(422, "invalid_request").fields()
	if d := cmp.Diff(map[string]string{"limit": "range", "offset": "duplicate"}, got); d != "" {
		t.Error(d)
	}
}

// Names that are no names do not slip through, and pages take whatever stands behind
// their links.
func TestOddParametersAreRefusedWhereSomethingIsAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("admin"), w.host(hostOne)
	const extra = "&utm_source=x&utm_source=y&=z&limit%00=0&Limit=-1&caf%ff=%00"
	for _, path := range []string{
		"/api/v1/properties/search?limit=1", "/api/v1/properties/" + home + "?a=b", "/api/v1/external/hosts/host_one/pending-bookings?limit=1",
		hooksPath + "?limit=1", "/api/v1/external/webhooks/statistics?a=b",
	} {
		got := a.do("GET", path+extra, nil).refused(422, "invalid_request").fields()
		for _, name := range []string{"utm_source", "", "limit\x00", "Limit", "caf\uFFFD"} {
			if got[name] != "unknown" {
				t.Errorf("%s: %q is not named in %v", path, name, got)
			}
		}
	}
	h.do("GET", inbox(hostOne)+"?limit=1&limit=1", nil).want(422).is("errors.0.field", "limit", "errors.0.rule", "duplicate")
	for _, path := range []string{"/api/health", "/api/openapi.json", "/api/asyncapi.json", "/llms.txt", "/docs/", "/dashboard/", "/api/schemas/v1/booking-event.json"} {
		client{w: w}.do("GET", path+"?a=b"+extra, nil).want(200)
	}
}

func TestABookingTakesWhatTheFirstAPITook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	b := with(stay(7), "payment_method", strings.Repeat("ü", 50))
	b["guest_info"].(map[string]any)["country_code"] = "971"
	a.do("POST", bookings, b).want(200).is("data.payment.method", strings.Repeat("ü", 50), "data.guest_info.country_code", "+971")
	if got := w.count(`select count(*) from bookings where guest_country_code = '+971'`); got != 1 {
		t.Error("the country code is stored without its +")
	}
	a.do("POST", bookings, with(stay(20), "payment_method", strings.Repeat("x", 51))).want(422).is("errors.0.field", "payment_method", "errors.0.rule", "length")
	for _, odd := range []string{"", "+", "++971", "97 1", "12345", "-971"} {
		b := stay(20)
		b["guest_info"].(map[string]any)["country_code"] = odd
		a.do("POST", bookings, b).want(422).is("errors.0.field", "guest_info.country_code")
	}
}

func TestAGuestsPhoneIsKeptInOneForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	guest := func(n int, country, number string) map[string]any {
		b := stay(n)
		g := b["guest_info"].(map[string]any)
		g["phone"] = number
		if delete(g, "country_code"); country != "" {
			g["country_code"] = country
		}
		return b
	}
	for i, c := range [][4]string{
		{"+971", "501234567", "+971", "501234567"},
		{"", "050 123 4567", "+971", "501234567"},
		{"971", "+971 (50) 123-45.67", "+971", "501234567"},
		{"+971", "00971501234567", "+971", "501234567"},
		{"", "+44 20 7946 0958", "+44", "2079460958"},
		{"+44", "020 7946 0958", "+44", "2079460958"},
		{"+1", "(202) 555-0123", "+1", "2025550123"},
		{"+1", "416-555-0123", "+1", "4165550123"}, // +1 is of more than one country
		{"+39", "06 6982", "+39", "066982"},        // where the zero belongs to the number
	} {
		a.do("POST", bookings, guest(7+2*i, c[0], c[1])).want(200).is("data.guest_info.country_code", c[2], "data.guest_info.phone", c[3])
	}
	for _, c := range [][3]string{
		{"+971", "123", "phone"},
		{"+971", "5012345678901", "phone"},
		{"+971", "000000000", "phone"},
		{"+971", "+44 20 7946 0958", "phone"},
		{"+971", "call me", "phone"},
		{"", "+999 123456", "phone"},
		{"+999", "501234567", "country_code"},
		{"+0", "501234567", "country_code"},
	} {
		if got := a.do("POST", bookings, guest(40, c[0], c[1])).refused(422, "invalid_request").fields(); got["guest_info."+c[2]] != "format" {
			t.Errorf("%v: %v", c, got)
		}
	}
}

func TestPropertiesAreFoundByEveryFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:read", "bookings:write")
	w.property("prop_cheap", hostTwo, "Dubai", 10000)
	w.property("prop_far", hostTwo, "Abu_Dhabi", 30000)
	w.exec(`update properties set latitude = 24.45, longitude = 54.37, bedrooms = 4, max_guests = 8, property_type = 'villa' where id = 'prop_far'`)
	w.property("prop_off", hostTwo, "Dubai", 1)
	w.exec(`update properties set status = 'draft' where id = 'prop_off'`)
	a.book(7)
	for q, want := range map[string]string{
		"":                                "prop_cheap prop_far " + home,
		"sort_by=price_desc":              home + " prop_far prop_cheap",
		"city=dubai":                      "prop_cheap " + home,
		"q=abu_d":                         "prop_far",
		"q=%25":                           "",
		"state=Dubai&property_type=villa": "",
		"property_type=Villa":             "prop_far",
		"bedrooms=3":                      "prop_far",
		"bathrooms=2":                     "",
		"max_guests=5":                    "prop_far",
		"min_price_per_night=100.01":      "prop_far " + home,
		"max_price_per_night=300":         "prop_cheap prop_far",
		"latitude=25.1&longitude=55.1":    "prop_cheap " + home,
		"latitude=25.1&longitude=55.1&radius_km=500":   "prop_cheap prop_far " + home,
		"check_in=" + day(8) + "&check_out=" + day(12): "prop_cheap prop_far",
		"check_in=" + day(9) + "&check_out=" + day(12): "prop_cheap prop_far " + home,
		"limit=1&offset=1": "prop_far",
	} {
		var ids []string
		for _, p := range a.do("GET", "/api/v1/properties/search?"+q, nil).want(200).get("data.properties").([]any) {
			ids = append(ids, p.(map[string]any)["id"].(string))
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s found %q, want %q", q, got, want)
		}
	}
	a.do("GET", "/api/v1/properties/search?city=Dubai&limit=1", nil).want(200).is("data.total_count", 2, "data.has_more", true,
		"data.properties.0.base_price_per_night", 100, "data.search_metadata.city", "Dubai", "data.search_metadata.next_offset", 1)
	a.do("GET", "/api/v1/properties/"+home, nil).want(200).is("data.id", home, "data.cleaning_fee", 44.5, "data.service_fee_percent", 3, "data.tax_per_night", 15)
	a.do("GET", "/api/v1/properties/prop_off", nil).refused(404, "property_not_found")
}

func TestASearchRefusesWhatItCannotMean(t *testing.T) {
	t.Parallel()
	a := newWorld(t).key("bookings:read")
	for q, field := range map[string]string{
		"limit=51": "limit", "limit=ten": "limit", "latitude=91&longitude=1": "latitude", "latitude=NaN&longitude=1": "latitude", "latitude=1": "longitude",
		"radius_km=3": "radius_km", "check_in=2027-01-01": "check_out", "check_in=2027-01-02&check_out=2027-01-02": "check_out", "check_in=tomorrow&check_out=2027-01-01": "check_in",
		"sort_by=rating": "sort_by", "min_price_per_night=5&max_price_per_night=4": "max_price_per_night", "min_price_per_night=1.001": "min_price_per_night",
		"city=%00": "city", "city=%ff": "city", "city=a&city=b": "city", "max_guests=0": "max_guests",
	} {
		if got := a.do("GET", "/api/v1/properties/search?"+q, nil).want(http.StatusUnprocessableEntity).fields(); got[field] == "" {
			t.Errorf("%s: %v, want %s", q, got, field)
		}
	}
	a.do("GET", "/api/v1/properties/search?city=%zz", nil).refused(422, "invalid_query")
}

func TestGuestMayHaveOneName(t *testing.T) {
	w := newWorld(t)
	a := w.key("bookings:write", "bookings:read")
	for i, c := range []struct {
		given map[string]any
		first string
		last  any
		name  string
	}{
		{map[string]any{"first_name": "Sukarno"}, "Sukarno", "", "Sukarno"},
		{map[string]any{"first_name": "\u674e", "last_name": ""}, "\u674e", "", "\u674e"},
		{map[string]any{"first_name": "Teller", "last_name": "  "}, "Teller", "", "Teller"},
		{map[string]any{"first_name": "Andre\u0301", "last_name": "N."}, "Andr\u00e9", "N.", "Andr\u00e9 N."},
	} {
		b := stay(7 + 2*i)
		g := b["guest_info"].(map[string]any)
		delete(g, "last_name")
		maps.Copy(g, c.given)
		id := a.do("POST", bookings, b).want(200).is("data.guest_info.first_name", c.first, "data.guest_info.last_name", c.last).text("data.booking_id")
		a.do("GET", statusPath(id), nil).want(200).is("data.guest_name", c.name)
		if e := w.events(id)[0]; e.Booking.Guest.LastName != c.last {
			t.Errorf("the event has %+v", e.Booking.Guest)
		}
	}
	for _, name := range []string{"\u200b", "\u3164", "\u202eevil", "\u2060\ufeff"} {
		b := stay(40)
		b["guest_info"].(map[string]any)["first_name"] = name
		if got := a.do("POST", bookings, b).want(422).fields()["guest_info.first_name"]; got == "" {
			t.Errorf("%q is taken", name)
		}
	}
}
