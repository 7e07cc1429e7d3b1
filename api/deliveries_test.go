package api_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// attempted writes attempts as the sink does.
func (w *world) attempted(as ...schemas.Attempt) {
	w.t.Helper()
	sink, err := store.Open(w.t.Context(), w.url, store.RoleSink, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	defer sink.Close()
	err = sink.Update(w.t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		written, err := tx.InsertAttempts(ctx, as)
		if err != nil {
			return err
		}
		tx.CountAttempts(written)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// A past is a subscription with a log: delivery n of 30 was created n minutes ago;
// every third is dead after two attempts, every third waits.
func (w *world) past(c client, link string) (path string) {
	w.t.Helper()
	id := c.do("POST", hooksPath, hook(link)).want(200).text("data.id")
	now := time.Now().UTC().Truncate(time.Second)
	var as []schemas.Attempt
	for n := range 30 {
		at := now.Add(-time.Duration(n) * time.Minute)
		a := schemas.Attempt{
			DeliveryID: schemas.DeliveryID(fmt.Sprintf("dlv_%s_%02d", id, n)), EventID: schemas.EventID(fmt.Sprintf("evt_%d", n)),
			EventType: schemas.BookingCreated, SubscriptionID: schemas.SubscriptionID(id), AgentID: c.agent, BookingID: schemas.BookingID(fmt.Sprintf("bkg_%d", n/2)),
			Number: 1, Trigger: schemas.TriggerEvent, StartedAt: at, DurationMS: int64(10 + n), Outcome: schemas.Delivered, Final: true, Status: 200,
			ResponseBody: "thank you", DeliveryCreatedAt: at,
		}
		if n == 0 {
			a.Run, a.Trigger, a.EventType = 1700000000000000, schemas.TriggerManual, schemas.PaymentReceived
		}
		if n%3 > 0 {
			next := at.Add(5 * time.Second)
			a.Outcome, a.Final, a.Status, a.ErrorClass, a.Error, a.NextAttemptAt = schemas.Retry, false, 503, schemas.ErrorStatus, "sorry", &next
		}
		as = append(as, a)
		if n%3 == 2 {
			a.Number, a.Trigger, a.Outcome, a.Final, a.NextAttemptAt = 2, schemas.TriggerRetry, schemas.Dead, true, nil
			a.StartedAt, a.Status, a.ErrorClass = at.Add(5*time.Second), 0, schemas.ErrorTimeout
			as = append(as, a)
		}
	}
	w.attempted(as...)
	return hooksPath + "/" + id
}

func idsOf(r reply, list, member string) (ids []string) {
	r.t.Helper()
	for _, v := range r.get(list).([]any) {
		ids = append(ids, fmt.Sprint(v.(map[string]any)[member]))
	}
	return ids
}

func TestTheLogIsNarrowedByEveryFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	path := w.past(a, "https://agent.example/")
	minutes := func(n int) string {
		return url.QueryEscape(time.Now().Add(-time.Duration(n)*time.Minute - 30*time.Second).UTC().Format(time.RFC3339))
	}
	for q, want := range map[string]int{
		"": 30, "status=delivered": 10, "status=waiting": 10, "status=dead": 10, "status=gone": 0, "event_type=payment.received": 1, "event_type=booking.created": 29,
		"booking_id=bkg_3": 2, "booking_id=none": 0, "trigger=manual": 1, "trigger=event": 29, "run=0": 29, "run=1700000000000000": 1, "run=7": 0,
		"error_class=timeout": 10, "error_class=status": 10, "http_status=200": 10, "http_status=503": 10, "http_status=418": 0,
		"since=" + minutes(4): 5, "until=" + minutes(4): 25, "since=" + minutes(9) + "&until=" + minutes(4): 5,
		"status=dead&http_status=503": 0, "status=waiting&booking_id=bkg_0": 1,
	} {
		if got := a.do("GET", path+"/deliveries?limit=100&"+q, nil).want(200).is("data.has_more", false, "data.next_cursor", nil).get("data.returned_count"); got != float64(want) {
			t.Errorf("deliveries of %q: %v, want %d", q, got, want)
		}
	}
	for q, want := range map[string]int{
		"": 40, "outcome=delivered": 10, "outcome=retry": 20, "outcome=dead": 10, "event_type=payment.received": 1, "booking_id=bkg_3": 2, "trigger=retry": 10,
		"trigger=event": 29, "run=0": 39, "error_class=timeout": 10, "http_status=503": 20, "since=" + minutes(2): 4,
		"delivery_id=dlv_" + path[len(hooksPath)+1:] + "_02": 2, "delivery_id=none": 0,
	} {
		if got := a.do("GET", path+"/attempts?limit=100&"+q, nil).want(200).get("data.returned_count"); got != float64(want) {
			t.Errorf("attempts of %q: %v, want %d", q, got, want)
		}
	}
	for q, field := range map[string]string{
		"status=sent": "status", "trigger=retry": "trigger", "run=-1": "run", "run=x": "run", "http_status=42": "http_status", "since=yesterday": "since",
		"limit=0": "limit", "limit=101": "limit", "cursor=x": "cursor", "since=" + minutes(1) + "&until=" + minutes(2): "until",
		"cursor=" + base64.RawURLEncoding.EncodeToString([]byte("1.2.3.dlv")): "", // an id may hold dots
		"cursor=" + base64.RawURLEncoding.EncodeToString([]byte("1.x.dlv")):   "cursor",
		"cursor=" + base64.RawURLEncoding.EncodeToString([]byte("1.2")):       "cursor",
	} {
		r := a.do("GET", path+"/deliveries?"+q, nil)
		if field == "" {
			r.want(200)
		} else if r.refused(422, "invalid_request").fields()[field] == "" {
			t.Errorf("%q is refused for %v, not for %s", q, r.fields(), field)
		}
	}
}

func TestTheLogComesInPagesThatMissNothingAndRepeatNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	for list, member := range map[string]string{"deliveries": "id", "attempts": "started_at"} {
		path := w.past(a, "https://agent.example/"+list)
		all := idsOf(a.do("GET", path+"/"+list+"?limit=100", nil).want(200), "data."+list, member)
		var got []string
		for cursor, pages := "", 0; ; pages++ {
			r := a.do("GET", path+"/"+list+"?limit=7&cursor="+cursor, nil).want(200)
			got = append(got, idsOf(r, "data."+list, member)...)
			if pages == 1 { // what comes in meanwhile moves nothing
				w.attempted(schemas.Attempt{
					DeliveryID: "dlv_new", Run: int64(len(list)), EventID: "evt_new", EventType: schemas.BookingCreated, SubscriptionID: schemas.SubscriptionID(path[len(hooksPath)+1:]),
					AgentID: a.agent, Number: 1, Trigger: schemas.TriggerEvent, StartedAt: time.Now().Add(time.Minute), Outcome: schemas.Delivered, Final: true,
					DeliveryCreatedAt: time.Now().Add(time.Minute),
				})
			}
			if r.get("data.has_more") == false {
				break
			}
			cursor = r.text("data.next_cursor")
		}
		if !slices.Equal(got, all) {
			t.Errorf("pages of %s: %v, want %v", list, got, all)
		}
	}
}

func TestADeliveryIsShownWithItsAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	path := w.past(a, "https://agent.example/")
	id := "dlv_" + path[len(hooksPath)+1:] + "_02"
	one := path + "/deliveries/" + id
	a.do("GET", one, nil).want(200).is("data.id", id, "data.run", 0, "data.status", "dead", "data.attempt_count", 2, "data.trigger", "event", "data.http_status", nil,
		"data.error_class", "timeout", "data.next_attempt_at", nil, "data.booking_id", "bkg_1", "data.runs", "[0]", "data.attempts.0.number", 1,
		"data.attempts.0.outcome", "retry", "data.attempts.0.http_status", 503, "data.attempts.1.trigger", "retry", "data.attempts.1.final", true,
		"data.attempts.1.response_body", "thank you")
	again := schemas.Attempt{
		DeliveryID: schemas.DeliveryID(id), Run: 9, EventID: "evt_2", EventType: schemas.BookingCreated, SubscriptionID: schemas.SubscriptionID(path[len(hooksPath)+1:]),
		AgentID: a.agent, Number: 1, Trigger: schemas.TriggerManual, StartedAt: time.Now(), Outcome: schemas.Delivered, Final: true, Status: 204, DeliveryCreatedAt: time.Now(),
	}
	w.attempted(again)
	a.do("GET", one, nil).want(200).is("data.run", 9, "data.status", "delivered", "data.trigger", "manual", "data.runs", "[9 0]", "data.attempts.0.http_status", 204)
	a.do("GET", one+"?run=0", nil).want(200).is("data.run", 0, "data.status", "dead")
	a.do("GET", one+"?run=3", nil).refused(404, "delivery_not_found")
	a.do("GET", path+"/deliveries/dlv_none", nil).refused(404, "delivery_not_found")

	// Another subscription's, though it is the same agent's.
	other := w.past(a, "https://other.example/")
	a.do("GET", other+"/deliveries/"+id, nil).refused(404, "delivery_not_found")
}

func TestALogIsItsOwnersAndAnswersAreNobodyElses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, platform := w.key("webhooks:manage"), w.key("webhooks:manage"), w.key("platform", "webhooks:manage")
	path := w.past(a, "https://agent.example/")
	id := "dlv_" + path[len(hooksPath)+1:] + "_02"
	for _, rest := range []string{"/deliveries", "/deliveries/" + id, "/attempts", "/statistics"} {
		b.do("GET", path+rest, nil).refused(404, "subscription_not_found")
		w.key("bookings:read").do("GET", path+rest, nil).refused(403, "missing_scope")
		platform.do("GET", path+rest, nil).want(200)
	}
	platform.do("GET", path+"/attempts", nil).want(200).is("data.attempts.0.response_body", nil)
	platform.do("GET", path+"/deliveries/"+id, nil).want(200).is("data.attempts.0.response_body", nil, "data.attempts.0.error", "sorry")
	a.do("GET", path+"/attempts", nil).want(200).is("data.attempts.0.response_body", "thank you")
}

func TestStatisticsOfASubscriptionAddUpToItsAgents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	one, two := w.past(a, "https://one.example/"), w.past(a, "https://two.example/")
	w.past(w.key("webhooks:manage"), "https://foreign.example/")
	for path, times := range map[string]int{one + "/statistics": 1, two + "/statistics": 1, "/api/v1/external/webhooks/statistics": 2} {
		r := a.do("GET", path, nil).want(200).is("data.waiting", 10*times)
		for _, window := range []string{"1h", "24h", "7d"} {
			at := "data.windows." + window + "."
			r.is(at+"delivered", 10*times, at+"dead", 10*times, at+"attempts", 40*times, at+"failed", 30*times, at+"failing", 10*times, at+"success_rate", 33.33, at+"withheld", 0)
			// From 10 to 39 ms, those of every third delivery twice.
			if p50, p95 := r.get(at+"latency_p50_ms").(float64), r.get(at+"latency_p95_ms").(float64); p50 < 20 || p50 > 31 || p95 < 31 || p95 > 46 {
				t.Errorf("%s of %s: p50 %v, p95 %v", window, path, p50, p95)
			}
		}
	}
	w.exec(`update webhook_statistics set slot_at = slot_at - interval '3 days'`)
	a.do("GET", one+"/statistics", nil).want(200).is("data.windows.1h.delivered", 0, "data.windows.24h.attempts", 0, "data.windows.24h.latency_p50_ms", nil, "data.windows.7d.delivered", 10)
}
