package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/schemas"
)

func note(title string) map[string]any {
	return map[string]any{"type": "new_booking", "title": title, "message": "A message\nof two lines"}
}

func TestANotificationIsSentListedReadAndDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("platform", "notifications:write"), w.host("test-host-123")
	full := with(note("First"), "booking_id", "test-booking-456", "property_id", "test-property-789", "priority", "high", "action_required", true,
		"action_url", "https://host.krib.ae/dashboard", "expires_at", time.Now().Add(time.Hour).Format(time.RFC3339))
	id := a.do("POST", inbox("test-host-123"), full).want(200).
		is("data.status", "sent", "data.host_id", "test-host-123", "data.type", "new_booking").text("data.notification_id")
	a.do("POST", inbox("test-host-123"), with(note("Second"), "type", "urgent", "action_url", "/dashboard/x")).want(200)

	cursor := schemas.Feed{TopicID: "feed", Partitions: 12}
	part := cursor.Partition("test-host-123")
	w.exec(`insert into sink_offsets (topic_id, partition, next_offset) values ('feed', $1, 41)`, part)
	r := h.do("GET", inbox("test-host-123"), nil).want(200).is("data.total_count", 2, "data.unread_count", 2, "data.returned_count", 2, "data.has_more", false,
		"data.notifications.0.title", "Second", "data.notifications.0.booking_id", nil, "data.notifications.0.expires_at", nil, "data.notifications.0.priority", "medium",
		"data.notifications.1.id", id, "data.notifications.1.is_read", false, "data.notifications.1.read_at", nil, "data.notifications.1.booking_id", "test-booking-456",
		"data.notifications.1.action_required", true, "data.notifications.1.priority", "high", "data.filters_applied.type", nil, "data.filters_applied.unread_only", false,
		"data.stream_cursor", cursor.At(part, 41).String())
	if !strings.HasSuffix(r.text("data.notifications.1.expires_at"), "Z") {
		t.Errorf("a time of another form: %s", r.body)
	}
	h.do("GET", inbox("test-host-123")+"?limit=1", nil).want(200).is("data.returned_count", 1, "data.has_more", true)
	h.do("GET", inbox("test-host-123")+"?priority=high&type=new_booking&unread_only=true", nil).want(200).is("data.total_count", 1, "data.unread_count", 2, "data.filters_applied.priority", "high")

	before := w.outbox()
	for range 2 {
		h.do("PUT", inbox("test-host-123")+"/"+id+"/read", nil).want(200).is("data.notification_id", id, "data.marked_read", true)
	}
	if n := w.outbox() - before; n != 1 {
		t.Errorf("reading twice made %d records", n)
	}
	h.do("GET", inbox("test-host-123")+"/count", nil).want(200).is("data.unread_count", 1, "data.host_id", "test-host-123")
	h.do("DELETE", inbox("test-host-123")+"/"+id, nil).want(200).is("data.notification_id", id, "data.deleted", true)
	h.do("DELETE", inbox("test-host-123")+"/"+id, nil).refused(404, "notification_not_found")
	h.do("PUT", inbox("test-host-123")+"/"+id+"/read", nil).refused(404, "notification_not_found")
	h.do("GET", inbox("test-host-123"), nil).want(200).is("data.total_count", 1)
	w.exec(`update host_notifications set expires_at = now() - interval '1 second'`)
	h.do("GET", inbox("test-host-123"), nil).want(200).is("data.total_count", 0, "data.unread_count", 0, "data.notifications", "[]")
}

func TestWhatANotificationMayNotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("platform", "notifications:write")
	path := inbox(hostOne)
	a.do("POST", path, with(note("x"), "type", "booking_confirmed")).refused(400, "invalid_type").is("allowed_values.0", "new_booking", "errors.0.field", "type")
	a.do("POST", path, with(note("x"), "priority", "urgent")).refused(400, "invalid_priority").is("allowed_values", "[high medium low]")
	a.do("POST", path, with(note("x"), "expires_at", "2020-01-01T00:00:00Z")).refused(400, "expires_in_past")
	got := a.do("POST", path, map[string]any{"title": strings.Repeat("x", 256), "message": "", "action_required": "yes", "expires_at": "tomorrow", "action_url": "javascript:alert(1)", "host_id": "h"}).
		refused(422, "invalid_request").fields()
	want := map[string]string{"type": "required", "title": "length", "message": "length", "action_required": "type", "expires_at": "format", "action_url": "format", "host_id": "unknown"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, link := range []string{"//evil.example", "JavaScript:x", "data:text/html,x", "/\\evil.example", "relative", "https://", "https://u:p@a.example", "/a b", " /a", "/" + strings.Repeat("a", 2048)} {
		if f := a.do("POST", path, with(note("x"), "action_url", link)).want(422).fields(); f["action_url"] == "" {
			t.Errorf("%q: %v", link, f)
		}
	}
	h := w.host(hostOne)
	for _, q := range []string{"type=news", "priority=top", "limit=0", "unread_only=yes"} {
		h.do("GET", path+"?"+q, nil).refused(422, "invalid_request")
	}
	if n := w.outbox() + w.count(`select count(*) from host_notifications`); n != 0 {
		t.Errorf("%d rows after refusals", n)
	}
}

func TestATimeWithoutAZoneIsInUTC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, h := w.key("platform", "notifications:write"), w.host(hostOne)
	for given, want := range map[string]string{
		"2199-05-01T10:00:00":           "2199-05-01T10:00:00.000000Z",
		"2199-05-01T10:00:00.25":        "2199-05-01T10:00:00.250000Z",
		"2199-05-01T10:00:00+04:00":     "2199-05-01T06:00:00.000000Z",
		"9999-12-31T23:59:59Z":          "9999-12-31T23:59:59.000000Z",
		"9999-12-31T23:59:59.999999999": "9999-12-31T23:59:59.999999Z",
	} {
		a.do("POST", inbox(hostOne), with(note("x"), "expires_at", given)).want(200)
		h.do("GET", inbox(hostOne)+"?limit=1", nil).want(200).is("data.notifications.0.expires_at", want)
	}
	before := w.outbox()
	for _, bad := range []string{
		"9999-12-31T23:59:59-00:01", "0000-12-31T23:59:59Z", "0001-01-01T00:00:00+00:01", "10000-01-01T00:00:00Z", "2199-05-01", "2199-05-01T10:00", "2199-05-01T10:00:00 UTC", "",
	} {
		a.do("POST", inbox(hostOne), with(note("x"), "expires_at", bad)).want(422).is("errors.0.field", "expires_at", "errors.0.rule", "format")
	}
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

func TestANotificationIsIdempotent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("platform", "notifications:write")
	first := a.do("POST", inbox(hostOne), note("x"), "Idempotency-Key", "k").want(200)
	if again := a.do("POST", inbox(hostOne), note("x"), "Idempotency-Key", "k").want(200); string(again.body) != string(first.body) {
		t.Errorf("got %s, want %s", again.body, first.body)
	}
	a.do("POST", inbox(hostOne), note("y"), "Idempotency-Key", "k").refused(422, "idempotency_key_reused")
	a.do("POST", inbox(hostTwo), note("y"), "Idempotency-Key", "k").want(200) // another path
	if n := w.count(`select count(*) from host_notifications`); n != 2 {
		t.Errorf("%d notifications, want 2", n)
	}
}

func TestAgentsWriteToHostsTheyHaveABookingWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("notifications:write", "bookings:write")
	a.do("POST", inbox(hostOne), note("x")).refused(404, "host_not_found")
	a.book(7)
	a.do("POST", inbox(hostOne), note("x")).want(200)
	a.do("POST", inbox(hostTwo), note("x")).refused(404, "host_not_found")
}

func TestIdsInPathsAreOpaqueText(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const odd = schemas.HostID("a/b c%ü'")
	h := w.host(odd)
	path := "/api/v1/hosts/a%2Fb%20c%25%C3%BC%27/notifications"
	w.key("platform", "notifications:write").do("POST", path, note("x")).want(200).is("data.host_id", string(odd))
	h.do("GET", path, nil).want(200).is("data.total_count", 1)
	a := w.key("admin")
	for _, id := range []string{"none", "%00", "%0A", "%ff", strings.Repeat("x", 256), strings.Repeat("x", 5000), "';--", "..%2f", "%25"} {
		a.do("GET", statusPath(id), nil).want(404)
		a.do("PUT", statusPath(id), map[string]any{"status": "confirmed"}).want(404)
		a.do("GET", hooksPath+"/"+id, nil).want(404)
		a.do("DELETE", hooksPath+"/"+id, nil).want(404)
		a.do("GET", "/api/v1/properties/"+id, nil).want(404)
		h.do("PUT", path+"/"+id+"/read", nil).want(404)
		h.do("DELETE", path+"/"+id, nil).want(404)
	}
}
