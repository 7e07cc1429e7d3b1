package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// An Email is one thing that somebody is told by mail: a host, whose address is
// looked up when the mail leaves, or a guest at To.
type Email struct {
	ID         string // unique for as long as the row is kept
	Host       schemas.HostID
	To         string
	Content    []byte // JSON of the sink's own, without U+0000
	Urgent     bool
	HappenedAt time.Time
	ExpiresAt  *time.Time // after it there is nothing left to tell
	// AtOnce is for what must not wait for more; read by QueueEmails only.
	AtOnce bool
}

// QueueEmails takes what has to be mailed over and says how many were new. What
// was ever queued under an id, and what is for a host who wants no mail, is left
// out. What may wait for more waits for window, or for as long as what the host is
// told already does: so it all leaves at once. Emails must be in the order of
// their ids, so that two sinks that read the same records cannot deadlock.
func (t *Tx) QueueEmails(ctx context.Context, es []Email, window time.Duration) (int64, error) {
	var (
		ids, hosts, to, contents = make([]string, len(es)), make([]string, len(es)), make([]string, len(es)), make([]string, len(es))
		urgent, atOnce           = make([]bool, len(es)), make([]bool, len(es))
		happened, expires        = make([]time.Time, len(es)), make([]*time.Time, len(es))
	)
	for i := range es {
		e := &es[i]
		ids[i], hosts[i], to[i], contents[i] = e.ID, string(e.Host), e.To, string(e.Content)
		urgent[i], atOnce[i], happened[i], expires[i] = e.Urgent, e.AtOnce, e.HappenedAt, e.ExpiresAt
	}
	tag, err := t.tx.Exec(ctx, `
		insert into emails (id, host_id, recipient, content, urgent, happened_at, expires_at, due_at)
		select e.id, e.host_id, e.recipient, e.content::jsonb, e.urgent, e.happened_at, e.expires_at,
		  case when e.at_once then now() else coalesce((
		    select min(w.due_at) from emails w
		    where w.host_id = e.host_id and w.state = 'waiting' and w.mail_id is null and w.due_at between now() and now() + $9::interval),
		    now() + $9::interval) end
		from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::bool[], $7::timestamptz[], $8::timestamptz[])
		  as e (id, host_id, recipient, content, urgent, at_once, happened_at, expires_at)
		where e.host_id = '' or exists (select from krib_mailboxes m where m.host_id = e.host_id)
		on conflict (id) do nothing`,
		ids, hosts, to, contents, urgent, atOnce, happened, expires, window)
	if err != nil {
		return 0, fmt.Errorf("queueing %d mails: %w", len(es), err)
	}
	return tag.RowsAffected(), nil
}

// EmailsDueIn is how long it takes until there is something to send; false when
// nothing waits.
func (t *Tx) EmailsDueIn(ctx context.Context) (time.Duration, bool, error) {
	var wait *time.Duration
	err := t.tx.QueryRow(ctx, `
		select greatest((select e.due_at from emails e where e.state = 'waiting' order by e.due_at limit 1), next_at) - now()
		from email_turns where exists (select from emails e where e.state = 'waiting')`).Scan(&wait)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("looking for mail to send: %w", err)
	case wait == nil:
		return 0, false, nil
	}
	return *wait, true, nil
}

// EmailTurn waits for its turn to choose a mail, which lasts until the transaction
// ends, and says in how long one may leave.
func (t *Tx) EmailTurn(ctx context.Context) (time.Duration, error) {
	var wait time.Duration
	if err := t.tx.QueryRow(ctx, `select next_at - clock_timestamp() from email_turns for update`).Scan(&wait); err != nil {
		return 0, fmt.Errorf("waiting for the turn to send mail: %w", err)
	}
	return wait, nil
}

// A DueEmail is one whose time has come. MailID is the mail that it is bound to
// since somebody tried to send it.
type DueEmail struct {
	Email
	MailID   string
	Attempts int
}

const dueColumns = `id, host_id, recipient, content::text, urgent, happened_at, expires_at, coalesce(mail_id, ''), attempts`

func scanDue(row pgx.CollectableRow) (DueEmail, error) {
	var e DueEmail
	var content string
	err := row.Scan(&e.ID, &e.Host, &e.To, &content, &e.Urgent, &e.HappenedAt, &e.ExpiresAt, &e.MailID, &e.Attempts)
	e.Content = []byte(content)
	return e, err
}

// DueEmails are those of the mail that is next: the one that it was before, if it
// was tried; or all that is due for one host, up to limit; or what is for one
// guest. Only the transaction that has the turn may ask.
func (t *Tx) DueEmails(ctx context.Context, limit int) ([]DueEmail, error) {
	const due = `select ` + dueColumns + ` from emails where state = 'waiting' and due_at <= now() `
	first, err := t.dueEmails(ctx, due+`order by due_at, id limit 1`)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	switch f := &first[0]; {
	case f.MailID != "":
		return t.dueEmails(ctx, due+`and mail_id = $1 order by happened_at, id`, f.MailID)
	case f.Host != "":
		return t.dueEmails(ctx, due+`and mail_id is null and host_id = $1 order by due_at, happened_at, id limit $2`, string(f.Host), limit)
	}
	return first, nil
}

func (t *Tx) dueEmails(ctx context.Context, sql string, args ...any) ([]DueEmail, error) {
	rows, _ := t.tx.Query(ctx, sql, args...) // CollectRows reports the error
	es, err := pgx.CollectRows(rows, scanDue)
	if err != nil {
		return nil, fmt.Errorf("choosing a mail: %w", err)
	}
	return es, nil
}

// A Mailbox is where a host gets its mail, and when it wants none.
type Mailbox struct {
	Email, TimeZone string
	Quiet           schemas.QuietHours
}

// Mailbox is false for a host who wants no mail.
func (t *Tx) Mailbox(ctx context.Context, h schemas.HostID) (Mailbox, bool, error) {
	var m Mailbox
	err := t.tx.QueryRow(ctx, `
		select email, time_zone, quiet_hours, quiet_start, quiet_end, quiet_allows_urgent from krib_mailboxes where host_id = $1`, string(h)).
		Scan(&m.Email, &m.TimeZone, &m.Quiet.Enabled, &m.Quiet.Start, &m.Quiet.End, &m.Quiet.AllowUrgent)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return m, false, nil
	case err != nil:
		return m, false, fmt.Errorf("reading the mailbox of host %s: %w", h, err)
	}
	return m, true, nil
}

// HoldEmails puts chosen ones off until a time; what is next in its mail is chosen
// anew then.
func (t *Tx) HoldEmails(ctx context.Context, ids []string, until time.Time) error {
	if _, err := t.tx.Exec(ctx, `update emails set due_at = $2 where id = any ($1)`, ids, until); err != nil {
		return fmt.Errorf("holding mail back: %w", err)
	}
	return nil
}

// DropEmails ends chosen ones without a mail.
func (t *Tx) DropEmails(ctx context.Context, ids []string, reason string) error {
	_, err := t.tx.Exec(ctx, `update emails set state = 'dropped', reason = $2, ended_at = now() where id = any ($1)`, ids, reason)
	if err != nil {
		return fmt.Errorf("dropping mail: %w", err)
	}
	return nil
}

// A MailLease is the right to send a mail until a time, after which it is anybody
// else's. The time tells leases of one mail apart.
type MailLease struct {
	MailID string
	Until  time.Time
}

// LeaseEmails binds chosen ones to a mail that the caller sends within term, and
// lets the next mail of the cluster leave after gap.
func (t *Tx) LeaseEmails(ctx context.Context, mail string, ids []string, term, gap time.Duration) (MailLease, error) {
	l := MailLease{MailID: mail}
	err := t.tx.QueryRow(ctx, `
		with turn as (update email_turns set next_at = greatest(next_at, clock_timestamp()) + $4::interval),
		  lease (until) as materialized (select clock_timestamp() + $3::interval),
		  bound as (update emails set mail_id = $1, due_at = until from lease where id = any ($2))
		select until from lease`, mail, ids, term, gap).Scan(&l.Until)
	if err != nil {
		return l, fmt.Errorf("taking mail %s: %w", mail, err)
	}
	return l, nil
}

// EmailState is how a mail has ended.
type EmailState string

// The ends of a mail that was tried.
const (
	EmailSent    EmailState = "sent"
	EmailRefused EmailState = "refused" // for good, or too often
)

// EndMail writes how a mail has ended. False means that the lease was over and
// somebody else had taken the mail.
func (t *Tx) EndMail(ctx context.Context, l MailLease, s EmailState, reason string) (bool, error) {
	tag, err := t.tx.Exec(ctx, `
		update emails set state = $3, reason = $4, attempts = attempts + 1, ended_at = now()
		where mail_id = $1 and due_at = $2 and state = 'waiting'`, l.MailID, l.Until, string(s), reason)
	if err != nil {
		return false, fmt.Errorf("ending mail %s: %w", l.MailID, err)
	}
	return tag.RowsAffected() > 0, nil
}

// RetryMail lets a mail be tried again after a while. An attempt counts where the
// server had a chance to say something about the mail.
func (t *Tx) RetryMail(ctx context.Context, l MailLease, after time.Duration, counts bool, reason string) (bool, error) {
	tag, err := t.tx.Exec(ctx, `
		update emails set due_at = now() + $3::interval, reason = $4, attempts = attempts + $5::bool::int
		where mail_id = $1 and due_at = $2 and state = 'waiting'`, l.MailID, l.Until, after, reason, counts)
	if err != nil {
		return false, fmt.Errorf("putting off mail %s: %w", l.MailID, err)
	}
	return tag.RowsAffected() > 0, nil
}

// PurgeEmails forgets what was queued longer ago than the given age, which must be
// more than any record of it may be read again for. It needs RoleJobs.
func (t *Tx) PurgeEmails(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := t.tx.Exec(ctx, `delete from emails where queued_at < now() - $1::interval`, olderThan)
	if err != nil {
		return 0, fmt.Errorf("purging mail: %w", err)
	}
	return tag.RowsAffected(), nil
}
