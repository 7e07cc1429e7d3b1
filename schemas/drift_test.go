package schemas_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	segmentio "github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/schemas"
)

// types are the Go types of the schemas: the values themselves, and the objects
// inside them by their place in the schema.
var types = []struct {
	schema, def string
	value       any
}{
	{schemas.SchemaEvent, "", schemas.Event{}},
	{schemas.SchemaEvent, "booking", schemas.Booking{}},
	{schemas.SchemaEvent, "guest", schemas.Guest{}},
	{schemas.SchemaEvent, "property", schemas.PropertyRef{}},
	{schemas.SchemaEvent, "actor", schemas.Actor{}},
	{schemas.SchemaEvent, "payment", schemas.Payment{}},
	{schemas.SchemaSubscription, "", schemas.Subscription{}},
	{schemas.SchemaSubscription, "secret", schemas.SealedSecret{}},
	{schemas.SchemaDelivery, "", schemas.Delivery{}},
	{schemas.SchemaHold, "", schemas.Hold{}},
	{schemas.SchemaHold, "outstanding", schemas.Outstanding{}},
	{schemas.SchemaAttempt, "", schemas.Attempt{}},
	{schemas.SchemaFeed, "", schemas.FeedRecord{}},
	{schemas.SchemaFeed, "notification", schemas.Notification{}},
	{schemas.SchemaFeed, "notification_update", schemas.NotificationUpdate{}},
	{schemas.SchemaFeed, "booking_update", schemas.BookingUpdate{}},
	{schemas.SchemaProgress, "", schemas.Progress{}},
	{schemas.SchemaPoison, "", schemas.Poison{}},
}

// samples are valid values of the types whose zero value or "x" is none.
var samples = map[reflect.Type]any{
	reflect.TypeFor[schemas.BookingStatus]():    schemas.Confirmed,
	reflect.TypeFor[schemas.EventType]():        schemas.BookingConfirmed,
	reflect.TypeFor[schemas.ActorKind]():        schemas.ActorHost,
	reflect.TypeFor[schemas.ReminderKind]():     schemas.ReminderHalf,
	reflect.TypeFor[schemas.DisabledReason]():   schemas.DisabledByGone,
	reflect.TypeFor[schemas.Trigger]():          schemas.TriggerManual,
	reflect.TypeFor[schemas.Ordering]():         schemas.OrderLatest,
	reflect.TypeFor[schemas.SigningAlgorithm](): schemas.SignEd25519,
	reflect.TypeFor[schemas.Outcome]():          schemas.Gone,
	reflect.TypeFor[schemas.ErrorClass]():       schemas.ErrorOutOfTries,
	reflect.TypeFor[schemas.NotificationType](): schemas.Urgent,
	reflect.TypeFor[schemas.Priority]():         schemas.Low,
	reflect.TypeFor[schemas.FeedKind]():         schemas.FeedBooking,
	reflect.TypeFor[schemas.FeedAction]():       schemas.MarkedUnread,
	reflect.TypeFor[schemas.Date]():             schemas.Date("2026-04-10"),
	reflect.TypeFor[schemas.Amount]():           schemas.Amount(95000),
	reflect.TypeFor[time.Time]():                time.Date(2026, 3, 1, 9, 30, 0, 1000, time.UTC),
	reflect.TypeFor[segmentio.RawMessage]():     segmentio.RawMessage(`{"title":"x"}`),
}

// fill sets every member of v, however deep.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	if s, ok := samples[v.Type()]; ok {
		v.Set(reflect.ValueOf(s))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("AED")
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(200)
	case reflect.Uint8:
		v.SetUint('x')
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Struct:
		for member, f := range v.Fields() {
			if member.Name == "Payload" {
				f.SetString(`{"id":"evt_1"}`)
				continue
			}
			fill(t, f)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"ce_id": "x"}))
	default:
		t.Fatalf("cannot fill a %s: teach this test", v.Type())
	}
}

type object = map[string]any

func document(t *testing.T, name string) object {
	t.Helper()
	b, err := schemas.Schema(name)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, b).(object)
}

// compareNames holds a value against what its schema lists, member by member and
// object by object.
func compareNames(t *testing.T, root, schema object, value any, path string) {
	t.Helper()
	if r, ok := schema["$ref"].(string); ok {
		schema = root["$defs"].(object)[strings.TrimPrefix(r, "#/$defs/")].(object)
	}
	switch v := value.(type) {
	case object:
		props, ok := schema["properties"].(object)
		if !ok {
			return // an open object: its names are not ours
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(props)), slices.Sorted(maps.Keys(v))); diff != "" {
			t.Errorf("%s (-schema +Go):\n%s", path, diff)
		}
		for name, member := range v {
			if p, ok := props[name].(object); ok {
				compareNames(t, root, p, member, path+"."+name)
			}
		}
	case []any:
		for _, item := range v {
			compareNames(t, root, schema["items"].(object), item, path+"[]")
		}
	}
}

func TestAValueWithEveryMemberSetHasTheNamesOfItsSchema(t *testing.T) {
	for _, c := range types {
		if c.def != "" {
			continue
		}
		p := reflect.New(reflect.TypeOf(c.value))
		fill(t, p.Elem())
		b, err := schemas.Encode(p.Interface())
		if err != nil {
			t.Fatal(err)
		}
		root := document(t, c.schema)
		compareNames(t, root, root, parsed(t, b), c.schema)
		if err := compiled(t, c.schema).Validate(parsed(t, b)); err != nil {
			t.Errorf("%s: %v", c.schema, err)
		}
		back, err := recode[c.schema](b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(parsed(t, b), parsed(t, back), sameNumbers); diff != "" {
			t.Errorf("%s does not come back (-written +read):\n%s", c.schema, diff)
		}
	}
}

func TestWhatIsAlwaysWrittenIsWhatTheSchemaRequires(t *testing.T) {
	for _, c := range types {
		b, err := schemas.Encode(c.value) // a zero value: what can be left out is
		if err != nil {
			t.Fatal(err)
		}
		s := document(t, c.schema)
		if c.def != "" {
			s = s["$defs"].(object)[c.def].(object)
		}
		var want []string
		for _, r := range s["required"].([]any) {
			want = append(want, r.(string))
		}
		slices.Sort(want)
		got := slices.Sorted(maps.Keys(parsed(t, b).(object)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s (-required +always written):\n%s", c.schema, c.def, diff)
		}
	}
}

func TestEverySchemaSaysWhatItIs(t *testing.T) {
	want := slices.Sorted(maps.Keys(recode))
	if diff := cmp.Diff(want, schemas.SchemaNames()); diff != "" {
		t.Fatalf("schema files (-Go +files):\n%s", diff)
	}
	for _, name := range schemas.SchemaNames() {
		s := document(t, name)
		if got, want := s["$id"], schemas.SchemaBase+name+".json"; got != want {
			t.Errorf("$id of %s = %v, want %s", name, got, want)
		}
		if got, want := s["$schema"], "https://json-schema.org/draft/2020-12/schema"; got != want {
			t.Errorf("$schema of %s = %v, want %s", name, got, want)
		}
		describe(t, s, name)
	}
	if _, err := schemas.Schema("../codec"); err == nil {
		t.Error("a name that is no schema was read")
	}
}

// describe fails on a member without words, or one that closes an object: readers
// are tolerant.
func describe(t *testing.T, v any, path string) {
	t.Helper()
	o, ok := v.(object)
	if !ok {
		return
	}
	if o["additionalProperties"] == false || o["unevaluatedProperties"] != nil {
		t.Errorf("%s is closed", path)
	}
	for _, group := range []string{"properties", "$defs"} {
		members, _ := o[group].(object)
		for name, m := range members {
			if d, _ := m.(object)["description"].(string); d == "" {
				t.Errorf("%s.%s has no description", path, name)
			}
			describe(t, m, path+"."+name)
		}
	}
}

// An option that the codec does not know changes nothing, and reads as if it did.
func TestTagsSayOnlyWhatTheCodecHeeds(t *testing.T) {
	for _, c := range types {
		for f := range reflect.TypeOf(c.value).Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name == "-" {
				t.Errorf("%T.%s has no name on the wire", c.value, f.Name)
			}
			if options != "" && options != "omitempty" {
				t.Errorf("%T.%s has the option %q", c.value, f.Name, options)
			}
			if options == "omitempty" && f.Type.Kind() == reflect.Struct {
				t.Errorf("%T.%s is a struct, and never empty", c.value, f.Name)
			}
		}
	}
}
