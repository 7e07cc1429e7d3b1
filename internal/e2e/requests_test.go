//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/krib-ai/krib/internal/testenv"
)

// What happens to a request that its host leaves alone, as its agent and its host
// see it.
func TestARequestThatNobodyAnswersRemindsItsHostAndExpires(t *testing.T) {
	t.Parallel()
	k := startHere(t, "KRIB_BOOKING_TTL=4s", "KRIB_EXPIRY_EVERY=100ms")
	endpoint := testenv.Receiver(t, nil)
	k.subscribe(t, endpoint.URL(), "booking.created", "booking.cancelled", "host.response_needed")
	cursor := k.host(t, "GET", "/api/v1/hosts/"+k.HostID+"/notifications", nil).text("stream_cursor")
	id := k.book(t, 0)
	for i, want := range []string{
		"booking.created", "host.response_needed created", "host.response_needed half", "host.response_needed nine_tenths", "booking.cancelled expired",
	} {
		r := endpoint.Next(t)
		var body struct {
			EventType string `json:"event_type"`
			Sequence  int    `json:"sequence"`
			BookingID string `json:"booking_id"`
			Data      struct {
				Reminder string `json:"reminder"`
				Details  struct {
					Reason string `json:"cancellation_reason"`
				} `json:"booking_details"`
			} `json:"data"`
		}
		if err := json.Unmarshal(r.Body, &body); err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSpace(body.EventType + " " + body.Data.Reminder + body.Data.Details.Reason)
		if got != want || body.Sequence != i+1 || body.BookingID != id {
			t.Errorf("delivery %d is %d, %s of %s; want %s", i+1, body.Sequence, got, body.BookingID, want)
		}
	}
	for _, want := range []string{"new_booking New Booking Request", "urgent Response Needed", "urgent Response Needed", "booking_update Booking Expired"} {
		f := k.next(t, cursor, "notification")
		n, _ := f.json(t)["data"].(object)
		if got := fmt.Sprint(n["type"], " ", n["title"]); got != want || n["booking_id"] != id {
			t.Errorf("frame %s, want %s", f.Data, want)
		}
		cursor = f.ID
	}
	status := k.agent(t, "GET", "/api/v1/external/bookings/"+id+"/status", nil)
	if status.text("status") != "cancelled" || status.text("cancellation_reason") != "expired" || status.number("version") != 5 {
		t.Errorf("status %s", status.Raw)
	}
}
