package producers

import (
	"context"
	"errors"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// NewBooking is the input of CreateBooking: well-formed, but no rule is checked
// yet. Guest's e-mail is lower-cased where it is compared, kept as given.
type NewBooking struct {
	PropertyID      schemas.PropertyID
	CheckIn         schemas.Date
	CheckOut        schemas.Date
	Guests          int
	Guest           schemas.Guest
	SpecialRequests string
	TotalAmount     schemas.Amount
	PaymentMethod   string
}

// A BookingAnswer is the booking as it is after the command. Repeated says that
// it was there before: the same agent asked for the same stay again.
type BookingAnswer struct {
	Booking  schemas.Booking `json:"booking"`
	Repeated bool            `json:"repeated"`
}

// maxAhead is how far ahead a stay may begin, in days.
const maxAhead = 730

// CreateBooking checks the stay against its property and the other bookings and
// writes it as pending, with booking.created (version 1) and
// host.response_needed (version 2); or as confirmed, with booking.created and
// booking.confirmed, when its host approves such requests at once. The property's
// row is locked meanwhile, so of several callers for one night one wins and the
// others get a Conflict.
func (p *Producer) CreateBooking(ctx context.Context, s store.Scope, o *Once, in NewBooking) (BookingAnswer, error) {
	a, err := once(ctx, p, s, o, func(ctx context.Context, tx *store.Tx) (BookingAnswer, error) {
		c := change{tx: tx, actor: actor(s), now: p.Now()}
		stay, err := tx.LockStay(ctx, in.PropertyID, in.CheckIn, in.CheckOut)
		if err == nil {
			err = checkStay(&stay.Property, &in, c.now)
		}
		if err != nil {
			return c.standing(ctx, s, &in, err)
		}
		c.host = stay.Host
		if stay.Held {
			same, err := c.clearDates(ctx, s, &in)
			if err != nil || same != nil {
				return repeated(same), err
			}
		}
		b, err := c.create(ctx, s, &stay.Property, &in, &p.o)
		return BookingAnswer{Booking: b}, err
	})
	if errors.Is(err, store.ErrDatesTaken) {
		err = datesTaken(in.CheckIn, in.CheckOut)
	}
	return a, err
}

func repeated(b *schemas.Booking) BookingAnswer {
	if b == nil {
		return BookingAnswer{}
	}
	return BookingAnswer{Booking: *b, Repeated: true}
}

// standing answers the caller's own equal booking in the place of a refusal: what
// was booked already is not judged by today's price and today's rules.
func (c *change) standing(ctx context.Context, s store.Scope, in *NewBooking, refusal error) (BookingAnswer, error) {
	if k := schemas.KindOf(refusal); k != schemas.Rule && k != schemas.NotFound {
		return BookingAnswer{}, refusal
	}
	have, err := c.tx.HeldStay(ctx, s.Agent, in.PropertyID, in.CheckIn, in.CheckOut)
	if err != nil {
		return BookingAnswer{}, err
	}
	if have == nil || expired(have, c.now) || !sameStay(have, in) {
		return BookingAnswer{}, refusal
	}
	return BookingAnswer{Booking: *have, Repeated: true}, nil
}

// checkStay are the contract's checks, in its order, and the price.
func checkStay(p *store.Property, in *NewBooking, now time.Time) error {
	stay := Stay{CheckIn: in.CheckIn, CheckOut: in.CheckOut, Guests: in.Guests}
	if wrong := refusals(p, stay, todayAt(p, now)); len(wrong) > 0 {
		return wrong[0]
	}
	if q := QuoteStay(p, stay.nights()); q.Total != in.TotalAmount {
		e := schemas.Refuse(schemas.Rule, "price_mismatch", "total_amount", "equals", "total_amount is %s but the stay costs %s %s", in.TotalAmount, q.Currency, q.Total)
		e.Extra = map[string]any{"expected_amount": q.Total, "currency": q.Currency, "breakdown": q.Breakdown}
		return e
	}
	return nil
}

// A change is one command's work on bookings: what its events have in common.
type change struct {
	tx    *store.Tx
	actor schemas.Actor
	now   time.Time
	host  store.HostPolicy // of the bookings' host
	auto  bool             // the host's settings approve, nobody was asked
}

// clearDates looks at who holds the nights. Requests that have run out are
// expired on the spot, with their events; the caller's own equal request is
// returned; anything else is a Conflict. It sees other agents' bookings, so
// nothing of them leaves but their dates.
func (c *change) clearDates(ctx context.Context, s store.Scope, in *NewBooking) (*schemas.Booking, error) {
	held, err := c.tx.OverlappingBookings(ctx, in.PropertyID, in.CheckIn, in.CheckOut)
	if err != nil {
		return nil, err
	}
	var same *schemas.Booking
	for i := range held {
		b := &held[i]
		switch {
		case expired(b, c.now):
			if err := c.tx.AsPlatform(ctx, func() error { return c.expire(ctx, b) }); err != nil {
				return nil, err
			}
		case b.AgentID == s.Agent && sameStay(b, in):
			same = b
		default:
			return nil, datesTaken(b.CheckIn, b.CheckOut)
		}
	}
	return same, nil
}

func datesTaken(in, out schemas.Date) error {
	e := schemas.Errorf(schemas.Conflict, "dates_taken", "the property is booked from %s to %s", in, out)
	e.Fields = []schemas.FieldError{{Field: "check_in", Rule: "available", Message: e.Detail}}
	e.Extra = map[string]any{"conflict": map[string]any{"check_in": in, "check_out": out}}
	return e
}

func expired(b *schemas.Booking, now time.Time) bool {
	return b.Status == schemas.Pending && b.ExpiresAt != nil && !b.ExpiresAt.After(now)
}

func sameStay(b *schemas.Booking, in *NewBooking) bool {
	return b.CheckIn == in.CheckIn && b.CheckOut == in.CheckOut && b.Guests == in.Guests && b.TotalAmount == in.TotalAmount &&
		equalFold(b.Guest.Email, in.Guest.Email)
}

func (c *change) create(ctx context.Context, s store.Scope, p *store.Property, in *NewBooking, o *Options) (schemas.Booking, error) {
	expires := schemas.Stamp(c.now.Add(o.BookingTTL))
	b := schemas.Booking{
		ID: schemas.NewBookingID(), Version: 1, AgentID: s.Agent, HostID: p.HostID,
		Property: schemas.PropertyRef{ID: p.ID, Title: p.Title, Address: p.Address, City: p.City, State: p.State},
		Status:   schemas.Pending, CheckIn: in.CheckIn, CheckOut: in.CheckOut, Nights: in.CheckIn.NightsUntil(in.CheckOut),
		Guests: in.Guests, Guest: in.Guest, SpecialRequests: in.SpecialRequests, TotalAmount: in.TotalAmount, Currency: p.Currency,
		PaymentMethod: in.PaymentMethod, PaymentStatus: schemas.PaymentPending, CreatedAt: c.now, UpdatedAt: c.now, ExpiresAt: &expires,
	}
	c.auto = c.host.Instant && refusal(&c.host, &b) == ""
	if c.auto {
		b.Status, b.ConfirmedAt, b.ExpiresAt = schemas.Confirmed, &c.now, nil
	} else if err := c.checkPending(ctx, s, p, &b, o); err != nil {
		return b, err
	}
	created := c.event(schemas.BookingCreated, &b)
	created.Changed = []string{"status"}
	b.Version = 2
	rows, err := rowsOf(ctx, created, c.second(&b))
	if err != nil {
		return b, err
	}
	c.tx.InsertBooking(&b, rows)
	return b, nil
}

// second is what follows a booking's creation: the question to its host, or the
// word that nobody had to be asked. An instant booking is confirmed from its first
// version on, so that no reader takes it for one that waits; the second tells those
// who listen for confirmations only.
func (c *change) second(b *schemas.Booking) *schemas.Event {
	if c.auto {
		return c.event(schemas.BookingConfirmed, b)
	}
	e := c.event(schemas.HostResponseNeeded, b)
	e.Reminder = schemas.ReminderCreated
	return e
}

// event takes a copy of the booking as it is now.
func (c *change) event(t schemas.EventType, b *schemas.Booking) *schemas.Event {
	return &schemas.Event{
		ID: schemas.NewEventID(), Type: t, Version: b.Version, OccurredAt: c.now, Actor: c.actor, Booking: *b,
		Changed: []string{}, HostWebhooks: c.host.Webhooks, HostMuted: c.host.Muted, AutoApproved: c.auto,
	}
}

// rowsOf are the events' records, under one trace.
func rowsOf(ctx context.Context, events ...*schemas.Event) ([]store.OutboxRow, error) {
	ctx = schemas.WithTrace(ctx, schemas.TraceOf(ctx))
	rows := make([]store.OutboxRow, len(events))
	for i, e := range events {
		var err error
		if rows[i], err = row(ctx, string(schemas.BookingEvents), string(e.Booking.ID), e.Meta(), e); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// move carries a locked booking to another status, with its event. Whether it
// may is the caller's question.
func (c *change) move(ctx context.Context, b *schemas.Booking, to schemas.BookingStatus, reason string) error {
	from := b.Status
	changed := []string{"status", "updated_at"}
	b.Status, b.Version, b.UpdatedAt = to, b.Version+1, c.now
	if b.ExpiresAt != nil {
		b.ExpiresAt, changed = nil, append(changed, "expires_at")
	}
	switch to {
	case schemas.Confirmed:
		b.ConfirmedAt, changed = &c.now, append(changed, "confirmed_at")
	case schemas.Cancelled:
		b.CancelledAt, b.CancellationReason = &c.now, reason
		changed = append(changed, "cancelled_at", "cancellation_reason")
	case schemas.Pending, schemas.Completed, schemas.NoShow:
	}
	e := c.event(schemas.StatusEvent(to), b)
	e.Changed, e.PreviousStatus = changed, from
	rows, err := rowsOf(ctx, e)
	if err != nil {
		return err
	}
	c.tx.SaveBooking(b, rows)
	return nil
}

// expire cancels a request that has run out, in the name of the system.
func (c *change) expire(ctx context.Context, b *schemas.Booking) error {
	sys := *c
	sys.actor = schemas.Actor{Kind: schemas.ActorSystem, ID: "expiry"}
	return sys.move(ctx, b, schemas.Cancelled, "expired")
}
