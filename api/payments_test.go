package api_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/encoding/json"
	"github.com/stripe/stripe-go/v84/webhook"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/schemas"
)

func paymentsPath(id string) string { return "/api/v1/external/bookings/" + id + "/payments" }

func payment(amount, reference string) map[string]any {
	return map[string]any{"amount": json.RawMessage(amount), "currency": "AED", "method": "card", "provider": "Adyen", "reference": reference}
}

func TestPaymentsAddUpToABooking(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write", "bookings:read")
	id := a.book(7)
	a.do("POST", paymentsPath(id), payment("400.50", "p1")).want(200).is(
		"data.booking_id", id, "data.amount", 400.5, "data.currency", "AED", "data.method", "card", "data.provider", "adyen", "data.reference", "p1",
		"data.payment_status", "partially_paid", "data.paid_amount", 400.5, "data.total_amount", 950, "data.overpaid_amount", 0, "data.version", 3)
	a.do("POST", paymentsPath(id), payment("549.50", "p2")).want(200).is("data.payment_status", "paid", "data.paid_amount", 950, "data.version", 4)
	// What is too much has been paid all the same.
	a.do("POST", paymentsPath(id), with(payment("0.01", "p3"), "allow_overpayment", true)).want(200).is("data.payment_status", "paid", "data.overpaid_amount", 0.01, "data.version", 5)
	a.do("GET", statusPath(id), nil).want(200).is("data.payment_status", "paid")
	// So has what comes after the end.
	a.do("PUT", statusPath(id), map[string]any{"status": "cancelled"}).want(200)
	a.do("POST", paymentsPath(id), with(payment("1", "p4"), "allow_overpayment", true)).want(200).is("data.paid_amount", 951.01, "data.version", 7)
	es := w.events(id)
	if got := types(es); got != "booking.created host.response_needed payment.received payment.received payment.received booking.cancelled payment.received" {
		t.Fatalf("events %s", got)
	}
	want := []schemas.Payment{
		{Method: "card", Amount: 40050, Currency: "AED", Reference: "p1", Provider: "adyen", PaidTotal: 40050},
		{Method: "card", Amount: 54950, Currency: "AED", Reference: "p2", Provider: "adyen", PaidTotal: 95000},
	}
	for i, p := range want {
		e := &es[2+i]
		p.At = e.OccurredAt
		if d := cmp.Diff(&p, e.Payment); d != "" || e.Version != int64(3+i) || e.Booking.PaymentStatus != schemas.PaymentOf(p.PaidTotal, 95000) {
			t.Errorf("event %d: version %d, %s, %s", i, e.Version, e.Booking.PaymentStatus, d)
		}
		if n := schemas.NotificationOf(e); n == nil || n.Type != schemas.NotifyPayment {
			t.Errorf("event %d makes the notification %+v", i, n)
		}
	}
	if d := cmp.Diff([]string{"updated_at"}, es[4].Changed); d != "" {
		t.Errorf("the third payment changed %s", d)
	}
}

func TestAPaymentCountsOnceWhoeverTellsOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.key("bookings:write"), w.key("bookings:write")
	id, other := a.book(7), b.book(20)
	first := a.do("POST", paymentsPath(id), payment("400", "p1")).want(200)
	a.do("POST", paymentsPath(id), payment("100", "p2")).want(200)
	again := a.do("POST", paymentsPath(id), with(payment("400.00", "p1"), "provider", "ADYEN")).want(200).
		is("data.payment_id", first.text("data.payment_id"), "data.received_at", first.text("data.received_at"), "data.paid_amount", 500, "data.version", 4)
	if !strings.Contains(again.text("message"), "before") {
		t.Errorf("the message does not say so: %s", again.text("message"))
	}
	for _, body := range []map[string]any{payment("401", "p1"), with(payment("400", "p1"), "method", "cash")} {
		a.do("POST", paymentsPath(id), body).refused(409, "reference_used")
	}
	a.do("POST", paymentsPath(a.book(30)), payment("400", "p1")).refused(409, "reference_used")
	b.do("POST", paymentsPath(id), payment("1", "p9")).refused(404, "booking_not_found")
	if got := types(w.events(other)); got != "booking.created host.response_needed" {
		t.Errorf("events %s", got)
	}
	a.do("POST", paymentsPath(id), with(payment("400", "p1"), "provider", "another")).want(200)
	k := a.do("POST", paymentsPath(id), payment("2", "p7"), "Idempotency-Key", "k").want(200)
	a.do("POST", paymentsPath(id), payment("2", "p7"), "Idempotency-Key", "k").want(200).is("data.version", k.get("data.version"), "message", k.text("message"))
}

func TestPaymentsAtTheSameTimeAllCountOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write", "bookings:read")
	id := a.book(7)
	var wg sync.WaitGroup
	for i := range 30 { // ten payments, each told of three times
		wg.Go(func() {
			r, err := a.send("POST", paymentsPath(id), payment("95", fmt.Sprint("p", i%10)))
			if err != nil || r.status != 200 {
				t.Errorf("%d %s, %v", r.status, r.body, err)
			}
		})
	}
	wg.Wait()
	es := w.events(id)
	if len(es) != 12 {
		t.Fatalf("%d events, want 12", len(es))
	}
	for i := range es {
		if es[i].Version != int64(i+1) {
			t.Errorf("event %d has version %d", i, es[i].Version)
		}
		if paid := schemas.Amount(9500 * (i - 1)); i >= 2 && (es[i].Payment.PaidTotal != paid || es[i].Booking.PaymentStatus != schemas.PaymentOf(paid, 95000)) {
			t.Errorf("event %d: %s and %s", i, es[i].Payment.PaidTotal, es[i].Booking.PaymentStatus)
		}
	}
}

func TestWhatAPaymentMayNotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("bookings:write")
	id := a.book(7)
	got := a.do("POST", paymentsPath(id), map[string]any{"amount": json.RawMessage("0.001"), "currency": "aed", "method": " ", "reference": "a\nb", "tip": 1}).
		refused(422, "invalid_request").fields()
	want := map[string]string{"amount": "format", "currency": "format", "method": "length", "reference": "format", "tip": "unknown"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, amount := range []string{"0", "-5", "10000000.01"} {
		if got := a.do("POST", paymentsPath(id), payment(amount, "p")).want(422).fields()["amount"]; got != "range" {
			t.Errorf("amount %s: %s", amount, got)
		}
	}
	a.do("POST", paymentsPath(id), with(payment("5", "p"), "currency", "USD")).refused(400, "currency_mismatch").is("errors.0.field", "currency")
	if n := w.count(`select count(*) from payments`) + len(w.events(id)); n != 2 {
		t.Errorf("%d payments and events after refusals", n)
	}
}

const stripePath, stripeSecret = "/api/v1/integrations/stripe/webhook", "whsec_of_the_tests"

// stripe sends an event as Stripe would, signed at a time.
func (w *world) stripe(at time.Time, id, kind string, object map[string]any) reply {
	w.t.Helper()
	raw, err := json.Marshal(map[string]any{"id": id, "object": "event", "type": kind, "api_version": "2020-08-27", "data": map[string]any{"object": object}})
	if err != nil {
		w.t.Fatal(err)
	}
	signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: raw, Secret: stripeSecret, Timestamp: at})
	return client{w: w}.do("POST", stripePath, string(raw), "Stripe-Signature", signed.Header)
}

func intent(id, booking string, fils int) map[string]any {
	return map[string]any{"id": id, "object": "payment_intent", "amount": fils, "amount_received": fils, "currency": "aed", "metadata": map[string]any{"booking_id": booking}}
}

func session(id, intent, booking, status string, fils int) map[string]any {
	return map[string]any{
		"id": id, "object": "checkout.session", "amount_total": fils, "currency": "aed", "payment_intent": intent, "payment_status": status,
		"metadata": map[string]any{"booking_id": booking},
	}
}

func withStripe(o *api.Options) { o.StripeSecret = stripeSecret }

func TestAPaymentAtStripeIsRecordedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	a := w.key("bookings:write", "bookings:read")
	id := a.book(7)
	now := time.Now()
	w.stripe(now, "evt_1", "payment_intent.succeeded", intent("pi_1", id, 40050)).want(200).is("data.received", true, "data.recorded", true)
	w.stripe(now, "evt_1", "payment_intent.succeeded", intent("pi_1", id, 40050)).want(200).is("data.recorded", false)
	// The checkout of the same payment is another event, and no other payment.
	w.stripe(now, "evt_2", "checkout.session.completed", session("cs_1", "pi_1", id, "paid", 40050)).want(200).is("data.recorded", false)
	w.stripe(now, "evt_3", "checkout.session.completed", session("cs_2", "pi_2", id, "paid", 54950)).want(200).is("data.recorded", true)
	// Nor is what the agent itself tells of.
	a.do("POST", paymentsPath(id), with(payment("549.50", "pi_2"), "provider", "stripe", "method", "stripe")).want(200).is("data.version", 4, "data.payment_status", "paid")
	es := w.events(id)
	if got := types(es); got != "booking.created host.response_needed payment.received payment.received" {
		t.Fatalf("events %s", got)
	}
	if e := es[2]; e.Actor != (schemas.Actor{Kind: schemas.ActorSystem, ID: "stripe"}) || e.Payment.Amount != 40050 || e.Payment.Reference != "pi_1" {
		t.Errorf("%+v of %+v", e.Payment, e.Actor)
	}
}

// One payment makes several events, and Stripe sends each again until it is
// answered: all of it may come at once.
func TestStripesEventsAtTheSameTimeAreOnePayment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	id := w.key("bookings:write").book(7)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if i%2 == 0 {
				w.stripe(time.Now(), "evt_1", "payment_intent.succeeded", intent("pi_1", id, 95000)).want(200)
			} else {
				w.stripe(time.Now(), "evt_2", "checkout.session.completed", session("cs_1", "pi_1", id, "paid", 95000)).want(200)
			}
		})
	}
	wg.Wait()
	if got := types(w.events(id)); got != "booking.created host.response_needed payment.received" {
		t.Errorf("events %s", got)
	}
}

func TestStripesEventsThatAreNoPaymentDoNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	id := w.key("bookings:write").book(7)
	now := time.Now()
	elsewhere := intent("pi_1", id, 95000)
	elsewhere["metadata"] = map[string]any{}
	for i, c := range []struct {
		kind   string
		object map[string]any
	}{
		{"customer.created", map[string]any{"id": "cus_1"}},
		{"payment_intent.succeeded", elsewhere},
		{"payment_intent.payment_failed", intent("pi_1", id, 95000)},
		{"checkout.session.completed", session("cs_1", "pi_1", id, "unpaid", 95000)},
		{"checkout.session.completed", session("cs_1", "", id, "no_payment_required", 0)},
	} {
		w.stripe(now, fmt.Sprint("evt_", i), c.kind, c.object).want(200).is("data.recorded", false)
	}
	if n := w.count(`select count(*) from payments`) + w.count(`select count(*) from stripe_events`); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// What cannot be recorded is not answered with success: Stripe tries again, and the
// event is not used up.
func TestAStripePaymentThatFitsNoBookingIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	now := time.Now()
	w.stripe(now, "evt_3", "payment_intent.succeeded", map[string]any{"metadata": "none"}).refused(422, "invalid_event")
	id := w.key("bookings:write").book(7)
	w.stripe(now, "evt_4", "payment_intent.succeeded", with(intent("pi_1", id, 95000), "currency", "usd")).refused(400, "currency_mismatch")
	w.stripe(now, "evt_4", "payment_intent.succeeded", intent("pi_1", id, 95000)).want(200).is("data.recorded", true)
}

func TestOnlyStripeCanSayThatSomethingWasPaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	id := w.key("bookings:write").book(7)
	w.stripe(time.Now().Add(-time.Hour), "evt_1", "payment_intent.succeeded", intent("pi_1", id, 95000)).refused(401, "invalid_signature")
	for _, header := range []string{"", "nonsense", "t=1,v1=00", fmt.Sprintf("t=%d,v1=%s", time.Now().Unix(), strings.Repeat("0", 64))} {
		client{w: w}.do("POST", stripePath, `{"id":"evt_1","type":"payment_intent.succeeded"}`, "Stripe-Signature", header).refused(401, "invalid_signature")
	}
	if n := w.count(`select count(*) from payments`); n != 0 {
		t.Errorf("%d payments", n)
	}
	plain := newWorld(t)
	plain.stripe(time.Now(), "evt_1", "payment_intent.succeeded", intent("pi_1", id, 95000)).refused(503, "stripe_not_configured")
}
