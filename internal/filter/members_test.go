package filter

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/krib-ai/krib/schemas"
)

// Whoever adds a member to the events' schema decides whether filters see it:
// what is left out here has a reason.
var hidden = []string{
	"an event.booking",       // a variable of its own
	"an event.host_webhooks", // when it is off, there is nothing to filter
	"an event.host_muted",    // of the host's inbox
}

func TestFiltersSeeTheMembersThatAreOnTheTopic(t *testing.T) {
	t.Parallel()
	for object, of := range map[*types.Type]reflect.Type{
		eventType: reflect.TypeFor[schemas.Event](), actorType: reflect.TypeFor[schemas.Actor](), paymentType: reflect.TypeFor[schemas.Payment](),
		bookingType: reflect.TypeFor[schemas.Booking](), propertyType: reflect.TypeFor[schemas.PropertyRef](), guestType: reflect.TypeFor[schemas.Guest](),
	} {
		var want []string
		for f := range of.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if slices.Contains(hidden, object.TypeName()+"."+name) {
				continue
			}
			want = append(want, name)
			got, ok := members.FindStructFieldType(object.TypeName(), name)
			if ok && !got.Type.IsExactType(typeOf(f.Type)) {
				t.Errorf("%s.%s is %s, and on the topic a %s", object, name, got.Type, f.Type)
			}
		}
		slices.Sort(want)
		if got, _ := members.FindStructFieldNames(object.TypeName()); !slices.Equal(got, want) {
			t.Errorf("%s has %v, and on the topic %v", object, got, want)
		}
	}
}

func typeOf(t reflect.Type) *types.Type {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[schemas.Amount]():
		return types.DoubleType
	case reflect.TypeFor[time.Time]():
		return types.TimestampType
	case reflect.TypeFor[schemas.Actor]():
		return actorType
	case reflect.TypeFor[schemas.Payment]():
		return paymentType
	case reflect.TypeFor[schemas.PropertyRef]():
		return propertyType
	case reflect.TypeFor[schemas.Guest]():
		return guestType
	}
	switch t.Kind() {
	case reflect.String:
		return types.StringType
	case reflect.Int, reflect.Int64:
		return types.IntType
	case reflect.Bool:
		return types.BoolType
	case reflect.Slice:
		return types.NewListType(types.StringType)
	default:
		return types.ErrorType
	}
}

// Each member reads the field of its own name, and a filled one is there.
func TestEveryMemberReadsItsOwnField(t *testing.T) {
	t.Parallel()
	for object, v := range map[*types.Type]any{
		eventType: &schemas.Event{}, actorType: &schemas.Actor{}, paymentType: &schemas.Payment{},
		bookingType: &schemas.Booking{}, propertyType: &schemas.PropertyRef{}, guestType: &schemas.Guest{},
	} {
		s := reflect.ValueOf(v).Elem()
		for i := range s.NumField() {
			name, _, _ := strings.Cut(s.Type().Field(i).Tag.Get("json"), ",")
			m, ok := members.FindStructFieldType(object.TypeName(), name)
			if !ok || s.Type().Field(i).Type.Kind() == reflect.Struct && s.Type().Field(i).Type != reflect.TypeFor[time.Time]() {
				continue // parts of an object are never absent
			}
			if m.IsSet(v) {
				t.Errorf("%s.%s is there before it is filled", object, name)
			}
			fill(s.Field(i))
			if !m.IsSet(v) {
				t.Errorf("%s.%s is not there when it is filled", object, name)
			}
			s.Field(i).SetZero()
		}
	}
}

func fill(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1, 0)))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if v.Type().Elem() == reflect.TypeFor[time.Time]() {
			fill(v.Elem())
		}
	case v.Kind() == reflect.String:
		v.SetString("x")
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	default:
		v.SetInt(1)
	}
}
