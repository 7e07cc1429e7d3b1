package api_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

const bulkPath = "/api/v1/external/notifications/bulk"

// titles are those of a list, in its order.
func titles(r reply) (out []string) {
	for _, n := range r.want(200).get("data.notifications").([]any) {
		out = append(out, n.(map[string]any)["title"].(string))
	}
	return out
}

func TestNotificationsAreFoundByEveryFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("platform", "notifications:write"), w.host(hostOne)
	for title, n := range map[string]map[string]any{
		"a": {"type": "urgent", "property_id": "prop_1", "action_required": true},
		"b": {"type": "guest_message", "booking_id": "bkg_1", "priority": "low"},
		"c": {"type": "urgent", "booking_id": "bkg_1", "property_id": "prop_2", "priority": "high"},
	} {
		n["title"], n["message"] = title, "m"
		a.do("POST", inbox(hostOne), n).want(200)
	}
	w.exec(`update host_notifications set created_at = timestamptz '2026-01-01T00:00:00Z' + (ascii(title) - 97) * interval '1 hour'`)
	w.exec(`update host_notifications set read_at = now() where title = 'b'`)
	for q, want := range map[string]string{
		"": "c b a", "type=urgent": "c a", "priority=low": "b", "property_id=prop_1": "a", "booking_id=bkg_1": "c b", "action_required=true": "a",
		"unread_only=true": "c a", "created_from=2026-01-01T01:00:00Z": "c b", "created_to=2026-01-01T01:00:00Z": "a",
		"created_from=2026-01-01T01:00:00Z&created_to=2026-01-01T02:00:00Z": "b", "booking_id=bkg_1&type=urgent": "c", "property_id=none": "",
		"booking_id=bkg_1&unread_only=true&priority=high&property_id=prop_2&created_from=2026-01-01T00:00:00Z": "c",
	} {
		r := h.do("GET", inbox(hostOne)+"?"+q, nil)
		if got := strings.Join(titles(r), " "); got != want || r.get("data.total_count") != float64(len(strings.Fields(want))) {
			t.Errorf("%q finds %q of %v, want %q", q, got, r.get("data.total_count"), want)
		}
		r.is("data.unread_count", 2)
	}
	for q, field := range map[string]string{
		"created_from=2026-02-01T00:00:00Z&created_to=2026-01-01T00:00:00Z": "created_to", "cursor=x": "cursor", "offset=10001": "offset",
		"offset=1&cursor=" + h.do("GET", inbox(hostOne), nil).text("data.top_cursor"): "cursor",
	} {
		h.do("GET", inbox(hostOne)+"?"+q, nil).want(422).is("errors.0.field", field)
	}
}

func TestAnInboxComesInPagesThatMissNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("platform", "notifications:write"), w.host(hostOne)
	for i := range 7 {
		a.do("POST", inbox(hostOne), note(fmt.Sprint(i))).want(200)
	}
	w.exec(`update host_notifications set created_at = '2026-01-01' where title in ('2', '3', '4')`) // the same moment: ids decide
	var got []string
	path := inbox(hostOne) + "?limit=2"
	for page := 0; ; page++ {
		r := h.do("GET", path, nil)
		got = append(got, titles(r)...)
		r.is("data.total_count", 7+page, "data.has_more", r.get("data.next_cursor") != nil)
		if r.get("data.next_cursor") == nil {
			break
		}
		a.do("POST", inbox(hostOne), note("later")).want(200) // what comes meanwhile moves no page
		path = inbox(hostOne) + "?limit=2&cursor=" + r.text("data.next_cursor")
	}
	if len(got) != 7 || strings.Join(got[:4], "") != "6510" {
		t.Errorf("the pages hold %v", got)
	}
	if len(titles(h.do("GET", inbox(hostOne)+"?limit=100", nil))) != 10 {
		t.Error("the whole list is not seven and three")
	}
	if got := titles(h.do("GET", inbox(hostOne)+"?limit=2&offset=3", nil)); strings.Join(got, "") != "65" {
		t.Errorf("by offset: %v", got)
	}
}

// marks are the updates of a host's feed, in order.
func (w *world) marks() (out []string) {
	w.t.Helper()
	rows, err := w.sql.Query(w.t.Context(), `select value from outbox where topic = 'host.notifications' order by id`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			w.t.Fatal(err)
		}
		f, err := schemas.Decode[schemas.FeedRecord](raw)
		if err != nil {
			w.t.Fatal(err)
		}
		if f.Update != nil {
			out = append(out, string(f.Update.Action)+" "+string(f.Update.NotificationID))
		}
	}
	return out
}

func TestManyAreMarkedReadUnreadAndDeletedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("platform", "notifications:write"), w.host(hostOne)
	var ids []string
	for i := range 3 {
		ids = append(ids, a.do("POST", inbox(hostOne), note(fmt.Sprint(i))).want(200).text("data.notification_id"))
	}
	foreign := a.do("POST", inbox(hostTwo), note("x")).want(200).text("data.notification_id")
	many := func(ids ...string) map[string]any { return map[string]any{"notification_ids": ids} }

	h.do("PUT", inbox(hostOne)+"/"+ids[0]+"/read", nil).want(200)
	h.do("POST", inbox(hostOne)+"/read", many(ids[0], ids[1], ids[1], foreign, "ntf_none")).want(200).
		is("data.changed", "["+ids[1]+"]", "data.not_found", "["+foreign+" ntf_none]")
	h.do("GET", inbox(hostOne)+"/count", nil).want(200).is("data.unread_count", 1, "data.unread_count_capped", false)
	h.do("PUT", inbox(hostOne)+"/"+ids[0]+"/unread", nil).want(200).is("data.marked_unread", true, "data.notification_id", ids[0])
	h.do("GET", inbox(hostOne)+"/"+ids[0], nil).want(200).is("data.is_read", false, "data.read_at", nil)
	h.do("POST", inbox(hostOne)+"/unread", many(ids[1], ids[2])).want(200).is("data.changed", "["+ids[1]+"]")
	h.do("POST", inbox(hostOne)+"/delete", many(ids[0], ids[2])).want(200).is("data.not_found", "[]")
	h.do("POST", inbox(hostOne)+"/delete", many(ids[0])).want(200).is("data.changed", "[]", "data.not_found", "["+ids[0]+"]")
	h.do("GET", inbox(hostOne)+"/"+ids[0], nil).refused(404, "notification_not_found")
	h.do("PUT", inbox(hostOne)+"/"+foreign+"/unread", nil).refused(404, "notification_not_found")
	h.do("GET", inbox(hostOne), nil).want(200).is("data.total_count", 1)

	want := []string{"read " + ids[0], "read " + ids[1], "unread " + ids[0], "unread " + ids[1], "deleted " + ids[0], "deleted " + ids[2]}
	if diff := cmp.Diff(want, w.marks()); diff != "" {
		t.Errorf("the feed (-want +got):\n%s", diff)
	}
	for body, field := range map[string]string{`{}`: "notification_ids", `{"notification_ids":[]}`: "notification_ids", `{"notification_ids":[1]}`: "notification_ids.0"} {
		h.do("POST", inbox(hostOne)+"/read", body).want(422).is("errors.0.field", field)
	}
	h.do("POST", inbox(hostOne)+"/read", many(strings.Split(strings.Repeat("x,", 101), ",")...)).want(422)
	if got := w.marks(); len(got) != len(want) {
		t.Errorf("refusals wrote %v", got[len(want):])
	}
}

func TestReadingAllLeavesWhatCameLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("platform", "notifications:write"), w.host(hostOne)
	for i := range 3 {
		a.do("POST", inbox(hostOne), note(fmt.Sprint(i))).want(200)
	}
	a.do("POST", inbox(hostTwo), note("another's")).want(200)
	top := h.do("GET", inbox(hostOne), nil).want(200)
	a.do("POST", inbox(hostOne), note("later")).want(200)
	h.do("PUT", inbox(hostOne)+"/read-all", map[string]any{"up_to": top.text("data.top_cursor")}).want(200).
		is("data.status", "success", "data.marked_count", 3, "data.host_id", hostOne, "message", "Marked 3 notifications as read")
	if got := titles(h.do("GET", inbox(hostOne)+"?unread_only=true", nil)); strings.Join(got, "") != "later" {
		t.Errorf("unread: %v", got)
	}
	if got := w.marks(); len(got) != 1 || got[0] != "read_all "+top.text("data.notifications.0.id") {
		t.Errorf("the feed says %v", got)
	}
	h.do("PUT", inbox(hostOne)+"/read-all", nil).want(200).is("data.marked_count", 1)
	h.do("PUT", inbox(hostOne)+"/read-all", nil).want(200).is("data.marked_count", 0)
	w.host(hostTwo).do("GET", inbox(hostTwo)+"/count", nil).want(200).is("data.unread_count", 1)
	h.do("PUT", inbox(hostOne)+"/read-all", map[string]any{"up_to": "12"}).want(422).is("errors.0.field", "up_to")
	if n := len(w.marks()); n != 2 {
		t.Errorf("%d records, want one for each time that something was marked", n)
	}
}

func TestStatisticsOfAnInboxAreTrue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("platform", "notifications:write"), w.host(hostOne)
	h.do("GET", inbox(hostOne)+"/statistics", nil).want(200).is("data.total_notifications", 0, "data.read_percentage", 0, "data.notifications_by_type", "map[]")
	for i, kind := range []string{"urgent", "urgent", "new_booking"} {
		id := a.do("POST", inbox(hostOne), with(note("x"), "type", kind, "priority", []string{"high", "low", "low"}[i])).want(200).text("data.notification_id")
		if i == 0 {
			h.do("PUT", inbox(hostOne)+"/"+id+"/read", nil).want(200)
		}
	}
	a.do("POST", inbox(hostTwo), note("another's")).want(200)
	w.exec(`update host_notifications set created_at = now() - interval '8 days' where type = 'new_booking'`)
	h.do("GET", inbox(hostOne)+"/statistics", nil).want(200).is("data.host_id", hostOne, "data.total_notifications", 3, "data.unread_notifications", 2,
		"data.read_notifications", 1, "data.recent_notifications_7d", 2, "data.notifications_by_type", "map[new_booking:1 urgent:2]",
		"data.notifications_by_priority", "map[high:1 low:2]", "data.read_percentage", 33.3, "data.capped", false)
}

func TestManyNotificationsAreSentAndEachHasItsResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("notifications:write", "bookings:write")
	a.book(7) // with hostOne
	item := func(host any, title string) map[string]any { return with(note(title), "host_id", host) }
	items := []any{
		item(hostOne, "good"), item(hostTwo, "not theirs"), with(item(hostOne, "odd"), "type", "news"), with(item(hostOne, ""), "extra", 1), "text",
		map[string]any{"title": "x"},
		item(hostOne, "too"), with(item(hostOne, "past"), "expires_at", "2020-01-01T00:00:00Z"),
	}
	r := a.do("POST", bulkPath, items, "Idempotency-Key", "k").want(200).is("success", true, "data.total_count", 8, "data.successful_count", 2, "data.failed_count", 6,
		"data.results.0.status", "success", "data.results.0.host_id", hostOne, "data.results.0.error", nil,
		"data.results.1.status", "failed", "data.results.1.code", "host_not_found", "data.results.1.host_id", hostTwo, "data.results.1.notification_id", nil,
		"data.results.2.code", "invalid_type", "data.results.3.code", "invalid_request", "data.results.3.host_id", hostOne,
		"data.results.4.host_id", "unknown", "data.results.5.host_id", "unknown", "data.results.5.errors.0.field", "host_id",
		"data.results.6.status", "success", "data.results.7.code", "expires_in_past")
	if again := a.do("POST", bulkPath, items, "Idempotency-Key", "k").want(200); string(again.body) != string(r.body) {
		t.Errorf("the same key answers %s", again.body)
	}
	// What was sent stays sent, also when it is asked for again after its end.
	soon := []any{with(item(hostOne, "soon"), "type", "urgent", "expires_at", time.Now().Add(time.Second).Format(time.RFC3339Nano)), with(item(hostOne, "late"), "type", "urgent")}
	first := a.do("POST", bulkPath, soon, "Idempotency-Key", "soon").want(200).is("data.successful_count", 2)
	testenv.Eventually(t, "the first has run out", func() bool { return w.count(`select count(*) from host_notifications where expires_at < now()`) == 1 })
	if again := a.do("POST", bulkPath, soon, "Idempotency-Key", "soon").want(200); string(again.body) != string(first.body) {
		t.Errorf("after its end the same key answers %s, before %s", again.body, first.body)
	}
	if got := titles(w.host(hostOne).do("GET", inbox(hostOne)+"?type=new_booking", nil)); len(got) != 2 || got[0] != "too" || got[1] != "good" {
		t.Errorf("the inbox has %v", got)
	}
	before := w.outbox()
	many := make([]any, 101)
	for i := range many {
		many[i] = item(hostOne, "x")
	}
	for _, body := range []any{many, []any{}, map[string]any{}, "7"} {
		a.do("POST", bulkPath, body).want(422)
	}
	a.do("POST", bulkPath, `[{"host_id":"a","host_id":"b"}]`).want(422).is("errors.0.field", "0.host_id", "errors.0.rule", "duplicate")
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestABookingsNotificationComesFromATemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("notifications:write", "bookings:write"), w.host(hostOne)
	booking := a.book(7)
	path := func(host schemas.HostID, booking, kind string) string {
		return "/api/v1/external/hosts/" + string(host) + "/booking-notifications?" + url.Values{
			"booking_id": {booking}, "property_id": {home}, "notification_type": {kind}, "guest_name": {"Amira <b>"}, "property_title": {"Marina"},
		}.Encode()
	}
	for kind, want := range map[string][3]string{
		"new_booking": {"new_booking", "high", "New Booking Request"}, "booking_confirmed": {"booking_update", "high", "Booking Confirmed"},
		"booking_cancelled": {"booking_update", "high", "Booking Cancelled"}, "payment_received": {"payment_received", "medium", "Payment Received"},
	} {
		id := a.do("POST", path(hostOne, booking, kind), nil).want(200).is("data.type", want[0], "data.host_id", hostOne).text("data.notification_id")
		r := h.do("GET", inbox(hostOne)+"/"+id, nil).want(200).is("data.priority", want[1], "data.title", want[2], "data.booking_id", booking,
			"data.action_url", "/dashboard/bookings/"+booking, "data.action_required", kind == "new_booking")
		if msg := r.text("data.message"); !strings.Contains(msg, "Amira <b>") || !strings.Contains(msg, "Marina") || (r.get("data.expires_at") != nil) != (kind == "new_booking") {
			t.Errorf("%s: %s", kind, r.body)
		}
	}
	before := w.outbox()
	a.do("POST", path(hostOne, booking, "news"), nil).refused(400, "invalid_type")
	a.do("POST", path(hostOne, "bkg_none", "new_booking"), nil).refused(404, "booking_not_found")
	a.do("POST", path(hostTwo, booking, "new_booking"), nil).refused(404, "booking_not_found")
	w.key("notifications:write").do("POST", path(hostOne, booking, "new_booking"), nil).refused(404, "booking_not_found")
	a.do("POST", "/api/v1/external/hosts/host_one/booking-notifications", nil).want(422).is("errors.4.rule", "required")
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestThePlatformCleansUpWhatHasRunOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("platform", "notifications:write")
	const path = "/api/v1/external/notifications/cleanup"
	for _, host := range []schemas.HostID{hostOne, hostTwo} {
		for _, title := range []string{"stays", "goes"} {
			a.do("POST", inbox(host), with(note(title), "expires_at", time.Now().Add(time.Hour).Format(time.RFC3339))).want(200)
		}
	}
	w.exec(`update host_notifications set expires_at = now() - interval '1 second' where title = 'goes'`)
	w.key("notifications:write").do("POST", path, nil).refused(403, "platform_only")
	w.key("platform", "bookings:read").do("POST", path, nil).refused(403, "missing_scope")
	a.do("POST", path, nil).want(200).is("data.status", "success", "data.deleted_count", 2)
	a.do("POST", path, nil).want(200).is("data.deleted_count", 0)
	if n := w.count(`select count(*) from host_notifications where deleted_at is not null and title = 'goes'`); n != 2 {
		t.Errorf("%d of what ran out were taken, want 2", n)
	}
}

// sign adds the headers of a Standard Webhook, made by its own library.
func sign(t *testing.T, key, id string, at time.Time, body string) []string {
	t.Helper()
	wh, err := standardwebhooks.NewWebhookRaw([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	s, err := wh.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"webhook-id", id, "webhook-timestamp", fmt.Sprint(at.Unix()), "webhook-signature", s}
}

func TestAGuestsMessageReachesItsHostSignedAndOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("notifications:write", "bookings:write"), w.host(hostOne)
	booking := a.book(7)
	path := "/api/v1/external/bookings/" + booking + "/messages"
	key := strings.TrimPrefix(a.auth, "Bearer ")
	const body = `{"message": "Is there a crib?\nThank you"}`
	now := time.Now()
	first := a.do("POST", path, body, sign(t, key, "msg_1", now, body)...).want(200).is("data.type", "guest_message", "data.host_id", hostOne)
	for range 2 { // sent again, with a new timestamp
		now = now.Add(time.Second)
		if again := a.do("POST", path, body, sign(t, key, "msg_1", now, body)...).want(200); again.text("data.notification_id") != first.text("data.notification_id") {
			t.Error("the same message twice")
		}
	}
	r := h.do("GET", inbox(hostOne)+"/"+first.text("data.notification_id"), nil).want(200)
	r.is("data.message", "Is there a crib?\nThank you", "data.booking_id", booking, "data.priority", "medium", "data.property_id", home)
	if !strings.HasPrefix(r.text("data.title"), "Message from ") {
		t.Errorf("the title is %q", r.text("data.title"))
	}
	const titled = `{"message": "m", "title": "About your stay"}`
	a.do("POST", path, titled, sign(t, key, "msg_2", now, titled)...).want(200)
	h.do("GET", inbox(hostOne)+"?type=guest_message&limit=1", nil).want(200).is("data.notifications.0.title", "About your stay", "data.total_count", 2)

	before := w.outbox()
	a.do("POST", path, body).refused(401, "missing_signature")
	a.do("POST", path, titled, sign(t, key, "msg_3", now, body)...).refused(401, "invalid_signature")
	a.do("POST", path, body, sign(t, "another key", "msg_3", now, body)...).refused(401, "invalid_signature")
	a.do("POST", path, body, sign(t, key, "msg_3", now.Add(-6*time.Minute), body)...).refused(401, "stale_signature")
	a.do("POST", path, titled, sign(t, key, "msg_1", now, titled)...).refused(422, "idempotency_key_reused")
	a.do("POST", path, `{}`, sign(t, key, "msg_4", now, `{}`)...).want(422).is("errors.0.field", "message")
	other := w.key("notifications:write")
	other.do("POST", path, body, sign(t, strings.TrimPrefix(other.auth, "Bearer "), "msg_5", now, body)...).refused(404, "booking_not_found")
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}
