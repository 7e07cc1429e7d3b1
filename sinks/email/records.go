package email

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// An entry is one thing that a mail tells, as it is kept in Postgres.
type entry struct {
	Title   string `json:"title"`
	Message string `json:"message"`
	Link    string `json:"link,omitempty"` // as the notification has it
	Facts   []fact `json:"facts,omitempty"`
}

type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// decode picks out of a batch what has to be mailed, each id once and in order.
func (s *Sink) decode(ctx context.Context, rs []*kgo.Record) (es []store.Email, bad []*kgo.Record) {
	now := time.Now()
	for _, r := range rs {
		e, err := emailOf(r)
		switch {
		case err != nil:
			s.o.Logger.ErrorContext(ctx, "a record could not be decoded; it is on krib.poison",
				slog.String("topic", r.Topic), slog.Int("partition", int(r.Partition)), slog.Int64("offset", r.Offset), slog.Any("error", err))
			if p, err := kafka.PoisonOf(Group, r, err); err == nil {
				bad = append(bad, p)
			}
		case e == nil:
		case now.Sub(e.HappenedAt) > oldest:
			s.m.dropped.WithLabelValues(old).Inc()
		default:
			es = append(es, *e)
		}
	}
	slices.SortStableFunc(es, func(a, b store.Email) int { return strings.Compare(a.ID, b.ID) })
	es = slices.CompactFunc(es, func(a, b store.Email) bool { return a.ID == b.ID })
	return es, bad
}

// emailOf is what a record has to tell by mail, or nil.
func emailOf(r *kgo.Record) (*store.Email, error) {
	if r.Topic == string(schemas.HostNotifications) {
		f, err := schemas.Decode[schemas.FeedRecord](r.Value)
		if err != nil || f.Kind != schemas.FeedNotification {
			return nil, err
		}
		return hostEmail(f.Notification)
	}
	e, err := schemas.Decode[schemas.Event](r.Value)
	if err != nil || e.Type != schemas.BookingConfirmed && e.Type != schemas.BookingCancelled {
		return nil, err
	}
	return guestEmail(&e)
}

func hostEmail(n *schemas.Notification) (*store.Email, error) {
	if n == nil || n.ID == "" || n.HostID == "" || !n.Type.Known() {
		return nil, errors.New("a notification record without a valid notification")
	}
	e := &store.Email{
		ID: clean(string(n.ID)), Host: schemas.HostID(clean(string(n.HostID))), Urgent: n.Type == schemas.Urgent,
		AtOnce: n.Type == schemas.Urgent || n.ActionRequired, HappenedAt: n.CreatedAt, ExpiresAt: n.ExpiresAt,
	}
	return with(e, entry{Title: n.Title, Message: n.Message, Link: n.ActionURL})
}

// guestEmail tells a guest what has become of its booking. Why a booking was
// cancelled is between host and agent, and not told.
func guestEmail(ev *schemas.Event) (*store.Email, error) {
	b := &ev.Booking
	if ev.ID == "" || b.ID == "" || b.Guest.Email == "" {
		return nil, errors.New("a booking event without id, booking or guest")
	}
	e := &store.Email{ID: clean(string(ev.ID)) + ":guest", To: clean(b.Guest.Email), AtOnce: true, HappenedAt: ev.OccurredAt}
	what := entry{Facts: []fact{
		{"Where", place(&b.Property)},
		{"Check-in", string(b.CheckIn)},
		{"Check-out", string(b.CheckOut)},
		{"Nights", strconv.Itoa(b.Nights)},
		{"Guests", strconv.Itoa(b.Guests)},
		{"Amount", b.Currency + " " + b.TotalAmount.String()},
		{"Booking", string(b.ID)},
	}}
	hello := "Dear " + b.Guest.Name() + ", "
	switch {
	case ev.Type == schemas.BookingConfirmed:
		what.Title, what.Message = "Your booking is confirmed", hello+"your stay at "+b.Property.Title+" is confirmed."
	case ev.PreviousStatus == schemas.Confirmed:
		what.Title, what.Message = "Your booking is cancelled", hello+"your booking of "+b.Property.Title+" has been cancelled."
	case b.CancellationReason == "expired":
		what.Title, what.Message = "Your booking request has expired", hello+"your request to stay at "+b.Property.Title+" was not answered in time. Nothing is booked."
	default:
		what.Title, what.Message = "Your booking request is cancelled", hello+"your request to stay at "+b.Property.Title+" has been cancelled. Nothing is booked."
	}
	return with(e, what)
}

func place(p *schemas.PropertyRef) string {
	parts := slices.DeleteFunc([]string{p.Title, p.Address, p.City, p.State}, func(s string) bool { return s == "" })
	return strings.Join(slices.Compact(parts), ", ")
}

func with(e *store.Email, what entry) (*store.Email, error) {
	for _, text := range []*string{&what.Title, &what.Message, &what.Link} {
		*text = clean(*text)
	}
	for i := range what.Facts {
		what.Facts[i].Value = clean(what.Facts[i].Value)
	}
	content, err := schemas.Encode(what)
	e.Content = content
	return e, err
}

// clean makes a text that Postgres takes, whoever wrote the record: valid UTF-8
// without U+0000.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
