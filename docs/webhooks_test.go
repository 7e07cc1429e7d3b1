package docs_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/filter"
	"github.com/krib-ai/krib/schemas"
)

func TestTheDocumentedFiltersCompile(t *testing.T) {
	t.Parallel()
	n := 0
	for _, b := range blocks(t, "WEBHOOKS.md") {
		if b.language != "cel" {
			continue
		}
		for line := range strings.Lines(b.text) {
			n++
			f, err := filter.Compile(strings.TrimSpace(line))
			if err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			for _, event := range []string{"created", "part-paid", "response-needed", "bare", "full"} {
				e := golden(t, event)
				if _, err := f.Matches(t.Context(), &e); err != nil {
					t.Errorf("%s has no answer for the event %s: %v", line, event, err)
				}
			}
		}
	}
	if n == 0 {
		t.Error("there are none")
	}
}

func golden(t *testing.T, name string) schemas.Event {
	t.Helper()
	b, err := os.ReadFile("../schemas/testdata/v1/booking-event." + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	e, err := schemas.Decode[schemas.Event](b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// sent is the body of an event's webhook.
func sent(t *testing.T, e *schemas.Event) []byte {
	t.Helper()
	body, err := schemas.BodyOf(e)
	if err != nil {
		t.Fatal(err)
	}
	b, err := schemas.Encode(body.For("https://agent.example.com/hooks/krib", "sub_019500000000700080000000000000d1"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheDocumentedBodiesAreWhatIsSent(t *testing.T) {
	t.Parallel()
	for _, b := range append(blocks(t, "WEBHOOKS.md"), blocks(t, "EVENTS.md")...) {
		if b.language != "json" || b.use == "received" {
			continue
		}
		e := golden(t, b.name)
		want := exact(t, sent(t, &e))
		switch b.use {
		case "data":
			want = want["data"].(map[string]any)
		case "payment_info":
			want = want["data"].(map[string]any)["payment_info"].(map[string]any)
		case "pulled": // what belongs to a subscription is null
			want["external_agent_url"], want["subscription_id"] = nil, nil
		}
		if got := exact(t, []byte(b.text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s of %s:\ngot  %v\nwant %v", b.use, b.name, got, want)
		}
	}
}

func TestTheDocumentNamesEveryEventOrderingAndDelay(t *testing.T) {
	t.Parallel()
	text := read(t, "WEBHOOKS.md")
	for _, e := range schemas.SubscribableEvents() {
		if !strings.Contains(text, "`"+string(e)+"`") {
			t.Errorf("%s is missing", e)
		}
	}
	for _, o := range schemas.Orderings() {
		if !strings.Contains(text, "| `"+string(o)+"` |") {
			t.Errorf("the ordering %s is missing", o)
		}
	}
	if want := "after " + delays(); !strings.Contains(text, want) {
		t.Errorf("the delays are %q", want)
	}
}

// delays are those between attempts, as documents say them.
func delays() string {
	var all []string
	for _, d := range schemas.DefaultLadder() {
		switch {
		case d < time.Minute:
			all = append(all, fmt.Sprintf("%d s", d/time.Second))
		case d < time.Hour:
			all = append(all, fmt.Sprintf("%d m", d/time.Minute))
		default:
			all = append(all, fmt.Sprintf("%d h", d/time.Hour))
		}
	}
	last := len(all) - 1
	return strings.Join(all[:last], ", ") + " and " + all[last]
}
