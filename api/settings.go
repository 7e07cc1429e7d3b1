package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// settingsBody leaves as it is what it does not name: a client that is older than
// a setting must not reset it.
type settingsBody struct {
	AutoApprove *bool            `json:"auto_approve_bookings"`
	Limit       *schemas.Amount  `json:"auto_approve_amount_limit" check:"min=0"`
	Currency    *string          `json:"auto_approve_currency" check:"as=currency"`
	Instant     *bool            `json:"instant_approval"`
	Webhooks    *bool            `json:"webhook_notifications"`
	Email       *string          `json:"email" check:"max=254,as=mailbox"` // empty takes it away
	TimeZone    *string          `json:"time_zone" check:"max=64,as=timezone"`
	Preferences *preferencesBody `json:"notification_preferences"`
}

// preferencesBody are the types that Krib itself makes of bookings, and the
// channels beside the inbox. What an agent sends to a host arrives whatever stands
// here, so guest_message is not among the types.
type preferencesBody struct {
	NewBooking      *bool      `json:"new_booking"`
	PaymentReceived *bool      `json:"payment_received"`
	Urgent          *bool      `json:"urgent"`
	BookingUpdate   *bool      `json:"booking_update"`
	Email           *bool      `json:"email"`
	Quiet           *quietBody `json:"quiet_hours"`
}

// quietBody are the hours in which no mail is sent, in the host's time zone.
type quietBody struct {
	Enabled     *bool   `json:"enabled"`
	Start       *string `json:"start" check:"as=timeofday"`
	End         *string `json:"end" check:"as=timeofday"`
	AllowUrgent *bool   `json:"allow_urgent"`
}

// check wants both ends of the quiet hours or none: one alone would be judged by
// what the other was.
func (b *settingsBody) check(add func(field, rule, message string)) {
	const at = "notification_preferences.quiet_hours."
	if b.Preferences == nil || b.Preferences.Quiet == nil {
		return
	}
	switch q := b.Preferences.Quiet; {
	case q.Start != nil && q.End == nil:
		add(at+"end", "required", "is required with start")
	case q.Start == nil && q.End != nil:
		add(at+"start", "required", "is required with end")
	case q.Start != nil && *q.Start == *q.End && *q.Start != "": // empty is one that was refused
		add(at+"end", "range", "must differ from start")
	}
}

func (q *quietBody) into(c *producers.SettingsChange) {
	c.Quiet, c.QuietAllowUrgent = q.Enabled, q.AllowUrgent
	for _, x := range []struct {
		to   **schemas.TimeOfDay
		from *string
	}{{&c.QuietStart, q.Start}, {&c.QuietEnd, q.End}} {
		if x.from != nil {
			t, _ := schemas.ParseTimeOfDay(*x.from) // its form was checked
			*x.to = &t
		}
	}
}

func (b *settingsBody) command() producers.SettingsChange {
	c := producers.SettingsChange{
		AutoApprove: b.AutoApprove, Limit: b.Limit, Currency: b.Currency, Instant: b.Instant, Webhooks: b.Webhooks,
		Muted: map[schemas.NotificationType]bool{}, Email: b.Email, TimeZone: b.TimeZone,
	}
	if p := b.Preferences; p != nil {
		c.ByEmail = p.Email
		if p.Quiet != nil {
			p.Quiet.into(&c)
		}
		for t, wanted := range map[schemas.NotificationType]*bool{
			schemas.NewBooking: p.NewBooking, schemas.NotifyPayment: p.PaymentReceived, schemas.Urgent: p.Urgent, schemas.NotifyBookingMove: p.BookingUpdate,
		} {
			if wanted != nil {
				c.Muted[t] = !*wanted
			}
		}
	}
	return c
}

type settingsView struct {
	HostID      schemas.HostID  `json:"host_id"`
	AutoApprove bool            `json:"auto_approve_bookings"`
	Limit       schemas.Amount  `json:"auto_approve_amount_limit"`
	Currency    string          `json:"auto_approve_currency"`
	Instant     bool            `json:"instant_approval"`
	Webhooks    bool            `json:"webhook_notifications"`
	Email       *string         `json:"email"`
	TimeZone    string          `json:"time_zone"`
	Preferences preferencesView `json:"notification_preferences"`
	UpdatedAt   *time.Time      `json:"updated_at"`
}

type preferencesView struct {
	NewBooking      bool      `json:"new_booking"`
	PaymentReceived bool      `json:"payment_received"`
	Urgent          bool      `json:"urgent"`
	BookingUpdate   bool      `json:"booking_update"`
	Email           bool      `json:"email"`
	Quiet           quietView `json:"quiet_hours"`
}

type quietView struct {
	Enabled     bool   `json:"enabled"`
	Start       string `json:"start"`
	End         string `json:"end"`
	AllowUrgent bool   `json:"allow_urgent"`
}

func viewSettings(h schemas.HostID, s *store.HostSettings) settingsView {
	wanted := func(t schemas.NotificationType) bool { return !slices.Contains(s.Muted, t) }
	v := settingsView{
		HostID: h, AutoApprove: s.AutoApprove, Limit: s.Limit, Currency: s.Currency, Instant: s.Instant, Webhooks: s.Webhooks, UpdatedAt: s.UpdatedAt,
		TimeZone: s.TimeZone,
		Preferences: preferencesView{
			wanted(schemas.NewBooking), wanted(schemas.NotifyPayment), wanted(schemas.Urgent), wanted(schemas.NotifyBookingMove), s.ByEmail,
			quietView{s.Quiet.Enabled, s.Quiet.Start.String(), s.Quiet.End.String(), s.Quiet.AllowUrgent},
		},
	}
	if s.Email != "" {
		v.Email = &s.Email
	}
	return v
}

func (s *server) hostSettings(r *http.Request, p auth.Principal) (answer, error) {
	var have store.HostSettings
	err := s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) (err error) {
		have, err = tx.HostSettings(ctx, p.Host)
		return err
	})
	return answer{data: viewSettings(p.Host, &have)}, err
}

func (s *server) changeHostSettings(r *http.Request, p auth.Principal) (answer, error) {
	in, _, err := decode[settingsBody](r, strict)
	if err != nil {
		return answer{}, err
	}
	have, err := s.o.Producer.ChangeSettings(r.Context(), p.Scope(), in.command())
	return answer{data: viewSettings(p.Host, &have), message: "Settings saved"}, err
}

type approvedView struct {
	BookingID     schemas.BookingID     `json:"booking_id"`
	Status        schemas.BookingStatus `json:"status"`
	Version       int64                 `json:"version"`
	AutoApproved  bool                  `json:"auto_approved"`
	ConfirmedAt   *time.Time            `json:"confirmed_at"`
	Amount        schemas.Amount        `json:"amount"`
	AmountLimit   schemas.Amount        `json:"amount_limit"`
	Currency      string                `json:"currency"`
	HostID        schemas.HostID        `json:"host_id"`
	PropertyTitle string                `json:"property_title"`
}

type notApprovedView struct {
	BookingID schemas.BookingID `json:"booking_id"`
	Enabled   bool              `json:"auto_approve_enabled"`
	Limit     *schemas.Amount   `json:"amount_limit,omitempty"` // these three where the host approves some
	Currency  string            `json:"limit_currency,omitempty"`
	Amount    *schemas.Amount   `json:"booking_amount,omitempty"`
	Reason    string            `json:"reason"`
}

// autoApprove answers a refusal as the contract does: 200, and no success.
func (s *server) autoApprove(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "booking_id")
	if err != nil {
		return answer{}, err
	}
	a, err := s.o.Producer.AutoApprove(r.Context(), p.Scope(), schemas.BookingID(id))
	if err != nil {
		return answer{}, err
	}
	b, limit := &a.Booking, a.Policy.Limit
	if a.Reason != "" {
		v := notApprovedView{BookingID: b.ID, Enabled: a.Policy.AutoApprove, Reason: a.Reason}
		if v.Enabled {
			v.Limit, v.Currency, v.Amount = &limit, a.Policy.Currency, &b.TotalAmount
		}
		return answer{refused: true, message: "Not approved: " + a.Reason, etag: etag(b.Version), data: v}, nil
	}
	return answer{message: "Booking approved by its host's settings", etag: etag(b.Version), data: approvedView{
		BookingID: b.ID, Status: b.Status, Version: b.Version, AutoApproved: true, ConfirmedAt: b.ConfirmedAt, Amount: b.TotalAmount,
		AmountLimit: limit, Currency: b.Currency, HostID: b.HostID, PropertyTitle: b.Property.Title,
	}}, nil
}
