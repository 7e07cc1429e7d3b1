package push

import (
	"slices"

	"github.com/krib-ai/krib/schemas"
)

// A label is what filters ask of an entry. It is read off the record once, when
// that is decoded, so that a frame for thousands is not looked into for each.
type label struct {
	kind, class uint8 // one bit each: of the kind, and of a notification's type
	rank        uint8 // of a notification's priority, the highest is 1
	property    string
}

// bit is the place of v among the closed list; 0 for a stranger, such as the type
// that a later program has added.
func bit[T comparable](all []T, v T) uint8 {
	i := slices.Index(all, v)
	if i < 0 {
		return 0
	}
	return 1 << i
}

func labelOf(rec *schemas.FeedRecord) label {
	l := label{kind: bit(schemas.FeedKinds(), rec.Kind)}
	switch {
	case rec.Kind == schemas.FeedNotification && rec.Notification != nil:
		l.class = bit(schemas.NotificationTypes(), rec.Notification.Type)
		l.rank = rank(rec.Notification.Priority)
		l.property = rec.Notification.PropertyID
	case rec.Kind == schemas.FeedBooking && rec.Booking != nil:
		l.property = string(rec.Booking.PropertyID)
	}
	return l
}

// rank is a priority's place, from 1; one that is not known is the least.
func rank(p schemas.Priority) uint8 {
	all := schemas.Priorities()
	if i := slices.Index(all, p); i >= 0 {
		return uint8(i + 1)
	}
	return uint8(len(all))
}

// A filter is a schemas.FeedFilter as it is asked for each frame; zero members do
// not narrow.
type filter struct {
	kinds, classes uint8
	rank           uint8
	property       string
}

const (
	bitNotification = 1 << iota // as bit says of FeedKinds, which a test holds
	_
	bitBooking
)

func compile(f schemas.FeedFilter) filter {
	out := filter{property: f.Property}
	for _, k := range f.Kinds {
		out.kinds |= bit(schemas.FeedKinds(), k)
	}
	for _, t := range f.Types {
		out.classes |= bit(schemas.NotificationTypes(), t)
	}
	if f.MinPriority != "" {
		out.rank = rank(f.MinPriority)
	}
	return out
}

// lets says whether a frame passes. Types and priorities are of notifications;
// what happened to one later, announcements and custom events pass them, and
// those of no property pass a property.
func (f *filter) lets(l *label) bool {
	if f.kinds != 0 && f.kinds&l.kind == 0 {
		return false
	}
	if f.property != "" && l.kind&(bitNotification|bitBooking) != 0 && l.property != f.property {
		return false
	}
	if l.kind != bitNotification {
		return true
	}
	return (f.classes == 0 || f.classes&l.class != 0) && (f.rank == 0 || l.rank <= f.rank)
}
