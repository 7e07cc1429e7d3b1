//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"

	"github.com/krib-ai/krib/internal/testenv"
)

// The original system's client, step by step as it was written, against a fresh
// start; then once more, as its users will run it.
func TestTheEightStepClientPassesTwiceInARow(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	for range 2 {
		eightSteps(t, k)
	}
}

func eightSteps(t *testing.T, k *krib) {
	t.Helper()
	health := k.agent(t, "GET", "/api/health", nil)
	if health.text("service") == "" || health.text("version") == "" || health.data("endpoints") == nil {
		t.Errorf("health: %s", health.Raw)
	}
	sub := k.agent(t, "POST", "/api/v1/external/webhook-subscriptions", object{
		"agent_name": "Krib AI Agent Test", "webhook_url": "https://webhook.site/test-webhook-endpoint",
		"events": []string{"booking.created", "booking.confirmed", "booking.cancelled"}, "api_key": "test-api-key-12345",
	})
	if sub.text("id") == "" || sub.text("agent_name") == "" || sub.data("events") == nil {
		t.Errorf("subscription: %s", sub.Raw)
	}
	list := k.agent(t, "GET", "/api/v1/external/webhook-subscriptions", nil)
	subs, _ := list.data("subscriptions").([]any)
	if len(subs) == 0 || list.number("total_count") < 1 {
		t.Errorf("subscriptions: %s", list.Raw)
	}
	note := k.agent(t, "POST", "/api/v1/hosts/test-host-123/notifications", object{
		"type": "new_booking", "title": "Test Booking Request", "message": "You have a new booking request", "booking_id": "test-booking-456",
		"property_id": "test-property-789", "priority": "high", "action_required": true, "action_url": "https://host.krib.ae/dashboard/bookings/test-booking-456",
	})
	if note.text("notification_id") == "" {
		t.Errorf("notification: %s", note.Raw)
	}
	found := k.agent(t, "GET", "/api/v1/properties/search?city=Dubai&limit=1", nil)
	props, _ := found.data("properties").([]any)
	if len(props) != 1 {
		t.Fatalf("search: %s", found.Raw)
	}
	prop, _ := props[0].(object)
	booked := k.agent(t, "POST", "/api/v1/bookings", object{
		"property_id": prop["id"], "check_in": time.Now().AddDate(0, 0, 7).Format(time.DateOnly), "check_out": time.Now().AddDate(0, 0, 9).Format(time.DateOnly),
		"guests": 2, "guest_info": object{"first_name": "Test", "last_name": "User", "email": "test.user@example.com", "phone": "501234567", "country_code": "+971"},
		"total_amount": 950.0, "payment_method": "pending", "special_requests": "Test booking for webhook implementation",
	})
	id := booked.text("booking_id")
	if id == "" {
		t.Fatalf("booking: %s", booked.Raw)
	}
	moved := k.agent(t, "PUT", "/api/v1/external/bookings/"+id+"/status", object{"status": "confirmed"})
	if moved.text("old_status") == "" || moved.text("new_status") != "confirmed" || moved.text("host_id") == "" {
		t.Errorf("status: %s", moved.Raw)
	}
	stats := k.agent(t, "GET", "/api/v1/external/webhooks/statistics", nil)
	for _, m := range []string{"total_subscriptions", "active_subscriptions", "success_rate"} {
		if _, ok := stats.data(m).(float64); !ok {
			t.Errorf("statistics lack %s: %s", m, stats.Raw)
		}
	}
	manual := k.agent(t, "POST", "/api/v1/external/webhooks/test?event_type=test.webhook", object{
		"test": true, "message": "Manual test", "timestamp": time.Now().Format(time.RFC3339), "test_id": "manual-001",
	})
	for _, m := range []string{"successful_deliveries", "total_subscriptions"} {
		if _, ok := manual.data(m).(float64); !ok {
			t.Errorf("manual test lacks %s: %s", m, manual.Raw)
		}
	}
}

func TestABookingBecomesSignedWebhooksARowAndAFrame(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	endpoint := testenv.Receiver(t, nil)
	_, secret := k.subscribe(t, endpoint.URL()+"/hook", "booking.created", "host.response_needed", "booking.confirmed")
	cursor := k.host(t, "GET", "/api/v1/hosts/"+k.HostID+"/notifications", nil).text("stream_cursor")
	id := k.book(t, 0)

	verifier, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"booking.created", "host.response_needed"} {
		r := endpoint.Next(t)
		if err := verifier.Verify(r.Body, r.Header); err != nil {
			t.Errorf("an independent verifier refuses delivery %d: %v", i, err)
		}
		if got := r.Header.Get("X-Webhook-Event"); got != want {
			t.Errorf("event %d is %s, want %s", i, got, want)
		}
		if got := r.Header.Get("Authorization"); got != "Bearer agents-own-key" {
			t.Errorf("authorization %q", got)
		}
	}
	f := k.next(t, cursor, "notification")
	n, _ := f.json(t)["data"].(object)
	if n["booking_id"] != id || n["type"] != "new_booking" {
		t.Errorf("frame %s", f.Data)
	}
	// A frame never precedes its row.
	inbox := k.host(t, "GET", "/api/v1/hosts/"+k.HostID+"/notifications", nil)
	items, _ := inbox.data("notifications").([]any)
	if len(items) != 1 || inbox.number("unread_count") != 1 {
		t.Errorf("inbox %s", inbox.Raw)
	}
	k.agent(t, "PUT", "/api/v1/external/bookings/"+id+"/status", object{"status": "confirmed"})
	if r := endpoint.Next(t); r.Header.Get("X-Webhook-Event") != "booking.confirmed" || verifier.Verify(r.Body, r.Header) != nil {
		t.Errorf("third delivery %v", r.Header)
	}
	nid, _ := n["id"].(string)
	k.host(t, "PUT", "/api/v1/hosts/"+k.HostID+"/notifications/"+nid+"/read", nil)
	if u := k.next(t, f.ID, "notification_update"); u.ID == "" {
		t.Errorf("update frame %+v", u)
	}
	k.host(t, "DELETE", "/api/v1/hosts/"+k.HostID+"/notifications/"+nid, nil)
}

func TestABookingRightAfterASubscriptionAlwaysMatches(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	for i := range 10 {
		endpoint := testenv.Receiver(t, nil)
		k.subscribe(t, endpoint.URL(), "booking.created")
		id := k.book(t, i)
		if got := endpoint.Next(t); !contains(got.Body, id) {
			t.Fatalf("booking %s was not delivered: %s", id, got.Body)
		}
	}
}

func contains(body []byte, s string) bool {
	return s != "" && strings.Contains(string(body), s)
}

func TestTheTestEndpointTellsWhatCameOfIt(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	good := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		return testenv.Response{Status: http.StatusCreated, Body: []byte("thanks \x00 \xff")}
	})
	bad := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Status: http.StatusTeapot} })
	k.subscribe(t, good.URL(), "test.webhook")
	k.subscribe(t, bad.URL(), "test.webhook")
	a := k.agent(t, "POST", "/api/v1/external/webhooks/test?event_type=test.webhook", object{"hello": "world"})
	if a.number("total_subscriptions") != 2 || a.number("successful_deliveries") != 1 || a.text("status") != "completed" {
		t.Errorf("got %s", a.Raw)
	}
	if r := good.Next(t); !contains(r.Body, `"hello":"world"`) {
		t.Errorf("the test's own data was not sent: %s", r.Body)
	}
	if n := bad.Count(); n != 1 {
		t.Errorf("a test is one POST; there were %d", n)
	}
}

func TestTheSampleReceiverVerifiesWhatItGets(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	k.subscribe(t, k.ReceiverURL+"/hook", "booking.created")
	k.book(t, 0)
	testenv.Eventually(t, "the receiver shows a verified webhook", func() bool {
		sample := krib{APIURL: k.ReceiverURL}
		a, err := sample.try(t.Context(), "GET", "/received", "", nil)
		if err != nil {
			return false
		}
		got, _ := a.Body["received"].([]any)
		if len(got) == 0 {
			return false
		}
		first, _ := got[0].(object)
		return first["verified"] == true
	})
	forged := krib{APIURL: k.ReceiverURL}
	if a, err := forged.try(t.Context(), "POST", "/hook", "", object{"forged": true}); err != nil || a.Status != http.StatusUnauthorized {
		t.Errorf("a forged webhook got %v, %v", a, err)
	}
}

func TestAFailingReceiverGetsTheLadderAndItsAttemptsAreKept(t *testing.T) {
	t.Parallel()
	k := startHere(t, "KRIB_RETRY_TIERS=1s,2s,4s")
	endpoint := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if r.N < 2 {
			return testenv.Response{Status: http.StatusInternalServerError}
		}
		return testenv.Response{Status: http.StatusOK}
	})
	k.subscribe(t, endpoint.URL(), "booking.created")
	k.book(t, 0)
	rs := []testenv.Request{endpoint.Next(t), endpoint.Next(t), endpoint.Next(t)}
	for i, gap := range []time.Duration{time.Second, 2 * time.Second} {
		if got := rs[i+1].At.Sub(rs[i].At); got < gap {
			t.Errorf("attempt %d came after %v, before its tier of %v", i+2, got, gap)
		}
		if rs[i+1].Header.Get("Webhook-Id") != rs[0].Header.Get("Webhook-Id") || string(rs[i+1].Body) != string(rs[0].Body) {
			t.Errorf("attempt %d has another id or body", i+2)
		}
		if got, want := rs[i+1].Header.Get("X-Webhook-Attempt"), fmt.Sprint(i+2); got != want {
			t.Errorf("attempt %s, want %s", got, want)
		}
	}
	db := openDB(t, k)
	testenv.Eventually(t, "three attempts are in the log, the last delivered", func() bool {
		return count(t, db, `select count(*) from webhook_attempts`) == 3 &&
			count(t, db, `select count(*) from webhook_attempts where number = 3 and outcome = 'delivered' and final`) == 1
	})
}

func TestADeliveryThatNeverSucceedsBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	k := startHere(t, "KRIB_RETRY_TIERS=100ms,200ms")
	endpoint := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Status: http.StatusBadGateway} })
	k.subscribe(t, endpoint.URL(), "booking.created")
	k.book(t, 0)
	dead := readPlain(t, k, "webhook.dead", 1)[0]
	if got := header(dead, "ce_type"); got != "webhook.delivery" {
		t.Errorf("ce_type %q", got)
	}
	if n := endpoint.Count(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

func TestAHangingReceiverDoesNotDelayTheOthers(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	hang := make(chan struct{})
	defer close(hang)
	stuck := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Hang: hang} })
	healthy := testenv.Receiver(t, nil)
	k.subscribe(t, stuck.URL(), "booking.created")
	k.subscribe(t, healthy.URL(), "booking.created")
	for i := range 40 {
		k.book(t, i)
	}
	for range 40 {
		healthy.Next(t) // while the other one holds its requests
	}
}
