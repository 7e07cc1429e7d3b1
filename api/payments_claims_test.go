package api_test

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func (w *world) sum(id string) int {
	w.t.Helper()
	return w.count(`select coalesce(sum(amount), 0) from payments where booking_id = $1`, id)
}

// References are each agent's own: another one's are no obstacle and no news.
func TestReferencesOfPaymentsAreEachAgentsOwn(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.key("bookings:write"), w.key("bookings:write"), w.key("bookings:write")
	for _, x := range []struct {
		provider, reference string
	}{{"bank", "INV-2026-0001"}, {"cash", "1"}, {"stripe", "pi_guessed"}, {"ADYEN", "x"}, {"banque", "№ 7/é"}} {
		body := with(payment("10", x.reference), "provider", x.provider, "method", "transfer")
		for i, who := range []client{a, b, c} {
			id := who.book(10 + 10*i)
			first := who.do("POST", paymentsPath(id), body).want(200).is("data.paid_amount", 10, "data.version", 3)
			who.do("POST", paymentsPath(id), body).want(200).is("data.payment_id", first.text("data.payment_id"), "data.version", 3)
			who.do("POST", paymentsPath(id), with(map[string]any{}, "amount", 11, "currency", "AED", "method", "transfer", "provider", x.provider, "reference", x.reference)).
				refused(409, "reference_used")
		}
		w.exec(`delete from payments`)
		w.exec(`delete from bookings`)
	}
}

// Rows of the release before have references that were unique for all.
func TestPaymentsOfTheReleaseBeforeCountOnceStill(t *testing.T) {
	w := newWorld(t, withStripe)
	a, b := w.key("bookings:write", "bookings:read"), w.key("bookings:write", "bookings:read")
	id, other := a.book(7), b.book(20)
	old := func(pay, booking string, agent client, provider, reference string, amount int) {
		w.exec(`insert into payments (id, booking_id, agent_id, host_id, provider, reference, method, amount, currency, created_at)
			values ($1, $2, $3, $4, $5, $6, 'card', $7, 'AED', now()) on conflict (provider, reference) do nothing`, pay, booking, agent.agent, hostOne, provider, reference, amount)
	}
	old("pay_1", id, a, "adyen", "p1", 40000)
	old("pay_2", id, a, "stripe", "pi_1", 10000)
	a.do("POST", paymentsPath(id), payment("400", "p1")).want(200).is("data.payment_id", "pay_1", "data.paid_amount", 500)
	b.do("POST", paymentsPath(other), payment("400", "p1")).want(200).is("data.paid_amount", 400)
	w.stripe(time.Now(), "evt_1", "payment_intent.succeeded", intent("pi_1", id, 10000)).want(200).is("data.recorded", false)
	w.stripe(time.Now(), "evt_2", "charge.refunded", refunded("ch_1", "pi_1", 10000)).want(200).is("data.recorded", true)
	a.do("POST", paymentsPath(id), payment("550", "p3")).want(200).is("data.paid_amount", 950, "data.payment_status", "paid")
}

func TestOverpaymentIsRefusedUnlessItIsMeant(t *testing.T) {
	w := newWorld(t)
	a := w.key("bookings:write", "bookings:read")
	id := a.book(7)
	a.do("POST", paymentsPath(id), payment("950.01", "p1")).refused(400, "overpayment").is("expected_amount", 950, "errors.0.field", "amount")
	a.do("POST", paymentsPath(id), payment("900", "p1")).want(200)
	for _, amount := range []string{"50.01", "51", "9999999", "10000000"} {
		a.do("POST", paymentsPath(id), payment(amount, "p2")).refused(400, "overpayment").is("expected_amount", 50)
	}
	a.do("POST", paymentsPath(id), with(payment("50.01", "p2"), "allow_overpayment", false)).refused(400, "overpayment")
	a.do("POST", paymentsPath(id), payment("900", "p1")).want(200).is("data.paid_amount", 900) // told again, not paid again
	a.do("POST", paymentsPath(id), with(payment("50.01", "p2"), "allow_overpayment", true)).want(200).is("data.overpaid_amount", 0.01, "data.payment_status", "paid")
	a.do("POST", paymentsPath(id), payment("0.01", "p3")).refused(400, "overpayment").is("expected_amount", 0)
	for _, amount := range []string{"0", "-0.01", "-950", "1e8", "0.001"} {
		a.do("POST", paymentsPath(id), with(payment(amount, "p4"), "allow_overpayment", true)).want(422)
	}
}

// Of payments that race for what is open, no more is recorded than that.
func TestPaymentsAtTheSameTimeDoNotOverpay(t *testing.T) {
	w := newWorld(t)
	a := w.key("bookings:write")
	id := a.book(7)
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			r, err := a.send("POST", paymentsPath(id), payment("100", fmt.Sprint("p", i)))
			if err != nil || r.status != 200 && r.doc["code"] != "overpayment" {
				t.Errorf("%d %s, %v", r.status, r.body, err)
			}
		})
	}
	wg.Wait()
	if got := w.sum(id); got != 90000 {
		t.Errorf("%d recorded, want nine payments of the twenty-four", got)
	}
}

// What Stripe says of a payment outranks an agent's word, whichever comes first, and
// the money counts once.
func TestVerifiedPaymentOutranksAnAgentsWord(t *testing.T) {
	w := newWorld(t, withStripe)
	a, b := w.key("bookings:write", "bookings:read"), w.key("bookings:write", "bookings:read")
	word := func(amount, reference string) map[string]any {
		return with(payment(amount, reference), "provider", "stripe", "method", "stripe", "allow_overpayment", true)
	}
	status := func(id, want string) { a.w.t.Helper(); w.paid(id, want) }
	mine, theirs := a.book(7), b.book(20)

	// Another agent said it first, of its own booking.
	b.do("POST", paymentsPath(theirs), word("950", "pi_1")).want(200).is("data.payment_status", "paid")
	w.stripe(time.Now(), "evt_1", "payment_intent.succeeded", intent("pi_1", mine, 95000)).want(200).is("data.recorded", true)
	status(mine, "paid")
	status(theirs, "pending")
	b.do("POST", paymentsPath(theirs), word("950", "pi_1")).refused(409, "reference_used")
	a.do("POST", paymentsPath(mine), word("950", "pi_1")).want(200).is("data.paid_amount", 950)
	a.do("POST", paymentsPath(mine), word("900", "pi_1")).refused(409, "reference_used")

	// The agent itself said another amount.
	less := a.book(30)
	a.do("POST", paymentsPath(less), word("950", "pi_2")).want(200).is("data.payment_status", "paid")
	w.stripe(time.Now(), "evt_2", "checkout.session.completed", session("cs_2", "pi_2", less, "paid", 100)).want(200).is("data.recorded", true)
	status(less, "partially_paid")
	es := w.events(less)
	if last := es[len(es)-1]; last.Payment.Amount != 100 || last.Payment.PaidTotal != 100 {
		t.Errorf("the event says %+v", last.Payment)
	}

	// The agent said the truth, of another booking of its own.
	wrong, right := a.book(40), a.book(50)
	a.do("POST", paymentsPath(wrong), word("500", "pi_3")).want(200)
	w.stripe(time.Now(), "evt_3", "payment_intent.succeeded", intent("pi_3", right, 50000)).want(200).is("data.recorded", true)
	status(wrong, "pending")
	status(right, "partially_paid")

	// More than is open is recorded all the same.
	w.stripe(time.Now(), "evt_4", "payment_intent.succeeded", intent("pi_4", right, 95000)).want(200).is("data.recorded", true)
	status(right, "paid")
}

// paid wants a booking's status of payment, as its row has it.
func (w *world) paid(id, want string) {
	w.t.Helper()
	if n := w.count(`select count(*) from bookings where id = $1 and payment_status = $2`, id, want); n != 1 {
		w.t.Errorf("%s is not %s", id, want)
	}
}

func refunded(charge, of string, fils int) map[string]any {
	return map[string]any{"id": charge, "object": "charge", "amount": 95000, "amount_refunded": fils, "currency": "aed", "payment_intent": of}
}

func refund(id, of, status string, fils int) map[string]any {
	return map[string]any{"id": id, "object": "refund", "amount": fils, "currency": "aed", "payment_intent": of, "charge": "ch_1", "status": status}
}

type said struct {
	id, kind string
	object   map[string]any
}

// A payment and its refunds come in any order, and each event again, and the sums are
// the same.
func TestRefundsAtStripeAreRecordedOnceInAnyOrder(t *testing.T) {
	w := newWorld(t, withStripe)
	a := w.key("bookings:write", "bookings:read")
	for n, c := range []struct {
		name, status string
		sum          int
		says         func(id string) []said
	}{
		{"all of it, by its charge", "refunded", 0, func(id string) []said {
			return []said{{"a", "payment_intent.succeeded", intent("pi_1", id, 95000)}, {"b", "charge.refunded", refunded("ch_1", "pi_1", 95000)}}
		}},
		{"two parts, by charge and by themselves", "partially_paid", 35000, func(id string) []said {
			return []said{
				{"a", "payment_intent.succeeded", intent("pi_1", id, 95000)},
				{"b", "refund.created", refund("re_1", "pi_1", "succeeded", 20000)},
				{"c", "charge.refunded", refunded("ch_1", "pi_1", 20000)},
				{"d", "refund.created", refund("re_2", "pi_1", "pending", 40000)},
				{"e", "charge.refunded", refunded("ch_1", "pi_1", 60000)},
				{"f", "refund.updated", refund("re_2", "pi_1", "succeeded", 40000)},
				{"g", "charge.refund.updated", refund("re_2", "pi_1", "succeeded", 40000)},
			}
		}},
		{"one that failed", "paid", 95000, func(id string) []said {
			return []said{
				{"a", "checkout.session.async_payment_succeeded", session("cs_1", "pi_1", id, "paid", 95000)},
				{"b", "refund.created", refund("re_1", "pi_1", "pending", 95000)},
				{"c", "charge.refunded", refunded("ch_1", "pi_1", 95000)},
				{"d", "refund.failed", refund("re_1", "pi_1", "failed", 95000)},
			}
		}},
		{"one that failed and one that did not", "partially_paid", 90000, func(id string) []said {
			return []said{
				{"a", "payment_intent.succeeded", intent("pi_1", id, 95000)},
				{"b", "refund.created", refund("re_1", "pi_1", "canceled", 95000)},
				{"c", "refund.created", refund("re_2", "pi_1", "succeeded", 5000)},
			}
		}},
		{"more than was paid", "refunded", 0, func(id string) []said {
			return []said{{"a", "payment_intent.succeeded", intent("pi_1", id, 95000)}, {"b", "charge.refunded", refunded("ch_1", "pi_1", 9_000_000_000_000_000_000)}}
		}},
	} {
		for turn := range 3 {
			id := a.book(10)
			all := c.says(id)
			for i := range all { // forwards, backwards, and from the middle on; each one twice
				at := (i + len(all)/2) % len(all)
				switch turn {
				case 0:
					at = i
				case 1:
					at = len(all) - 1 - i
				}
				for range 2 {
					w.stripe(time.Now(), fmt.Sprint("evt_", n, turn, all[at].id), all[at].kind, all[at].object).want(200)
				}
			}
			w.paid(id, c.status)
			if got := w.sum(id); got != c.sum {
				t.Errorf("%s, turn %d: %d, want %d", c.name, turn, got, c.sum)
			}
			a.do("GET", statusPath(id), nil).want(200).is("data.payment_status", c.status)
			if got := types(w.events(id)); got != "booking.created host.response_needed payment.received" {
				t.Errorf("%s: events %s", c.name, got)
			}
			for _, table := range []string{"payments", "stripe_refunds", "bookings"} {
				w.exec(`delete from ` + table)
			}
		}
	}
}

// An installation shares its account at Stripe with other systems.
func TestStripesEventsOfOtherSystemsAreTakenAndRecordNothing(t *testing.T) {
	w := newWorld(t, withStripe)
	for i, c := range []said{
		{"", "payment_intent.succeeded", intent("pi_1", "bkg_none", 95000)},
		{"", "payment_intent.succeeded", intent("pi_2", "order 4711 / Größe L", 95000)},
		{"", "payment_intent.succeeded", intent("pi_3", "a\u0000b", 95000)},
		{"", "checkout.session.completed", session("cs_1", "pi_4", fmt.Sprintf("%0300d", 1), "paid", 95000)},
		{"", "checkout.session.async_payment_succeeded", session("cs_2", "pi_5", "", "paid", 95000)},
		{"", "charge.refunded", refunded("ch_9", "pi_6", 100)},
		{"", "refund.created", refund("re_9", "pi_7", "succeeded", 100)},
		{"", "charge.dispute.created", map[string]any{"id": "dp_1", "payment_intent": "pi_1"}},
		{"", "checkout.session.async_payment_failed", session("cs_3", "pi_8", "bkg_none", "unpaid", 95000)},
		{"", "checkout.session.expired", session("cs_4", "", "bkg_none", "unpaid", 95000)},
	} {
		w.stripe(time.Now(), fmt.Sprint("evt_", i), c.kind, c.object).want(200).is("data.received", true, "data.recorded", false)
	}
	if n := w.count(`select count(*) from payments`) + w.count(`select count(*) from stripe_events`) + w.outbox(); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestStripesAmountsAreBoundedAndInTheCurrencysOwnUnit(t *testing.T) {
	w := newWorld(t, withStripe)
	a := w.key("bookings:write", "bookings:read")
	id := a.book(7)
	for i, amount := range []int{1_000_000_001, 100_000_000_000, 9_000_000_000_000_000_000} {
		w.stripe(time.Now(), fmt.Sprint("evt_", i), "payment_intent.succeeded", intent("pi_1", id, amount)).refused(400, "amount_out_of_range")
	}
	w.stripe(time.Now(), "evt_jpy", "payment_intent.succeeded", with(intent("pi_1", id, 950), "currency", "jpy")).refused(400, "currency_mismatch")
	w.exec(`update bookings set currency = 'MGA' where id = $1`, id) // two places for ISO 4217, none for Stripe
	w.stripe(time.Now(), "evt_mga", "payment_intent.succeeded", with(intent("pi_1", id, 950), "currency", "mga")).want(200).is("data.recorded", true)
	if got := w.sum(id); got != 95000 {
		t.Errorf("%d, want 950.00", got)
	}
	w.paid(id, "paid")
}

func TestCheckoutIsPaidWhenItsMoneyHasCome(t *testing.T) {
	w := newWorld(t, withStripe)
	a := w.key("bookings:write", "bookings:read")
	id := a.book(7)
	w.stripe(time.Now(), "evt_1", "checkout.session.completed", session("cs_1", "pi_1", id, "unpaid", 95000)).want(200).is("data.recorded", false)
	w.paid(id, "pending")
	w.stripe(time.Now(), "evt_2", "checkout.session.async_payment_failed", session("cs_1", "pi_1", id, "unpaid", 95000)).want(200).is("data.recorded", false)
	w.stripe(time.Now(), "evt_3", "checkout.session.async_payment_succeeded", session("cs_1", "pi_1", id, "paid", 95000)).want(200).is("data.recorded", true)
	w.stripe(time.Now(), "evt_4", "payment_intent.succeeded", intent("pi_1", id, 95000)).want(200).is("data.recorded", false)
	w.paid(id, "paid")
	a.do("GET", statusPath(id), nil).want(200).is("data.payment_status", "paid", "data.version", 3)
}
