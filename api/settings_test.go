package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/schemas"
)

func settingsPath(h schemas.HostID) string { return "/api/v1/hosts/" + string(h) + "/settings" }

func approvePath(id string) string { return "/api/v1/external/bookings/" + id + "/auto-approve" }

func types(es []schemas.Event) string {
	var out []string
	for i := range es {
		out = append(out, string(es[i].Type))
	}
	return strings.Join(out, " ")
}

func TestAHostReadsAndChangesItsSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.host(hostOne)
	all := map[string]any{
		"new_booking": true, "payment_received": true, "urgent": true, "booking_update": true, "email": true,
		"quiet_hours": map[string]any{"enabled": false, "start": "22:00", "end": "07:00", "allow_urgent": true},
	}
	one.do("GET", settingsPath(hostOne), nil).want(200).is(
		"data.host_id", hostOne, "data.auto_approve_bookings", false, "data.auto_approve_amount_limit", 1000, "data.auto_approve_currency", "AED",
		"data.instant_approval", false, "data.webhook_notifications", true, "data.notification_preferences", all, "data.updated_at", nil,
		"data.email", nil, "data.time_zone", "Asia/Dubai")
	one.do("PUT", settingsPath(hostOne), map[string]any{
		"auto_approve_bookings": true, "auto_approve_amount_limit": 2500.50, "notification_preferences": map[string]any{"urgent": false},
	}).want(200)
	// What a request does not name, or names as null, stays.
	one.do("PUT", settingsPath(hostOne), map[string]any{"webhook_notifications": false, "auto_approve_bookings": nil}).want(200)
	r := one.do("GET", settingsPath(hostOne), nil).want(200).is(
		"data.auto_approve_bookings", true, "data.auto_approve_amount_limit", 2500.5, "data.webhook_notifications", false,
		"data.notification_preferences", with(all, "urgent", false))
	if !strings.Contains(string(r.body), `"auto_approve_amount_limit":2500.50`) || !strings.HasSuffix(r.text("data.updated_at"), "Z") {
		t.Errorf("money or time of another form: %s", r.body)
	}
	one.do("PUT", settingsPath(hostOne), map[string]any{"notification_preferences": map[string]any{"urgent": true}}).want(200).
		is("data.notification_preferences", with(all, "urgent", true))
	w.host(hostTwo).do("GET", settingsPath(hostTwo), nil).want(200).is("data.auto_approve_bookings", false)
	w.host("host_new").do("PUT", settingsPath("host_new"), map[string]any{"instant_approval": true}).want(200).is("data.instant_approval", true)
}

// Mail goes to an address of the host's own choice, when it likes. Nothing of it is
// lost by a change of something else.
func TestAHostSaysWhereAndWhenItGetsMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.host(hostOne)
	quiet := map[string]any{"enabled": true, "start": "21:30", "end": "08:15", "allow_urgent": false}
	prefs := func(r map[string]any) map[string]any { return map[string]any{"notification_preferences": r} }
	one.do("PUT", settingsPath(hostOne), map[string]any{
		"email": "amira+krib@example.com", "time_zone": "Europe/Berlin", "notification_preferences": map[string]any{"quiet_hours": quiet},
	}).want(200).is("data.email", "amira+krib@example.com", "data.time_zone", "Europe/Berlin", "data.notification_preferences.quiet_hours", quiet,
		"data.notification_preferences.email", true)
	one.do("PUT", settingsPath(hostOne), prefs(map[string]any{"email": false, "urgent": false})).want(200)
	one.do("PUT", settingsPath(hostOne), prefs(map[string]any{"quiet_hours": map[string]any{"enabled": false}})).want(200)
	one.do("GET", settingsPath(hostOne), nil).want(200).is(
		"data.email", "amira+krib@example.com", "data.time_zone", "Europe/Berlin", "data.notification_preferences.email", false,
		"data.notification_preferences.urgent", false, "data.notification_preferences.quiet_hours", with(quiet, "enabled", false))
	one.do("PUT", settingsPath(hostOne), prefs(map[string]any{"quiet_hours": map[string]any{"start": "00:00", "end": "06:00", "allow_urgent": true}})).want(200).
		is("data.notification_preferences.quiet_hours", map[string]any{"enabled": false, "start": "00:00", "end": "06:00", "allow_urgent": true})
	one.do("PUT", settingsPath(hostOne), map[string]any{"email": ""}).want(200).is("data.email", nil, "data.time_zone", "Europe/Berlin")
}

func TestWhatMailSettingsMayNotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const prefs, hours = "notification_preferences.", "notification_preferences.quiet_hours."
	quiet := func(q map[string]any) map[string]any {
		return map[string]any{"notification_preferences": map[string]any{"quiet_hours": q}}
	}
	for _, c := range []struct {
		body        map[string]any
		field, rule string
	}{
		{map[string]any{"email": "amira"}, "email", "format"},
		{map[string]any{"email": "Amira <amira@example.com>"}, "email", "format"},
		{map[string]any{"email": "a@example.com, b@example.com"}, "email", "format"},
		{map[string]any{"email": "a@example.com\r\nBcc: b@example.com"}, "email", "format"},
		{map[string]any{"email": strings.Repeat("a", 250) + "@example.com"}, "email", "length"},
		{map[string]any{"time_zone": "Mars/Base"}, "time_zone", "format"},
		{map[string]any{"time_zone": ""}, "time_zone", "format"},
		{map[string]any{"time_zone": "Local"}, "time_zone", "format"},
		{map[string]any{"time_zone": "localtime"}, "time_zone", "format"},
		{map[string]any{"time_zone": "right/UTC"}, "time_zone", "format"},
		{map[string]any{"time_zone": "utc"}, "time_zone", "format"},
		{map[string]any{"notification_preferences": map[string]any{"email": "yes"}}, prefs + "email", "type"},
		{map[string]any{"notification_preferences": map[string]any{"sms": true}}, prefs + "sms", "unknown"},
		{quiet(map[string]any{"start": "25:00", "end": "07:00"}), hours + "start", "format"},
		{quiet(map[string]any{"start": "22:00", "end": "7:00"}), hours + "end", "format"},
		{quiet(map[string]any{"start": "22:00", "end": "22:00"}), hours + "end", "range"},
		{quiet(map[string]any{"start": "22:00"}), hours + "end", "required"},
		{quiet(map[string]any{"end": "07:00"}), hours + "start", "required"},
		{quiet(map[string]any{"start": 22, "end": "07:00"}), hours + "start", "type"},
		{quiet(map[string]any{"enabled": 1}), hours + "enabled", "type"},
		{quiet(map[string]any{"until": "07:00"}), hours + "until", "unknown"},
	} {
		got := w.host(hostOne).do("PUT", settingsPath(hostOne), c.body).refused(422, "invalid_request").fields()
		if d := cmp.Diff(map[string]string{c.field: c.rule}, got); d != "" {
			t.Errorf("%v: %s", c.body, d)
		}
	}
	if n := w.count(`select count(*) from host_settings`); n != 0 {
		t.Errorf("%d rows after refusals", n)
	}
}

func TestWhatSettingsMayNotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.host(hostOne).do("PUT", settingsPath(hostOne), map[string]any{
		"auto_approve_bookings": "yes", "auto_approve_amount_limit": -1, "auto_approve_currency": "aed", "theme": "dark",
		"notification_preferences": map[string]any{"guest_message": false, "urgent": 1},
	}).refused(422, "invalid_request").fields()
	want := map[string]string{
		"auto_approve_bookings": "type", "auto_approve_amount_limit": "range", "auto_approve_currency": "format", "theme": "unknown",
		"notification_preferences.guest_message": "unknown", "notification_preferences.urgent": "type",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := w.count(`select count(*) from host_settings`); n != 0 {
		t.Errorf("%d rows after a refusal", n)
	}
}

func TestABookingIsApprovedByItsHostsSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, host := w.key("bookings:write", "bookings:read"), w.host(hostOne)
	id := a.book(7)
	a.do("POST", approvePath(id), nil).want(200).is("success", false, "data.booking_id", id, "data.auto_approve_enabled", false)
	host.do("PUT", settingsPath(hostOne), map[string]any{"auto_approve_bookings": true, "auto_approve_amount_limit": 949.99}).want(200)
	a.do("POST", approvePath(id), nil).want(200).is("success", false, "data.auto_approve_enabled", true, "data.amount_limit", 949.99, "data.booking_amount", 950)
	host.do("PUT", settingsPath(hostOne), map[string]any{"auto_approve_amount_limit": 950, "auto_approve_currency": "USD"}).want(200)
	if r := a.do("POST", approvePath(id), nil).want(200).is("success", false, "data.limit_currency", "USD"); !strings.Contains(r.text("data.reason"), "AED") {
		t.Errorf("reason %s", r.text("data.reason"))
	}
	if got := types(w.events(id)); got != "booking.created host.response_needed" {
		t.Errorf("refusals made events: %s", got)
	}
	host.do("PUT", settingsPath(hostOne), map[string]any{"auto_approve_currency": "AED"}).want(200)
	a.do("POST", approvePath(id), nil).want(200).is(
		"success", true, "data.status", "confirmed", "data.auto_approved", true, "data.amount", 950, "data.amount_limit", 950, "data.version", 3, "data.host_id", hostOne)
	a.do("POST", approvePath(id), nil).refused(400, "not_pending")
	a.do("GET", statusPath(id), nil).want(200).is("data.status", "confirmed", "data.expires_at", nil)
	es := w.events(id)
	if last := es[len(es)-1]; len(es) != 3 || last.Type != schemas.BookingConfirmed || !last.AutoApproved || last.PreviousStatus != schemas.Pending || last.Version != 3 {
		t.Errorf("events %s, the last %+v", types(es), last)
	}
}

func TestWhatCannotBeApproved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	w.host(hostOne).do("PUT", settingsPath(hostOne), map[string]any{"auto_approve_bookings": true}).want(200)
	id := a.book(7)
	w.key("bookings:write").do("POST", approvePath(id), nil).refused(404, "booking_not_found")
	w.exec(`update bookings set expires_at = now()`)
	a.do("POST", approvePath(id), nil).refused(409, "booking_expired")
	a.do("POST", approvePath("none"), nil).refused(404, "booking_not_found")
}

// What the settings allow is confirmed in the transaction that creates it; the host
// is told and not asked.
func TestABookingIsConfirmedAtCreationWhenItsHostWantsThat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write", "bookings:read")
	w.host(hostOne).do("PUT", settingsPath(hostOne), map[string]any{
		"auto_approve_bookings": true, "instant_approval": true, "notification_preferences": map[string]any{"booking_update": false},
	}).want(200)
	r := a.do("POST", bookings, stay(7), "Idempotency-Key", "k").want(200).is("data.status", "confirmed", "data.version", 2, "data.expires_at", nil)
	if !strings.Contains(r.text("message"), "confirmed") {
		t.Errorf("the message does not say so: %s", r.text("message"))
	}
	id := r.text("data.booking_id")
	es := w.events(id)
	if got := types(es); got != "booking.created booking.confirmed" {
		t.Fatalf("events %s", got)
	}
	for i, e := range es {
		if e.Version != int64(i+1) || e.Booking.Status != schemas.Confirmed || e.Booking.ConfirmedAt == nil || e.Booking.ExpiresAt != nil ||
			!e.AutoApproved || len(e.HostMuted) != 1 || e.HostMuted[0] != schemas.NotifyBookingMove {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if n := schemas.NotificationOf(&es[0]); n == nil || n.ActionRequired {
		t.Errorf("the host is asked: %+v", n)
	}
	a.do("GET", statusPath(id), nil).want(200).is("data.status", "confirmed", "data.version", 2)
	a.do("POST", bookings, stay(7), "Idempotency-Key", "k").want(200).is("data.booking_id", id)
	a.do("POST", bookings, stay(7)).want(200).is("data.booking_id", id)
	// Over the limit, the host is asked as ever.
	w.host(hostOne).do("PUT", settingsPath(hostOne), map[string]any{"auto_approve_amount_limit": 949.99}).want(200)
	if got := types(w.events(a.book(20))); got != "booking.created host.response_needed" {
		t.Errorf("events %s", got)
	}
}
