package schemas_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/schemas"
)

func TestIDsMadeLaterSortLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids []string
		for range 1000 {
			ids = append(ids, string(schemas.NewBookingID()))
			time.Sleep(time.Millisecond) //nolint:forbidigo // the bubble's clock: it costs nothing
		}
		if !slices.IsSorted(ids) {
			t.Error("ids are not in the order of their making")
		}
	})
}

func readEvent(t *testing.T, file string) *schemas.Event {
	t.Helper()
	b, err := os.ReadFile("testdata/v1/" + file)
	if err != nil {
		t.Fatal(err)
	}
	e, err := schemas.Decode[schemas.Event](b)
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

func TestEventsMakeTheNotificationsOfTheContract(t *testing.T) {
	type brief struct {
		Type           schemas.NotificationType
		Title          string
		Priority       schemas.Priority
		ActionRequired bool
	}
	created := func(e *schemas.Event) { e.Type, e.Booking.Status = schemas.BookingCreated, schemas.Pending }
	for name, c := range map[string]struct {
		change func(*schemas.Event)
		want   *brief
	}{
		"created, pending": {created, &brief{schemas.NewBooking, "New Booking Request", schemas.High, true}},
		"created, approved": {
			func(e *schemas.Event) { e.Type, e.Booking.Status = schemas.BookingCreated, schemas.Confirmed },
			&brief{schemas.NewBooking, "New Booking", schemas.High, false},
		},
		"confirmed": {
			func(e *schemas.Event) { e.Type, e.Booking.Status = schemas.BookingConfirmed, schemas.Confirmed },
			&brief{schemas.NotifyBookingMove, "Booking Confirmed", schemas.High, false},
		},
		"expired": {
			func(e *schemas.Event) { e.Booking.CancellationReason = "expired" },
			&brief{schemas.NotifyBookingMove, "Booking Expired", schemas.High, false},
		},
		"cancelled": {
			func(e *schemas.Event) { e.Booking.CancellationReason = "plans changed" },
			&brief{schemas.NotifyBookingMove, "Booking Cancelled", schemas.High, false},
		},
		"paid": {
			func(e *schemas.Event) { e.Type = schemas.PaymentReceived },
			&brief{schemas.NotifyPayment, "Payment Received", schemas.Medium, false},
		},
		"paid, without a payment": {func(e *schemas.Event) { e.Type, e.Payment = schemas.PaymentReceived, nil }, nil},
		"asked at creation":       {func(e *schemas.Event) { e.Type, e.Reminder = schemas.HostResponseNeeded, schemas.ReminderCreated }, nil},
		"asked at half": {
			func(e *schemas.Event) { e.Type, e.Reminder = schemas.HostResponseNeeded, schemas.ReminderHalf },
			&brief{schemas.Urgent, "Response Needed", schemas.High, true},
		},
		"completed": {func(e *schemas.Event) { e.Type = schemas.BookingCompleted }, nil},
		"no show":   {func(e *schemas.Event) { e.Type = schemas.BookingNoShow }, nil},
	} {
		e := readEvent(t, "booking-event.full.json")
		c.change(e)
		n := schemas.NotificationOf(e)
		var got *brief
		if n != nil {
			got = &brief{n.Type, n.Title, n.Priority, n.ActionRequired}
			if n.ID != schemas.NotificationFor(e.ID) || n.HostID != e.Booking.HostID || !strings.Contains(n.Message, "Aisha Khan") {
				t.Errorf("%s: %+v", name, n)
			}
			if (n.ExpiresAt != nil) != n.ActionRequired {
				t.Errorf("%s expires at %v, action required %t", name, n.ExpiresAt, n.ActionRequired)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestARequestsNotificationExpiresWithTheRequest(t *testing.T) {
	e := readEvent(t, "booking-event.created.json")
	if got := schemas.NotificationOf(e).ExpiresAt; !got.Equal(*e.Booking.ExpiresAt) {
		t.Errorf("expires at %s, want %s", got, e.Booking.ExpiresAt)
	}
	e.Booking.ExpiresAt = nil
	if got, want := schemas.NotificationOf(e).ExpiresAt, e.OccurredAt.Add(72*time.Hour); !got.Equal(want) {
		t.Errorf("expires at %s, want %s", got, want)
	}
}

func members(t *testing.T, v any) []string {
	t.Helper()
	o, ok := v.(object)
	if !ok {
		t.Fatalf("%v is no object", v)
	}
	return slices.Sorted(maps.Keys(o))
}

func eventData(t *testing.T, e *schemas.Event) object {
	t.Helper()
	body, err := schemas.BodyOf(e)
	b := body.Data
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, b).(object)
}

func TestEventDataOfABookingIsNested(t *testing.T) {
	data := eventData(t, readEvent(t, "booking-event.created.json"))
	for name, want := range map[string][]string{
		"booking_details": {
			"cancelled_at", "check_in", "check_out", "confirmed_at", "created_at", "currency", "expires_at", "guest_email", "guest_name", "guest_phone",
			"guests", "host_id", "id", "nights", "payment_status", "property_id", "special_requests", "status", "total_amount", "updated_at", "version",
		},
		"guest_info":    {"country_code", "email", "first_name", "last_name", "name", "phone"},
		"property_info": {"address", "city", "host_id", "id", "state", "title"},
		"payment_info":  {"method", "status"},
	} {
		if diff := cmp.Diff(want, members(t, data[name])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := data["booking_details"].(object)["guest_phone"]; got != "+971501234567" {
		t.Errorf("guest_phone %v has no country code", got)
	}
}

func TestEventDataOfAPaymentSaysWhatWasPaid(t *testing.T) {
	data := eventData(t, readEvent(t, "booking-event.payment.json"))
	if diff := cmp.Diff([]string{"amount", "currency", "method", "reference", "status"}, members(t, data["payment_info"])); diff != "" {
		t.Errorf("payment_info (-want +got):\n%s", diff)
	}
}

// Members that came later stand only where they say something: a body that had
// none of it stays as it was.
func TestEventDataSaysWhatIsNewWhereItIsKnown(t *testing.T) {
	auto := eventData(t, readEvent(t, "booking-event.auto-approved.json"))["booking_details"].(object)
	if auto["auto_approved"] != true {
		t.Errorf("booking_details %v", auto)
	}
	part := eventData(t, readEvent(t, "booking-event.part-paid.json"))["payment_info"].(object)
	if diff := cmp.Diff([]string{"amount", "currency", "method", "paid_total", "provider", "reference", "status"}, members(t, part)); diff != "" {
		t.Errorf("payment_info (-want +got):\n%s", diff)
	}
}

func TestEventDataOfAResponseNeededIsFlat(t *testing.T) {
	data := eventData(t, readEvent(t, "booking-event.response-needed.json"))
	want := []string{"booking_id", "check_in", "check_out", "currency", "expires_at", "guest_name", "property_id", "reminder", "total_amount"}
	if diff := cmp.Diff(want, members(t, data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRecordsCarryCloudEventsHeaders(t *testing.T) {
	e := readEvent(t, "booking-event.full.json")
	m := e.Meta()
	m.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	want := []schemas.Header{
		{Key: "ce_specversion", Value: "1.0"},
		{Key: "ce_id", Value: string(e.ID)},
		{Key: "ce_type", Value: "booking.cancelled"},
		{Key: "ce_source", Value: "/krib"},
		{Key: "ce_subject", Value: string(e.Booking.ID)},
		{Key: "ce_time", Value: "2026-03-02T09:30:00.000000Z"},
		{Key: "ce_dataschema", Value: "https://schemas.krib.ai/v1/booking-event.json"},
		{Key: "content-type", Value: "application/json"},
		{Key: "traceparent", Value: m.TraceParent},
	}
	if diff := cmp.Diff(want, m.Headers()); diff != "" {
		t.Error(diff)
	}
}

// Two hops of one delivery, and two attempts of one run, are two records.
func TestRecordsOfOneDeliveryHaveIDsOfTheirOwn(t *testing.T) {
	d := schemas.Delivery{ID: "dlv_1", Attempt: 1, Hop: 1}
	next := d
	next.Hop = 2
	now := time.Now()
	if d.Meta(now).ID == next.Meta(now).ID {
		t.Errorf("two hops have the id %s", d.Meta(now).ID)
	}
}
