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
	Preferences *preferencesBody `json:"notification_preferences"`
}

// preferencesBody are the types that Krib itself makes of bookings. What an agent
// sends to a host arrives whatever stands here, so guest_message is not among them.
type preferencesBody struct {
	NewBooking      *bool `json:"new_booking"`
	PaymentReceived *bool `json:"payment_received"`
	Urgent          *bool `json:"urgent"`
	BookingUpdate   *bool `json:"booking_update"`
}

func (b *settingsBody) command() producers.SettingsChange {
	c := producers.SettingsChange{
		AutoApprove: b.AutoApprove, Limit: b.Limit, Currency: b.Currency, Instant: b.Instant, Webhooks: b.Webhooks,
		Muted: map[schemas.NotificationType]bool{},
	}
	if p := b.Preferences; p != nil {
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
	Preferences preferencesView `json:"notification_preferences"`
	UpdatedAt   *time.Time      `json:"updated_at"`
}

type preferencesView struct {
	NewBooking      bool `json:"new_booking"`
	PaymentReceived bool `json:"payment_received"`
	Urgent          bool `json:"urgent"`
	BookingUpdate   bool `json:"booking_update"`
}

func viewSettings(h schemas.HostID, s *store.HostSettings) settingsView {
	wanted := func(t schemas.NotificationType) bool { return !slices.Contains(s.Muted, t) }
	return settingsView{
		HostID: h, AutoApprove: s.AutoApprove, Limit: s.Limit, Currency: s.Currency, Instant: s.Instant, Webhooks: s.Webhooks, UpdatedAt: s.UpdatedAt,
		Preferences: preferencesView{
			wanted(schemas.NewBooking), wanted(schemas.NotifyPayment), wanted(schemas.Urgent), wanted(schemas.NotifyBookingMove),
		},
	}
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
