package schemas_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/schemas"
)

// enumTypes are the Go types of all enums, by their place in the schemas: an enum
// has every constant of its type, but the empty one.
var enumTypes = map[string]string{
	"booking-event.properties.previous_status":                      "BookingStatus",
	"booking-event.properties.reminder":                             "ReminderKind",
	"booking-event.properties.host_muted.items":                     "NotificationType",
	"booking-event.$defs.actor.properties.kind":                     "ActorKind",
	"booking-event.$defs.booking.properties.status":                 "BookingStatus",
	"host-notification.properties.kind":                             "FeedKind",
	"host-notification.$defs.notification.properties.type":          "NotificationType",
	"host-notification.$defs.notification.properties.priority":      "Priority",
	"host-notification.$defs.notification_update.properties.action": "FeedAction",
	"host-notification.$defs.booking_update.properties.status":      "BookingStatus",
	"webhook-delivery.properties.trigger":                           "Trigger",
	"webhook-attempt.properties.trigger":                            "Trigger",
	"webhook-attempt.properties.outcome":                            "Outcome",
	"webhook-attempt.properties.error_class":                        "ErrorClass",
	"webhook-subscription.properties.disabled_reason":               "DisabledReason",
	"webhook-subscription.properties.ordering":                      "Ordering",
	"webhook-subscription.$defs.secret.properties.algorithm":        "SigningAlgorithm",
}

// enumLists are those that are a part of their type's constants.
var enumLists = map[string][]schemas.EventType{
	"booking-event.properties.type":                                schemas.BookingEventTypes(),
	"host-notification.$defs.booking_update.properties.event_type": schemas.BookingEventTypes(),
	"webhook-subscription.properties.events.items":                 schemas.SubscribableEvents(),
}

// constants are the values of the package's constants by the names of their
// types, read from its source: what is added there is found here.
func constants(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			named, isNamed := spec.Type.(*ast.Ident)
			literal, isText := spec.Values[0].(*ast.BasicLit)
			if isNamed && isText && literal.Kind == token.STRING {
				if v, err := strconv.Unquote(literal.Value); err == nil && v != "" {
					out[named.Name] = append(out[named.Name], v)
				}
			}
			return true
		})
	}
	return out
}

// enums are all of a document by their places.
func enums(v any, path string, into map[string][]string) {
	switch v := v.(type) {
	case object:
		if e, ok := v["enum"].([]any); ok {
			into[path] = texts(e)
		}
		for name, m := range v {
			enums(m, path+"."+name, into)
		}
	case []any:
		for i, m := range v {
			enums(m, path+"."+strconv.Itoa(i), into)
		}
	}
}

func TestEnumsAreTheClosedSetsOfGo(t *testing.T) {
	of := constants(t)
	want := map[string][]string{}
	for place, name := range enumTypes {
		if len(of[name]) == 0 {
			t.Errorf("there are no constants of type %s", name)
		}
		want[place] = slices.Sorted(slices.Values(of[name]))
	}
	for place, list := range enumLists {
		for _, e := range list {
			want[place] = append(want[place], string(e))
		}
		slices.Sort(want[place])
	}
	got := map[string][]string{}
	for _, name := range schemas.SchemaNames() {
		enums(document(t, name), name, got)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("enums by their places (-Go +schemas):\n%s", diff)
	}
}

// A type of event is on booking.events, or can be subscribed to, or both.
func TestEveryTypeOfEventIsListed(t *testing.T) {
	listed := map[string]bool{}
	for _, e := range slices.Concat(schemas.BookingEventTypes(), schemas.SubscribableEvents()) {
		listed[string(e)] = true
	}
	all := slices.Sorted(slices.Values(constants(t)["EventType"]))
	if diff := cmp.Diff(all, slices.Sorted(maps.Keys(listed))); diff != "" {
		t.Errorf("types of event (-constants +listed):\n%s", diff)
	}
}

// What the lists say, in the order in which errors show it, are all constants.
func TestTheListsOfGoAreComplete(t *testing.T) {
	of := constants(t)
	for name, list := range map[string][]string{
		"NotificationType": listed(schemas.NotificationTypes()), "FeedKind": listed(schemas.FeedKinds()),
		"Priority": listed(schemas.Priorities()), "Ordering": listed(schemas.Orderings()), "BookingStatus": listed(statuses),
	} {
		if diff := cmp.Diff(slices.Sorted(slices.Values(of[name])), list); diff != "" {
			t.Errorf("%s (-constants +listed):\n%s", name, diff)
		}
	}
}

func listed[T ~string](all []T) (out []string) {
	for _, v := range all {
		out = append(out, string(v))
	}
	slices.Sort(out)
	return out
}
