package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// Every type of event that an agent can hear of has its example.
func TestEveryEventHasItsPayloadInTheDocument(t *testing.T) {
	t.Parallel()
	text := read(t, "EVENTS.md")
	shown := map[string]bool{}
	for _, b := range blocks(t, "EVENTS.md") {
		var e struct{ Type string }
		if err := json.Unmarshal([]byte(b.text), &e); err != nil {
			t.Fatalf("%v\n%s", err, b.text)
		}
		shown[e.Type] = true
		if !slices.Contains([]string{"body", "pulled", "received"}, b.use) {
			t.Errorf("no test is for %s with the use %q", e.Type, b.use)
		}
		if !strings.Contains(text, "\n## "+e.Type+"\n") {
			t.Errorf("%s has no heading", e.Type)
		}
	}
	for _, e := range slices.Concat(schemas.SubscribableEvents(), schemas.BookingEventTypes()) {
		if !shown[string(e)] {
			t.Errorf("%s has no example", e)
		}
	}
	for _, r := range []schemas.DisabledReason{schemas.DisabledByFailures, schemas.DisabledByTime, schemas.DisabledByGone} {
		if !strings.Contains(text, "`"+string(r)+"`") {
			t.Errorf("the reason %s is missing", r)
		}
	}
}

// exact decodes with numbers by their digits: 950.00 is not 950.
func exact(t *testing.T, b []byte) (v map[string]any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return v
}

// shape is the names of a value's members and the kinds of what they hold.
func shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, member := range v {
			out[name] = shape(member)
		}
		return out
	case nil:
		return "null"
	}
	return fmt.Sprintf("%T", v)
}

// What no golden record is of is sent by the whole program: a subscription fails,
// recovers and goes away, and another one is told.
func TestTheDocumentedOperationalEventsAreWhatIsSent(t *testing.T) {
	t.Parallel()
	examples := map[string]map[string]any{}
	for _, b := range blocks(t, "EVENTS.md") {
		if b.use == "received" {
			examples[b.name] = exact(t, []byte(b.text))
		}
	}
	p := run(t, map[string]string{"WEBHOOK_MAX_RETRIES": "0"})
	told := testenv.Receiver(t, nil)
	var status atomic.Int64
	other := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Status: int(status.Load())} })
	subscribe := func(url string, events ...string) string {
		return p.call(http.MethodPost, "/api/v1/external/webhook-subscriptions", map[string]any{
			"agent_name": "Endpoint", "webhook_url": url, "events": events, "api_key": "a secret of the receiver",
		})["id"].(string)
	}
	teller := subscribe(told.URL(), slices.Sorted(maps.Keys(examples))...)
	subscribe(other.URL(), "booking.created")
	hear := func(kind, beside string) {
		t.Helper()
		got, want := exact(t, told.Next(t).Body), examples[kind]
		if got["type"] == beside {
			got = exact(t, told.Next(t).Body)
		}
		if got["type"] != kind || got["subscription_id"] != teller {
			t.Fatalf("heard %v, want %s", got, kind)
		}
		if kind == "test.webhook" && fmt.Sprint(got["data"]) != fmt.Sprint(want["data"]) {
			t.Errorf("%s has the data %v, want %v", kind, got["data"], want["data"])
		}
		for _, name := range []string{"is_active", "failed_attempts", "max_failed_attempts", "disabled_reason"} {
			if g, w := got["data"].(map[string]any)[name], want["data"].(map[string]any)[name]; g != w {
				t.Errorf("%s: %s is %v, and in the document %v", kind, name, g, w)
			}
		}
		if g, w := shape(got), shape(want); fmt.Sprint(g) != fmt.Sprint(w) {
			t.Errorf("%s has the form\n%v, and in the document\n%v", kind, g, w)
		}
	}
	p.call(http.MethodPost, "/api/v1/external/webhook-subscriptions/"+teller+"/test", map[string]any{"event_type": "test.webhook", "test_data": examples["test.webhook"]["data"]})
	hear("test.webhook", "")
	for _, step := range []struct {
		status       int64
		kind, beside string
	}{{500, "subscription.failing", ""}, {200, "subscription.recovered", ""}, {410, "subscription.disabled", "subscription.failing"}} {
		status.Store(step.status)
		p.book()
		hear(step.kind, step.beside)
	}
}
