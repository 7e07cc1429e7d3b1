package filter

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/krib-ai/krib/schemas"
)

// The objects of a filter. Their names have a space, so that no expression can
// make one, and stand in messages: "(a booking, string)".
var (
	eventType    = types.NewObjectType("an event")
	actorType    = types.NewObjectType("an actor")
	paymentType  = types.NewObjectType("a payment")
	bookingType  = types.NewObjectType("a booking")
	propertyType = types.NewObjectType("a property")
	guestType    = types.NewObjectType("a guest")
)

// A member is a field of an object: its type, and how it is read. An absent one
// reads as null where its type is a time or an object, and as empty or zero
// otherwise; has() tells.
type member struct {
	of  *types.Type
	get func(object any) ref.Val
}

// provider tells CEL of the objects. What it does not know is the library's.
type provider struct {
	*types.Registry
	objects map[string]map[string]member
}

var members = newProvider()

func newProvider() *provider {
	registry, err := types.NewRegistry()
	if err != nil {
		panic(err) // it is given nothing that could be wrong
	}
	return &provider{Registry: registry, objects: map[string]map[string]member{
		eventType.TypeName():    eventMembers,
		actorType.TypeName():    actorMembers,
		paymentType.TypeName():  paymentMembers,
		bookingType.TypeName():  bookingMembers,
		propertyType.TypeName(): propertyMembers,
		guestType.TypeName():    guestMembers,
	}}
}

// The members have the names that they have on the topic.
var (
	eventMembers = map[string]member{
		"id":              text(func(e *schemas.Event) schemas.EventID { return e.ID }),
		"type":            text(func(e *schemas.Event) schemas.EventType { return e.Type }),
		"version":         number(func(e *schemas.Event) int64 { return e.Version }),
		"occurred_at":     moment(func(e *schemas.Event) *time.Time { return &e.OccurredAt }),
		"actor":           part(actorType, func(e *schemas.Event) *schemas.Actor { return &e.Actor }),
		"changed":         names(func(e *schemas.Event) []string { return e.Changed }),
		"previous_status": text(func(e *schemas.Event) schemas.BookingStatus { return e.PreviousStatus }),
		"reminder":        text(func(e *schemas.Event) schemas.ReminderKind { return e.Reminder }),
		"payment":         part(paymentType, func(e *schemas.Event) *schemas.Payment { return e.Payment }),
		"auto_approved":   truth(func(e *schemas.Event) bool { return e.AutoApproved }),
	}
	actorMembers = map[string]member{
		"kind": text(func(a *schemas.Actor) schemas.ActorKind { return a.Kind }),
		"id":   text(func(a *schemas.Actor) string { return a.ID }),

		"platform": truth(func(a *schemas.Actor) bool { return a.Platform }),
	}
	paymentMembers = map[string]member{
		"method":     text(func(p *schemas.Payment) string { return p.Method }),
		"amount":     money(func(p *schemas.Payment) schemas.Amount { return p.Amount }),
		"currency":   text(func(p *schemas.Payment) string { return p.Currency }),
		"reference":  text(func(p *schemas.Payment) string { return p.Reference }),
		"at":         moment(func(p *schemas.Payment) *time.Time { return &p.At }),
		"provider":   text(func(p *schemas.Payment) string { return p.Provider }),
		"paid_total": money(func(p *schemas.Payment) schemas.Amount { return p.PaidTotal }),
	}
	bookingMembers = map[string]member{
		"id":                  text(func(b *schemas.Booking) schemas.BookingID { return b.ID }),
		"version":             number(func(b *schemas.Booking) int64 { return b.Version }),
		"agent_id":            text(func(b *schemas.Booking) schemas.AgentID { return b.AgentID }),
		"host_id":             text(func(b *schemas.Booking) schemas.HostID { return b.HostID }),
		"property":            part(propertyType, func(b *schemas.Booking) *schemas.PropertyRef { return &b.Property }),
		"status":              text(func(b *schemas.Booking) schemas.BookingStatus { return b.Status }),
		"check_in":            text(func(b *schemas.Booking) schemas.Date { return b.CheckIn }),
		"check_out":           text(func(b *schemas.Booking) schemas.Date { return b.CheckOut }),
		"nights":              number(func(b *schemas.Booking) int { return b.Nights }),
		"guests":              number(func(b *schemas.Booking) int { return b.Guests }),
		"guest":               part(guestType, func(b *schemas.Booking) *schemas.Guest { return &b.Guest }),
		"special_requests":    text(func(b *schemas.Booking) string { return b.SpecialRequests }),
		"total_amount":        money(func(b *schemas.Booking) schemas.Amount { return b.TotalAmount }),
		"currency":            text(func(b *schemas.Booking) string { return b.Currency }),
		"payment_method":      text(func(b *schemas.Booking) string { return b.PaymentMethod }),
		"payment_status":      text(func(b *schemas.Booking) schemas.PaymentStatus { return b.PaymentStatus }),
		"created_at":          moment(func(b *schemas.Booking) *time.Time { return &b.CreatedAt }),
		"updated_at":          moment(func(b *schemas.Booking) *time.Time { return &b.UpdatedAt }),
		"expires_at":          moment(func(b *schemas.Booking) *time.Time { return b.ExpiresAt }),
		"confirmed_at":        moment(func(b *schemas.Booking) *time.Time { return b.ConfirmedAt }),
		"cancelled_at":        moment(func(b *schemas.Booking) *time.Time { return b.CancelledAt }),
		"cancellation_reason": text(func(b *schemas.Booking) string { return b.CancellationReason }),
	}
	propertyMembers = map[string]member{
		"id":      text(func(p *schemas.PropertyRef) schemas.PropertyID { return p.ID }),
		"title":   text(func(p *schemas.PropertyRef) string { return p.Title }),
		"address": text(func(p *schemas.PropertyRef) string { return p.Address }),
		"city":    text(func(p *schemas.PropertyRef) string { return p.City }),
		"state":   text(func(p *schemas.PropertyRef) string { return p.State }),
	}
	guestMembers = map[string]member{
		"first_name":   text(func(g *schemas.Guest) string { return g.FirstName }),
		"last_name":    text(func(g *schemas.Guest) string { return g.LastName }),
		"email":        text(func(g *schemas.Guest) string { return g.Email }),
		"phone":        text(func(g *schemas.Guest) string { return g.Phone }),
		"country_code": text(func(g *schemas.Guest) string { return g.CountryCode }),
	}
)

func text[O any, S ~string](get func(*O) S) member {
	return of(types.StringType, types.String(""), func(o *O) ref.Val { return types.String(get(o)) })
}

func number[O any, N int | int64](get func(*O) N) member {
	return of(types.IntType, types.IntZero, func(o *O) ref.Val { return types.Int(get(o)) })
}

func truth[O any](get func(*O) bool) member {
	return of(types.BoolType, types.False, func(o *O) ref.Val { return types.Bool(get(o)) })
}

// money is a double of major units. Both it and the literal 44.50 are the double
// next to the same decimal, so the same amounts are equal; what is computed with
// them is not exact.
func money[O any](get func(*O) schemas.Amount) member {
	return of(types.DoubleType, types.Double(0), func(o *O) ref.Val { return types.Double(float64(get(o)) / 100) })
}

func moment[O any](get func(*O) *time.Time) member {
	return of(types.TimestampType, types.NullValue, func(o *O) ref.Val {
		if t := get(o); t != nil && !t.IsZero() {
			return types.Timestamp{Time: *t}
		}
		return types.NullValue
	})
}

func names[O any](get func(*O) []string) member {
	none := types.NewStringList(types.DefaultTypeAdapter, nil)
	return of(types.NewListType(types.StringType), none, func(o *O) ref.Val { return types.NewStringList(types.DefaultTypeAdapter, get(o)) })
}

func part[O, P any](t *types.Type, get func(*O) *P) member {
	return of(t, types.NullValue, func(o *O) ref.Val {
		if p := get(o); p != nil {
			return object{t, p}
		}
		return types.NullValue
	})
}

// of reads a member of an object that may be absent itself: then the member is.
func of[O any](t *types.Type, absent ref.Val, get func(*O) ref.Val) member {
	return member{of: t, get: func(v any) ref.Val {
		if o, ok := v.(*O); ok {
			return get(o)
		}
		return absent
	}}
}

func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := p.objects[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return nil, false
}

func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	fields, ok := p.objects[name]
	return slices.Sorted(maps.Keys(fields)), ok
}

func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	m, ok := p.objects[name][field]
	if !ok {
		return nil, false
	}
	return &types.FieldType{
		Type:    m.of,
		GetFrom: func(v any) (any, error) { return m.get(v), nil },
		IsSet:   func(v any) bool { return !empty(m.get(v)) },
	}, true
}

// empty is what has() calls absent: as on the topic, where members that may be
// left out are left out when they are empty.
func empty(v ref.Val) bool {
	z, ok := v.(interface{ IsZeroValue() bool })
	return v == types.NullValue || ok && z.IsZeroValue()
}

// NativeToValue wraps the variables themselves; members are wrapped where they are
// read.
func (p *provider) NativeToValue(v any) ref.Val {
	switch v.(type) {
	case *schemas.Event:
		return object{eventType, v}
	case *schemas.Booking:
		return object{bookingType, v}
	}
	return p.Registry.NativeToValue(v)
}

// An object is one of ours as a value of CEL. All that an expression can do with
// one is to read its members and to ask whether it is null or the same.
type object struct {
	t *types.Type
	v any
}

func (o object) Value() any     { return o.v }
func (o object) Type() ref.Type { return o.t }

func (o object) Equal(other ref.Val) ref.Val {
	x, ok := other.(object)
	return types.Bool(ok && reflect.DeepEqual(o.v, x.v))
}

func (o object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s is not a %s", o.t.TypeName(), t)
}

func (o object) ConvertToType(t ref.Type) ref.Val {
	return types.NewErr("%s is not a %s", o.t.TypeName(), t.TypeName())
}
