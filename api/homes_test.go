package api_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/schemas"
)

func asked(from, to int) string {
	return "/api/v1/properties/" + home + "/availability?check_in=" + day(from) + "&check_out=" + day(to)
}

func ownHome(h schemas.HostID, id string) string {
	return "/api/v1/hosts/" + string(h) + "/properties/" + id
}

// cottage is a body for a home with a value of its own in every member.
func cottage() map[string]any {
	return map[string]any{
		"title": "A cottage", "property_type": "cottage", "address": "9 Creek Road", "city": "Sharjah", "state": "Sharjah Emirate", "country": "AE",
		"latitude": 25.35, "longitude": 55.4, "bedrooms": 3, "bathrooms": 2, "max_guests": 6, "status": "active", "currency": "USD",
		"base_price_per_night": json.Number("199.99"), "cleaning_fee": json.Number("10.01"), "service_fee_percent": json.Number("12.5"),
		"tax_per_night": json.Number("0"), "minimum_nights": 2, "maximum_nights": 30, "available_from": day(1), "available_to": day(200),
		"time_zone": "Europe/Berlin",
	}
}

func TestAvailabilityGivesReasonsAndOtherDates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, other := w.key("bookings:read", "bookings:write"), w.key("bookings:write")
	a.do("GET", asked(10, 12), nil).want(200).is("data.property_id", home, "data.check_in", day(10), "data.check_out", day(12), "data.guests", 1,
		"data.is_available", true, "data.reasons", "[]", "data.alternative_dates", "[]")
	other.book(10)
	other.book(13)
	r := a.do("GET", asked(11, 13), nil).want(200).is("data.is_available", false, "data.reasons.0", "the property is booked from "+day(10)+" to "+day(12),
		"data.alternative_dates.0.check_in", day(8), "data.alternative_dates.0.check_out", day(10), "data.alternative_dates.0.nights", 2,
		"data.alternative_dates.1.check_in", day(7), "data.alternative_dates.2.check_in", day(15), "data.alternative_dates.3.check_in", day(6))
	if n := len(r.get("data.alternative_dates").([]any)); n != 5 {
		t.Errorf("%d alternatives, want 5", n)
	}
	for _, d := range r.get("data.alternative_dates").([]any) {
		d := d.(map[string]any)
		a.do("POST", bookings, with(stay(0), "check_in", d["check_in"], "check_out", d["check_out"], "guests", 1, "total_amount", 1)).refused(400, "price_mismatch")
	}
	for _, secret := range []string{"bkg_", string(other.agent), "test.user"} {
		if strings.Contains(string(r.body), secret) {
			t.Errorf("it tells more than dates: %s", r.body)
		}
	}
	w.exec(`update bookings set expires_at = now() - interval '1 second'`) // what ran out holds nothing
	a.do("GET", asked(11, 13), nil).want(200).is("data.is_available", true)
}

func TestAvailabilityKnowsTheRulesOfTheHome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("platform", "bookings:read")
	w.exec(`update properties set minimum_nights = 2, maximum_nights = 5, available_from = $1::text::date, available_to = $2::text::date`, day(20), day(30))
	a.do("GET", asked(10, 12), nil).want(200).is("data.reasons.0", "this property is available from "+day(20), "data.alternative_dates.0.check_in", day(20),
		"data.alternative_dates.1.check_in", day(21))
	a.do("GET", asked(400, 403), nil).want(200).is("data.reasons.0", "this property is available until "+day(30), "data.alternative_dates.0.check_out", day(30))
	a.do("GET", asked(900, 903), nil).want(200).is("data.reasons.0", "check_in must be within 730 days", "data.alternative_dates.0.check_out", day(30))
	for q, reason := range map[string]string{
		asked(22, 23):               "this property takes at least 2 nights",
		asked(22, 28):               "this property takes at most 5 nights",
		asked(22, 24) + "&guests=5": "this property takes at most 4 guests",
	} {
		a.do("GET", q, nil).want(200).is("data.is_available", false, "data.reasons.0", reason, "data.alternative_dates", "[]")
	}
	a.do("GET", asked(-3, 2), nil).refused(400, "check_in_past")
	a.do("GET", asked(9, 9), nil).refused(400, "invalid_dates")
	a.do("GET", asked(9, 7), nil).refused(400, "invalid_dates")
	a.do("GET", strings.Replace(asked(9, 11), day(11), "9999-12-31", 1), nil).want(200).is("data.is_available", false, "data.alternative_dates", "[]")
	a.do("GET", "/api/v1/properties/"+home+"/availability", nil).want(422).is("errors.0.field", "check_in", "errors.1.field", "check_out")
	a.do("GET", asked(9, 11)+"&guests=0", nil).want(422).is("errors.0.field", "guests")
	a.do("GET", strings.Replace(asked(9, 11), home, "prop_none", 1), nil).refused(404, "property_not_found")
	w.exec(`update properties set status = 'inactive'`)
	a.do("GET", asked(22, 24), nil).refused(404, "property_not_found") // also for the platform, which may see it
}

func TestAPriceIsWhatABookingCosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:read", "bookings:write")
	w.exec(`update properties set price_per_night = 33333, cleaning_fee = 1, service_fee_bp = 333, tax_per_night = 7, minimum_nights = 2, maximum_nights = 9`)
	path := "/api/v1/properties/" + home + "/calculate-pricing"
	ask := func(from, to int) map[string]any {
		return map[string]any{"check_in": day(from), "check_out": day(to), "guests": 2}
	}
	r := a.do("POST", path, with(ask(7, 10), "promo_code", "krib10")).want(200).is("data.nights", 3, "data.base_price", 999.99, "data.cleaning_fee", 0.01,
		"data.service_fee", 33.3, "data.taxes", 0.21, "data.discount", 0, "data.total_price", 1033.51, "data.currency", "AED", "data.breakdown.3.type", "tax")
	total := json.Number(fmt.Sprint(r.get("data.total_price")))
	if n := w.outbox(); n != 0 {
		t.Errorf("%d outbox rows for a question", n)
	}
	a.do("POST", bookings, with(stay(7), "check_out", day(10), "total_amount", total)).want(200).is("data.total_amount", total)
	a.do("POST", path, ask(7, 10)).want(200) // taken dates have a price too
	for code, body := range map[string]map[string]any{
		"check_in_past": ask(-3, 2), "invalid_dates": ask(9, 8), "too_few_nights": ask(7, 8), "too_many_nights": ask(7, 17), "too_many_guests": with(ask(7, 9), "guests", 5),
	} {
		a.do("POST", path, body).refused(400, code)
	}
	a.do("POST", path, map[string]any{"check_in": "soon", "nights": 3}).want(422)
	a.do("POST", "/api/v1/properties/prop_none/calculate-pricing", ask(7, 9)).refused(404, "property_not_found")
}

func TestAHostPutsAHomeOnTheMarket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("bookings:read", "bookings:write"), w.host("host_new") // whom nobody knows yet
	path := ownHome("host_new", "my-cottage_1")
	first := h.do("PUT", path, cottage()).want(200)
	second := h.do("PUT", path, cottage()).want(200)
	if string(first.body) != string(second.body) {
		t.Errorf("the same again answers\n%s\nand answered\n%s", second.body, first.body)
	}
	for member, want := range cottage() {
		if got := fmt.Sprint(first.get("data." + member)); got != fmt.Sprint(want) && member != "tax_per_night" {
			t.Errorf("%s is %s, want %v", member, got, want)
		}
	}
	a.do("GET", "/api/v1/properties/my-cottage_1", nil).want(200).is("data.host_id", "host_new", "data.tax_per_night", 0)
	b := with(stay(7), "property_id", "my-cottage_1", "total_amount", json.Number("459.99")) // 399.98 + 10.01 + 50.00
	id := a.do("POST", bookings, b).want(200).is("data.currency", "USD").text("data.booking_id")

	h.do("PUT", path, with(cottage(), "status", "inactive", "currency", "EUR", "base_price_per_night", 1, "max_guests", 1, "available_to", nil)).want(200).
		is("data.status", "inactive", "data.available_to", nil)
	a.do("GET", "/api/v1/properties/my-cottage_1", nil).refused(404, "property_not_found")
	a.do("GET", statusPath(id), nil).want(200).is("data.status", "pending", "data.version", 2, "data.total_amount", 459.99, "data.currency", "USD")
	h.do("POST", hostPath("host_new", "/"+id+"/confirm"), nil).want(200)
	if n := w.outbox(); n != 3 {
		t.Errorf("%d outbox rows, want those of the booking", n)
	}
}

func TestAHomeOfDefaultsCostsWhatTheContractSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := map[string]any{
		"title": "A flat", "property_type": "flat", "address": "1 Marina Walk", "city": "Dubai", "state": "Dubai", "country": "AE", "bedrooms": 0, "bathrooms": 1,
		"max_guests": 2, "currency": "AED", "base_price_per_night": 100,
	}
	w.host(hostOne).do("PUT", ownHome(hostOne, "flat"), body).want(200).is("data.status", "active", "data.cleaning_fee", 75, "data.service_fee_percent", 3,
		"data.tax_per_night", 15, "data.minimum_nights", 1, "data.maximum_nights", 365, "data.latitude", nil, "data.time_zone", "Asia/Dubai")
}

func TestAHostTouchesNoHomeOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	two := w.host(hostTwo)
	for _, status := range []string{"active", "inactive", "draft", "suspended"} { // also those that it cannot see
		w.exec(`update properties set status = $1`, status)
		two.do("PUT", ownHome(hostTwo, home), cottage()).refused(404, "property_not_found")
		two.do("PUT", ownHome(hostOne, home), cottage()).refused(403, "not_your_host")
	}
	if n := w.count(`select count(*) from properties where title = 'Home prop_dubai' and host_id = 'host_one'`); n != 1 {
		t.Error("the home has changed")
	}
	w.host(hostOne).do("PUT", ownHome(hostOne, home), cottage()).refused(409, "property_suspended")
}

func TestAHostReadsItsHomesOfEveryStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h, other, a := w.host(hostOne), w.host(hostTwo), w.key("bookings:read")
	statuses := map[string]string{"draft": "draft", "off": "inactive", "live": "active", "held": "active"}
	for _, id := range []string{"draft", "off", "live", "held"} {
		h.do("PUT", ownHome(hostOne, id), with(cottage(), "status", statuses[id])).want(200).is("data.status", statuses[id])
	}
	w.exec(`update properties set status = 'suspended' where id = 'held'`)
	other.do("PUT", ownHome(hostTwo, "theirs"), cottage()).want(200)
	list := func(query string) (ids string) {
		t.Helper()
		r := h.do("GET", "/api/v1/hosts/host_one/properties"+query, nil).want(200)
		for _, p := range r.get("data.properties").([]any) {
			ids += p.(map[string]any)["id"].(string) + " "
		}
		return fmt.Sprint(ids, r.get("data.total_count"), " ", r.get("data.has_more"))
	}
	for query, want := range map[string]string{
		"": "held live off draft " + home + " 5 false", "?status=draft": "draft 1 false", "?status=suspended": "held 1 false", "?status=inactive": "off 1 false",
		"?limit=2": "held live 5 true", "?limit=2&offset=2": "off draft 5 true", "?limit=2&offset=4": home + " 5 false", "?offset=9": "5 false",
	} {
		if got := list(query); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	h.do("GET", "/api/v1/hosts/host_one/properties?status=sold", nil).refused(422, "invalid_request")
	h.do("GET", ownHome(hostOne, "draft"), nil).want(200).is("data.status", "draft", "data.title", "A cottage", "data.host_id", hostOne)
	h.do("GET", ownHome(hostOne, "held"), nil).want(200).is("data.status", "suspended")
	for _, id := range []string{"theirs", "none", "%00"} { // on the market or not: it is not this host's
		h.do("GET", ownHome(hostOne, id), nil).want(404)
	}
	other.do("GET", ownHome(hostOne, "draft"), nil).refused(403, "not_your_host")
	a.do("GET", "/api/v1/properties/draft", nil).refused(404, "property_not_found")
	a.do("GET", "/api/v1/properties/search", nil).want(200).is("data.total_count", 3)
}

func TestHomesThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.host(hostOne)
	for _, c := range []struct {
		member string
		value  any
		rule   string
	}{
		{"title", "ab", "length"},
		{"title", strings.Repeat("x", 201), "length"},
		{"title", "a\nb c", "format"},
		{"title", nil, "required"},
		{"address", "1 A", "length"},
		{"city", "", "length"},
		{"state", 5, "type"},
		{"property_type", "", "length"},
		{"country", "ae", "format"},
		{"country", "ZZ", "format"},
		{"country", "ARE", "format"},
		{"country", "", "format"},
		{"currency", "JPY", "format"},
		{"currency", "KWD", "format"},
		{"currency", "aed", "format"},
		{"currency", "XX", "format"},
		{"currency", "", "format"},
		{"time_zone", "Local", "format"},
		{"time_zone", "", "format"},
		{"time_zone", "../etc/passwd", "format"},
		{"time_zone", "Mars/Base", "format"},
		{"time_zone", "posixrules", "format"},
		{"time_zone", "posix/Asia/Dubai", "format"},
		{"time_zone", "asia/dubai", "format"},
		{"time_zone", "Factory", "format"},
		{"latitude", 91, "range"},
		{"longitude", -181, "range"},
		{"bedrooms", -1, "range"},
		{"bathrooms", 101, "range"},
		{"max_guests", 0, "range"},
		{"max_guests", 51, "range"},
		{"status", "suspended", "enum"},
		{"base_price_per_night", 0, "range"},
		{"base_price_per_night", json.Number("10000.01"), "range"},
		{"base_price_per_night", json.Number("1.001"), "format"},
		{"cleaning_fee", -1, "range"},
		{"service_fee_percent", json.Number("100.01"), "range"},
		{"tax_per_night", 1001, "range"},
		{"minimum_nights", 0, "range"},
		{"maximum_nights", 366, "range"},
		{"available_from", "2027-02-30", "format"},
		{"id", "x", "unknown"},
		{"host_id", "host_two", "unknown"},
	} {
		if got := h.do("PUT", ownHome(hostOne, "x"), with(cottage(), c.member, c.value)).want(422).fields(); got[c.member] != c.rule || len(got) != 1 {
			t.Errorf("%s = %v: %v, want %s", c.member, c.value, got, c.rule)
		}
	}
	h.do("PUT", ownHome(hostOne, "x"), with(cottage(), "latitude", nil)).want(422).is("errors.0.field", "longitude", "errors.0.rule", "together")
	h.do("PUT", ownHome(hostOne, "x"), with(cottage(), "maximum_nights", 1)).want(422).is("errors.0.field", "maximum_nights", "errors.0.rule", "range")
	h.do("PUT", ownHome(hostOne, "x"), with(cottage(), "available_to", day(1))).want(422).is("errors.0.field", "available_to", "errors.0.rule", "after")
	for _, id := range []string{"search", "a%20b", "a.b", "%2e%2e", strings.Repeat("x", 65), "a%2Fb", "%E2%82%AC"} {
		h.do("PUT", ownHome(hostOne, id), cottage()).refused(422, "invalid_property_id")
	}
	if n := w.count(`select count(*) from properties`); n != 1 {
		t.Errorf("%d homes after refusals", n)
	}
}

func TestTheDearestStayOfAnyHomeCanBeBooked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dear := with(cottage(), "base_price_per_night", 10000, "cleaning_fee", 10000, "service_fee_percent", 100, "tax_per_night", 1000,
		"maximum_nights", 365, "available_to", nil)
	w.host(hostOne).do("PUT", ownHome(hostOne, "palace"), dear).want(200)
	w.key("bookings:write").do("POST", bookings, with(stay(7), "property_id", "palace", "check_out", day(7+365), "total_amount", 7675000)).want(200)
}

func TestManyWritersOfOneHomeLeaveOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const writers = 16
	var wg sync.WaitGroup
	statuses := make([]int, 2*writers)
	for i := range statuses {
		host := []schemas.HostID{hostOne, hostTwo}[i%2]
		wg.Go(func() {
			r, err := w.host(host).send("PUT", ownHome(host, "contested"), cottage())
			if err != nil {
				t.Error(err)
			}
			statuses[i] = r.status
		})
	}
	wg.Wait()
	won := map[int]int{} // of which host, by parity
	for i, s := range statuses {
		switch s {
		case 200:
			won[i%2]++
		case 404:
		default:
			t.Errorf("answered %d", s)
		}
	}
	if len(won) != 1 || won[0]+won[1] != writers {
		t.Errorf("%v won, want all of one host", won)
	}
}

func TestASearchFindsOnlyHomesThatTakeTheStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:read")
	found := func(from, to int) any {
		q := fmt.Sprintf("/api/v1/properties/search?check_in=%s&check_out=%s", day(from), day(to))
		return a.do("GET", q, nil).want(200).get("data.total_count")
	}
	w.exec(`update properties set minimum_nights = 2, maximum_nights = 4, available_from = $1::text::date, available_to = $2::text::date`, day(10), day(20))
	for stay, want := range map[[2]int]int{{10, 12}: 1, {16, 20}: 1, {9, 12}: 0, {17, 21}: 0, {12, 13}: 0, {12, 17}: 0} {
		if got := found(stay[0], stay[1]); got != float64(want) {
			t.Errorf("%v found %v, want %d", stay, got, want)
		}
	}
}

func TestPagesOfASearchHaveEveryHomeOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:read")
	for i := range 11 {
		w.property(fmt.Sprintf("prop_%02d", (i*7)%11), hostTwo, "Dubai", 10000) // of one price: only ids tell them apart
	}
	for _, order := range []string{"price_asc", "price_desc"} {
		seen := map[string]int{}
		for offset := 0; ; offset += 5 {
			r := a.do("GET", fmt.Sprintf("/api/v1/properties/search?limit=5&offset=%d&sort_by=%s", offset, order), nil).want(200)
			for _, p := range r.get("data.properties").([]any) {
				seen[p.(map[string]any)["id"].(string)]++
			}
			if r.get("data.has_more") != true {
				break
			}
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s: %s %d times", order, id, n)
			}
		}
		if len(seen) != 12 {
			t.Errorf("%s: %d homes, want 12", order, len(seen))
		}
	}
}
