//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// keyed sends a key with every request.
type keyed string

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

// The protocol's own client, on everything that `make run` starts.
func TestAModelBooksAndHearsOfItOnTheWholeProgram(t *testing.T) {
	k := startHere(t)
	s, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil).
		Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: k.APIURL + "/mcp", HTTPClient: &http.Client{Transport: keyed(k.APIKey)}, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	call := func(tool string, arguments map[string]any, into any) {
		t.Helper()
		got, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
		if err != nil {
			t.Fatalf("%s: %v", tool, err)
		}
		text := got.Content[0].(*sdk.TextContent).Text
		if got.IsError {
			t.Fatalf("%s: %s", tool, text)
		}
		if err := json.Unmarshal([]byte(text), &struct{ Data any }{into}); err != nil {
			t.Fatalf("%s: %v\n%s", tool, err, text)
		}
	}
	var found struct{ Properties []struct{ ID string } }
	call("search_properties", map[string]any{"city": "Dubai"}, &found)
	if len(found.Properties) != 1 || found.Properties[0].ID != k.PropertyID {
		t.Fatalf("found %+v", found)
	}
	day := func(n int) string { return time.Now().AddDate(0, 0, n).Format(time.DateOnly) }
	stay := map[string]any{"property_id": k.PropertyID, "check_in": day(40), "check_out": day(42), "guests": 2}
	var price struct {
		Total json.Number `json:"total_price"`
	}
	call("quote_price", stay, &price)
	var page struct {
		Events []struct {
			Type    string
			Booking string `json:"booking_id"`
		}
		Next string `json:"next_cursor"`
	}
	call("list_events", nil, &page) // from now on
	stay["total_amount"] = price.Total
	stay["guest_info"] = map[string]any{"first_name": "Amira", "last_name": "Haddad", "email": "amira@example.com", "phone": "501234567"}
	var booking struct {
		ID string `json:"booking_id"`
	}
	call("create_booking", stay, &booking)
	var heard []string
	for len(heard) < 2 {
		cursor := page.Next
		call("list_events", map[string]any{"after": cursor, "wait": 30}, &page)
		for _, e := range page.Events {
			if e.Booking != booking.ID {
				t.Errorf("heard of %s", e.Booking)
			}
			heard = append(heard, e.Type)
		}
	}
	if heard[0] != "booking.created" || heard[1] != "host.response_needed" {
		t.Errorf("heard %v", heard)
	}
}
