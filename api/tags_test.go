package api

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"
)

// TestTheDocumentSaysWhatBodiesAndQueriesTake holds the document to the tags that
// requests are bound by.
func TestTheDocumentSaysWhatBodiesAndQueriesTake(t *testing.T) {
	raw, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
				Required   []string
			}
		}
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]any{
		"BookingInput": bookingBody{}, "StatusChange": statusBody{}, "SubscriptionInput": subscriptionBody{}, "NotificationInput": notificationBody{},
		"AddressedNotification": bulkItem{}, "GuestMessage": messageBody{}, "ReadAll": readAllBody{}, "NotificationIDs": manyBody{},
		"HostSettingsInput": settingsBody{}, "PaymentInput": paymentBody{},
		"ReplayInput": replayBody{}, "FailedSince": retryFailedBody{},
		"SubscriptionPatch": subscriptionPatch{}, "SecretRotation": secretRotationBody{},
		"HostAnswer": hostActionBody{}, "PriceRequest": priceBody{}, "PropertyInput": propertyBody{},
		"McpMessage": mcpMessage{},
	} {
		all, required := namesOf(body)
		s := doc.Components.Schemas[name]
		said := make([]string, 0, len(s.Properties))
		for p := range s.Properties {
			said = append(said, p)
		}
		same(t, name, said, all)
		same(t, "required of "+name, s.Required, required)
	}
	for path, q := range map[string]any{
		"/api/v1/properties/search": propertyQuery{}, "/api/v1/external/hosts/{host_id}/pending-bookings": pendingQuery{}, hooks: subscriptionQuery{},
		hooks + "/{subscription_id}/replays": replayQuery{},
		hosted + "/notifications":            notificationQuery{}, hosted + "/bookings": hostBookingQuery{}, hosted + "/properties": hostPropertyQuery{},
		feed: eventsQuery{}, feed + "/stream": followQuery{},
		"/api/v1/properties/{property_id}/availability": availabilityQuery{},
		hooks + "/{subscription_id}/deliveries":         deliveryQuery{}, hooks + "/{subscription_id}/attempts": attemptQuery{},
		hooks + "/{subscription_id}/deliveries/{delivery_id}": oneDeliveryQuery{},
	} {
		all, _ := namesOf(q)
		var said []string
		for _, p := range doc.Paths[path]["get"].Parameters {
			if p.In == "query" {
				said = append(said, p.Name)
			}
		}
		same(t, path, said, all)
	}
}

func namesOf(v any) (all, required []string) {
	for _, f := range fieldsOf(reflect.TypeOf(v)) {
		all = append(all, f.name)
		if f.required {
			required = append(required, f.name)
		}
	}
	return all, required
}

func same(t *testing.T, what string, said, got []string) {
	t.Helper()
	slices.Sort(said)
	slices.Sort(got)
	if a, b := strings.Join(said, " "), strings.Join(got, " "); a != b {
		t.Errorf("%s: the document says %q, the tags %q", what, a, b)
	}
}

func TestEveryCommandMayMeetAnother(t *testing.T) {
	raw, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct{ Responses map[string]any }
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	for path, operations := range doc.Paths {
		for method, o := range operations {
			reads := method == "get" || strings.HasSuffix(path, "/calculate-pricing") || path == mcpPath // its tools answer for themselves
			if !reads && o.Responses["409"] == nil {
				t.Errorf("%s %s writes, and its document has no 409", method, path)
			}
		}
	}
}

func TestLooksForAttemptsBecomeRarer(t *testing.T) {
	looks, waited := 0, time.Duration(0)
	for wait := firstLook; waited < 31*time.Second; wait = laterLook(wait) {
		looks, waited = looks+1, waited+wait
	}
	if looks > 130 || firstLook != 25*time.Millisecond || laterLook(time.Second) != 250*time.Millisecond {
		t.Errorf("%d looks in %v", looks, waited)
	}
}
