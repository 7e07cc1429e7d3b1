package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// maxTickets is how many tickets a host may have that nobody has used: more than
// any number of dashboards that open at once.
const maxTickets = 100

// InsertTicket keeps the hash of a ticket that opens the host's stream once.
// Until is when the stream that it opens has to end.
func (t *Tx) InsertTicket(ctx context.Context, hash []byte, h schemas.HostID, until time.Time, life time.Duration) error {
	tag, err := t.tx.Exec(ctx, `
		insert into stream_tickets (hash, host_id, until, expires_at)
		select $1::bytea, $2::text, $3::timestamptz, least(now() + $4::interval, $3::timestamptz)
		where (select count(*) from stream_tickets where host_id = $2::text and expires_at > now()) < $5`,
		hash, string(h), until, life, maxTickets)
	if err != nil {
		return fmt.Errorf("keeping a ticket of %s: %w", h, err)
	}
	if tag.RowsAffected() == 0 {
		return schemas.Errorf(schemas.TooMany, "too_many_tickets", "this host has %d tickets that nobody has used; use one, or wait until they end", maxTickets)
	}
	return nil
}

// RedeemTicket uses a ticket up and returns when its stream has to end. One that
// is not there, was used, has ended or is of another host is Unauthorized.
func (t *Tx) RedeemTicket(ctx context.Context, hash []byte, h schemas.HostID) (time.Time, error) {
	var until time.Time
	err := t.tx.QueryRow(ctx, `delete from stream_tickets where hash = $1 and host_id = $2 and expires_at > now() returning until`, hash, string(h)).Scan(&until)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return until, schemas.Errorf(schemas.Unauthorized, "invalid_ticket", "the ticket has been used, has ended, or is of another host")
	case err != nil:
		return until, fmt.Errorf("redeeming a ticket of %s: %w", h, err)
	}
	return until, nil
}

// PurgeTickets forgets tickets that nobody has used in time. It needs RoleJobs.
func (t *Tx) PurgeTickets(ctx context.Context) (int64, error) {
	tag, err := t.tx.Exec(ctx, `delete from stream_tickets where expires_at < now()`)
	if err != nil {
		return 0, fmt.Errorf("purging tickets: %w", err)
	}
	return tag.RowsAffected(), nil
}
