package producers

import (
	"context"
	"slices"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// SettingsChange is what a host wants to be otherwise; nil leaves as it is.
type SettingsChange struct {
	AutoApprove *bool
	Limit       *schemas.Amount
	Currency    *string
	Instant     *bool
	Webhooks    *bool
	// Muted switches notifications of a type off (true) or on.
	Muted map[schemas.NotificationType]bool
	// Email is the address for mail; empty takes it away.
	Email    *string
	ByEmail  *bool
	TimeZone *string
	// Quiet hours: Start and End come together, and differ.
	Quiet, QuietAllowUrgent *bool
	QuietStart, QuietEnd    *schemas.TimeOfDay
}

// ChangeSettings changes the scope's host's settings and answers them whole. They
// steer what happens from the next change of a booking on.
func (p *Producer) ChangeSettings(ctx context.Context, s store.Scope, in SettingsChange) (store.HostSettings, error) {
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (store.HostSettings, error) {
		have, err := tx.LockHostSettings(ctx, s.Host)
		if err != nil {
			return have, err
		}
		in.apply(&have)
		now := p.Now()
		have.UpdatedAt = &now
		tx.SaveHostSettings(s.Host, &have)
		return have, nil
	})
}

func (in *SettingsChange) apply(s *store.HostSettings) {
	set(&s.AutoApprove, in.AutoApprove)
	set(&s.Limit, in.Limit)
	set(&s.Currency, in.Currency)
	set(&s.Instant, in.Instant)
	set(&s.Webhooks, in.Webhooks)
	set(&s.Email, in.Email)
	set(&s.ByEmail, in.ByEmail)
	set(&s.TimeZone, in.TimeZone)
	set(&s.Quiet.Enabled, in.Quiet)
	set(&s.Quiet.Start, in.QuietStart)
	set(&s.Quiet.End, in.QuietEnd)
	set(&s.Quiet.AllowUrgent, in.QuietAllowUrgent)
	var muted []schemas.NotificationType
	for _, t := range schemas.NotificationTypes() {
		off, said := in.Muted[t]
		if off || !said && slices.Contains(s.Muted, t) {
			muted = append(muted, t)
		}
	}
	s.Muted = muted
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// refusal says why a host's settings do not approve a booking; empty when they do.
// An amount equal to the limit is within it.
func refusal(p *store.HostPolicy, b *schemas.Booking) string {
	switch {
	case !p.AutoApprove:
		return "the host has not switched auto-approval on"
	case b.Currency != p.Currency:
		return "the host approves bookings in " + p.Currency + ", and this one is in " + b.Currency
	case b.TotalAmount > p.Limit:
		return "the amount of " + b.Currency + " " + b.TotalAmount.String() + " is over the host's limit of " + p.Limit.String()
	}
	return ""
}

// An ApprovalAnswer is the booking after the question whether its host's settings
// approve it, and the policy that decided. Reason is empty when they do.
type ApprovalAnswer struct {
	Booking schemas.Booking
	Policy  store.HostPolicy
	Reason  string
}

// AutoApprove confirms a pending booking if its host's settings allow it: the same
// move, with the same event, as a confirmation by the host.
func (p *Producer) AutoApprove(ctx context.Context, s store.Scope, id schemas.BookingID) (ApprovalAnswer, error) {
	return update(ctx, p, s, func(ctx context.Context, tx *store.Tx) (ApprovalAnswer, error) {
		b, err := tx.LockBooking(ctx, id)
		if err != nil {
			return ApprovalAnswer{}, err
		}
		c := change{tx: tx, actor: actor(s), now: p.Now(), auto: true}
		switch {
		case b.Status != schemas.Pending:
			return ApprovalAnswer{}, schemas.Errorf(schemas.Rule, "not_pending", "the booking is %s; only a pending one can be approved", b.Status)
		case expired(&b, c.now):
			return ApprovalAnswer{}, ranOut(&b)
		}
		if c.host, err = tx.HostPolicy(ctx, b.HostID); err != nil {
			return ApprovalAnswer{}, err
		}
		if why := refusal(&c.host, &b); why != "" {
			return ApprovalAnswer{Booking: b, Policy: c.host, Reason: why}, nil
		}
		err = c.move(ctx, &b, schemas.Confirmed, "")
		return ApprovalAnswer{Booking: b, Policy: c.host}, err
	})
}
