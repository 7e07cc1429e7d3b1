package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// A HostPolicy is what a host's settings say about its bookings, as far as others'
// commands act on it.
type HostPolicy struct {
	Webhooks    bool                       `db:"webhooks"`
	AutoApprove bool                       `db:"auto_approve"`
	Instant     bool                       `db:"instant"` // at creation, of what may be approved
	Limit       schemas.Amount             `db:"approve_limit"`
	Currency    string                     `db:"approve_currency"`
	Muted       []schemas.NotificationType `db:"muted"`
}

// policyColumns are of krib_host_switches, which is h here; a host that never
// changed a setting has no row, and the table's defaults.
const policyColumns = `
coalesce(h.webhook_notifications, true) as webhooks, coalesce(h.auto_approve_bookings, false) as auto_approve,
coalesce(h.instant_approval, false) as instant, coalesce(h.auto_approve_amount_limit, 100000) as approve_limit,
coalesce(h.auto_approve_currency, 'AED') as approve_currency, coalesce(h.muted_notifications, '{}') as muted`

// HostPolicy reads a host's policy, whoever asks: it shows no more than that.
func (t *Tx) HostPolicy(ctx context.Context, h schemas.HostID) (HostPolicy, error) {
	rows, _ := t.tx.Query(ctx, `select `+policyColumns+`
		from (values ($1)) as host (id) left join krib_host_switches h on h.host_id = host.id`, string(h)) // CollectExactlyOneRow reports the error
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[HostPolicy])
	if err != nil {
		return p, fmt.Errorf("reading the policy of host %s: %w", h, err)
	}
	return p, nil
}

// HostSettings are what a host has decided for its homes. The zero value is not
// the default; see [Tx.HostSettings].
type HostSettings struct {
	AutoApprove bool
	Limit       schemas.Amount
	Currency    string
	Instant     bool
	Webhooks    bool
	Muted       []schemas.NotificationType
	Email       string // where its mail goes; empty for nowhere
	ByEmail     bool   // whether it wants its notifications there too
	TimeZone    string
	Quiet       schemas.QuietHours
	UpdatedAt   *time.Time // nil before the first change
}

// HostSettings are the host's own; the defaults if it never changed any.
func (t *Tx) HostSettings(ctx context.Context, h schemas.HostID) (HostSettings, error) {
	return t.hostSettings(ctx, h, "")
}

// LockHostSettings reads them and keeps others from changing them until the
// transaction ends. A host that has none gets a row with the defaults, and is
// known from then on: its token is older than its first home.
func (t *Tx) LockHostSettings(ctx context.Context, h schemas.HostID) (HostSettings, error) {
	t.tx.queue("making host "+string(h), `insert into hosts (id, name) values ($1, '') on conflict do nothing`, string(h))
	t.tx.queue("making the settings of host "+string(h), `insert into host_settings (host_id) values ($1) on conflict do nothing`, string(h))
	return t.hostSettings(ctx, h, " for no key update")
}

func (t *Tx) hostSettings(ctx context.Context, h schemas.HostID, rest string) (HostSettings, error) {
	s := HostSettings{
		Limit: 100000, Currency: "AED", Webhooks: true, ByEmail: true, TimeZone: "Asia/Dubai",
		Quiet: schemas.QuietHours{Start: 22 * 60, End: 7 * 60, AllowUrgent: true},
	}
	err := t.tx.QueryRow(ctx, `
		select auto_approve_bookings, auto_approve_amount_limit, auto_approve_currency, instant_approval, webhook_notifications,
		  muted_notifications, email, email_notifications, time_zone, quiet_hours, quiet_start, quiet_end, quiet_allows_urgent, updated_at
		from host_settings where host_id = $1`+rest, string(h)).
		Scan(&s.AutoApprove, &s.Limit, &s.Currency, &s.Instant, &s.Webhooks, &s.Muted, &s.Email, &s.ByEmail, &s.TimeZone,
			&s.Quiet.Enabled, &s.Quiet.Start, &s.Quiet.End, &s.Quiet.AllowUrgent, &s.UpdatedAt)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, nil
	case err != nil:
		return s, fmt.Errorf("reading the settings of host %s: %w", h, err)
	}
	*s.UpdatedAt = schemas.Stamp(*s.UpdatedAt)
	slices.Sort(s.Muted)
	return s, nil
}

// SaveHostSettings writes settings that were locked by this transaction, with its
// commit.
func (t *Tx) SaveHostSettings(h schemas.HostID, s *HostSettings) {
	t.tx.queue("saving the settings of host "+string(h), `
		update host_settings set auto_approve_bookings = $2, auto_approve_amount_limit = $3, auto_approve_currency = $4,
		  instant_approval = $5, webhook_notifications = $6, muted_notifications = $7, updated_at = $8, email = $9,
		  email_notifications = $10, time_zone = $11, quiet_hours = $12, quiet_start = $13, quiet_end = $14, quiet_allows_urgent = $15
		where host_id = $1`,
		string(h), s.AutoApprove, int64(s.Limit), s.Currency, s.Instant, s.Webhooks, texts(s.Muted), s.UpdatedAt, s.Email,
		s.ByEmail, s.TimeZone, s.Quiet.Enabled, int16(s.Quiet.Start), int16(s.Quiet.End), s.Quiet.AllowUrgent)
}
