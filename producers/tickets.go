package producers

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// TicketLife is how long a ticket waits to be used.
const TicketLife = time.Minute

// IssueTicket makes a ticket that opens the stream of the scope's host once, in
// any process. The stream ends at until. Only a hash of the ticket is kept.
func (p *Producer) IssueTicket(ctx context.Context, s store.Scope, until time.Time) (schemas.Secret, error) {
	ticket := "tkt_" + rand.Text()
	hash := sha256.Sum256([]byte(ticket))
	err := p.o.DB.Update(ctx, s, func(ctx context.Context, tx *store.Tx) error {
		return tx.InsertTicket(ctx, hash[:], s.Host, until, TicketLife)
	})
	return schemas.Secret(ticket), err
}

// A Pass is what a browser carries from the stream that a ticket opened to its
// reconnects. An EventSource comes back by itself with the URL that it has, and so
// with a ticket that is used up.
type Pass struct {
	Until  time.Time `json:"until"`
	Ticket []byte    `json:"ticket"` // the hash of the one that it was given for
}

// IsOf says whether the pass was given for the ticket.
func (p *Pass) IsOf(ticket string) bool {
	hash := sha256.Sum256([]byte(ticket))
	return bytes.Equal(p.Ticket, hash[:])
}

// RedeemTicket uses up a ticket of a host and returns the pass that stands for it
// from now on. Of many who come with one ticket, one gets it.
func (p *Producer) RedeemTicket(ctx context.Context, h schemas.HostID, ticket string) (Pass, error) {
	hash := sha256.Sum256([]byte(ticket))
	pass := Pass{Ticket: hash[:]}
	err := p.o.DB.Update(ctx, store.Scope{Host: h}, func(ctx context.Context, tx *store.Tx) (err error) {
		pass.Until, err = tx.RedeemTicket(ctx, hash[:], h)
		return err
	})
	return pass, err
}

// SealPass makes the text of a pass. It opens for this host only, in every process
// that has the ring, and needs no table: reconnects do not wait for Postgres.
func (p *Producer) SealPass(h schemas.HostID, pass Pass) (schemas.Secret, error) {
	b, err := schemas.Encode(pass)
	if err != nil {
		return "", err
	}
	return schemas.Secret(base64.RawURLEncoding.EncodeToString(p.o.Ring.Seal(b, string(h), seal.FieldStreamPass))), nil
}

// OpenPass reads a pass of the host that has not ended.
func (p *Producer) OpenPass(h schemas.HostID, text string, now time.Time) (Pass, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return Pass{}, fmt.Errorf("reading a pass: %w", err)
	}
	plain, err := p.o.Ring.Open(sealed, string(h), seal.FieldStreamPass)
	if err != nil {
		return Pass{}, err
	}
	pass, err := schemas.Decode[Pass](plain)
	if err == nil && !now.Before(pass.Until) {
		err = fmt.Errorf("a pass of %s has ended", h)
	}
	return pass, err
}
