package email

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

const (
	// look is how often the queue is looked at when nothing is known to come: for
	// what other replicas have queued.
	look = time.Second
	// lease is how long a mail is one sender's. One who was killed holds its mail up
	// for so long.
	lease = 3 * time.Minute
	// grace is how long a mail that is under way, and the writing down of its end,
	// may go on after a stop was asked for.
	grace = 3 * time.Second
	// maxEntries bounds a mail; the rest leaves in the next one.
	maxEntries = 50
	// maxAttempts of one mail are about 19 hours.
	maxAttempts = 10
	// tooOld is when what waits is given up, whatever held it up: the server was away
	// for days, or sending was switched off.
	tooOld = 72 * time.Hour
	// held is how long mail is held back before its host's quiet hours are looked up
	// again: they may have been changed.
	held = 10 * time.Minute
)

// backoff is how long a mail waits after so many attempts.
func backoff(attempts int) time.Duration {
	return min(30*time.Second<<(2*min(attempts-1, 5)), 4*time.Hour)
}

// A sender hands over what is due, one mail after the other over one connection.
type sender struct {
	*Sink

	conn     *connection
	used     time.Time
	failures int // connections in a row that could not be made
}

func (s *sender) run(ctx context.Context) {
	defer s.hangUp()
	for ctx.Err() == nil {
		wait := s.step(ctx)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// step sends at most one mail and says how long to wait until the next step. The
// connection comes first: nothing is taken from the queue that could not be sent.
func (s *sender) step(ctx context.Context) time.Duration {
	wait, err := s.dueIn(ctx)
	switch {
	case err != nil:
		return s.troubled(ctx, err)
	case wait > 0:
		if time.Since(s.used) > idleTimeout {
			s.hangUp()
		}
		return wait
	}
	if err := s.dial(ctx); err != nil {
		s.unreachable(ctx, err)
		return 0
	}
	m, wait, err := s.choose(ctx)
	switch {
	case err != nil:
		return s.troubled(ctx, err)
	case m != nil:
		s.deliver(ctx, m)
		return 0
	}
	return wait
}

func (s *sender) troubled(ctx context.Context, err error) time.Duration {
	if ctx.Err() == nil {
		s.o.Logger.WarnContext(ctx, "choosing a mail failed; it is tried again", slog.Any("error", err))
	}
	return look
}

// dueIn is how long to wait before there is something to do.
func (s *sender) dueIn(ctx context.Context) (wait time.Duration, err error) {
	err = s.o.DB.Read(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		due, some, err := tx.EmailsDueIn(ctx)
		wait = look
		if some {
			wait = min(max(due, 0), look)
		}
		return err
	})
	return wait, err
}

func (s *sender) dial(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	c, err := s.o.Server.connect(ctx)
	if err != nil {
		return err
	}
	if s.failures > 0 {
		s.o.Logger.InfoContext(ctx, "the mail server can be reached again")
	}
	s.conn, s.used, s.failures = c, time.Now(), 0
	return nil
}

// unreachable waits until the server may be tried again, also when more is queued.
// It is told once in a row of failures; the metric has them all.
func (s *sender) unreachable(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.m.unreachable.Inc()
	if s.failures++; s.failures == 1 {
		s.o.Logger.ErrorContext(ctx, "the mail server cannot be used; mail waits", slog.Any("error", err))
	}
	pause(ctx, min(time.Second<<min(s.failures-1, 6), time.Minute))
}

func (s *sender) hangUp() {
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
}

// A letter is a mail that this sender has leased.
type letter struct {
	lease   store.MailLease
	to      string
	entries []store.DueEmail
	box     store.Mailbox // of a host
}

func (l *letter) forGuest() bool { return l.entries[0].Host == "" }

// choose takes the next mail, if there is one and the rate allows it now. Without
// one it says how long to wait.
func (s *sender) choose(ctx context.Context) (l *letter, wait time.Duration, err error) {
	dropped := map[string]int{}
	err = s.o.DB.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
		l = nil
		clear(dropped)
		if wait, err = tx.EmailTurn(ctx); err != nil || wait > 0 {
			return err
		}
		due, err := tx.DueEmails(ctx, maxEntries)
		if err != nil || len(due) == 0 {
			wait = look
			return err
		}
		next, err := s.prepare(ctx, tx, due, dropped)
		if err != nil || next == nil {
			return err
		}
		next.lease, err = tx.LeaseEmails(ctx, mailOf(next.entries), ids(next.entries), lease, time.Minute/time.Duration(s.o.Rate))
		l = next
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	for why, n := range dropped {
		s.m.dropped.WithLabelValues(why).Add(float64(n))
	}
	return l, max(wait, 0), nil
}

// mailOf is the mail's id: the first one's that it was made of.
func mailOf(es []store.DueEmail) string {
	if es[0].MailID != "" {
		return es[0].MailID
	}
	return es[0].ID
}

func ids(es []store.DueEmail) []string {
	out := make([]string, len(es))
	for i := range es {
		out[i] = es[i].ID
	}
	return out
}

// prepare drops what nobody has to be told any more, holds back what comes in a
// host's quiet hours, and makes a letter of the rest, if there is any.
func (s *sender) prepare(ctx context.Context, tx *store.Tx, due []store.DueEmail, dropped map[string]int) (*letter, error) {
	now, l := time.Now(), &letter{}
	drop := func(es []store.DueEmail, why string) error {
		if len(es) == 0 {
			return nil
		}
		dropped[why] += len(es)
		return tx.DropEmails(ctx, ids(es), why)
	}
	gone, due := split(due, func(e *store.DueEmail) bool { return now.Sub(e.HappenedAt) > tooOld })
	over, due := split(due, func(e *store.DueEmail) bool { return e.ExpiresAt != nil && !e.ExpiresAt.After(now) })
	if err := drop(gone, stale); err != nil {
		return nil, err
	}
	if err := drop(over, expired); err != nil || len(due) == 0 {
		return nil, err
	}
	l.to, l.entries = due[0].To, due
	if l.forGuest() {
		return l, nil
	}
	box, wanted, err := tx.Mailbox(ctx, due[0].Host)
	if err != nil {
		return nil, err
	}
	if !wanted {
		return nil, drop(due, unwanted)
	}
	l.to, l.box = box.Email, box
	until, quiet := box.Quiet.Over(now, schemas.StoredZone(box.TimeZone))
	if !quiet {
		return l, nil
	}
	return s.hold(ctx, tx, l, until.Sub(now))
}

// hold leaves in a letter what may disturb its host. A letter that was tried
// already stays as it is: it goes whole or waits whole.
func (s *sender) hold(ctx context.Context, tx *store.Tx, l *letter, quietFor time.Duration) (*letter, error) {
	urgent, rest := split(l.entries, func(e *store.DueEmail) bool { return l.box.Quiet.AllowUrgent && e.Urgent })
	if len(urgent) > 0 && l.entries[0].MailID != "" {
		return l, nil
	}
	if len(rest) > 0 {
		if err := tx.HoldEmails(ctx, ids(rest), time.Now().Add(min(quietFor, held))); err != nil {
			return nil, err
		}
	}
	if len(urgent) == 0 {
		return nil, nil
	}
	l.entries = urgent
	return l, nil
}

func split(es []store.DueEmail, is func(*store.DueEmail) bool) (yes, no []store.DueEmail) {
	for i := range es {
		if is(&es[i]) {
			yes = append(yes, es[i])
		} else {
			no = append(no, es[i])
		}
	}
	return yes, no
}

// deliver sends a letter and writes down what came of it.
func (s *sender) deliver(ctx context.Context, l *letter) {
	v, err := s.attempt(ctx, l)
	s.m.attempts.WithLabelValues(v.String()).Inc()
	reason := ""
	if err != nil {
		// The text may name addresses: it is for the table, which has them anyway.
		reason = clip(clean(err.Error()), 500)
	}
	last := v == later && l.entries[0].Attempts+1 >= maxAttempts
	s.record(ctx, l, func(ctx context.Context, tx *store.Tx) (bool, error) {
		switch {
		case v == sent:
			return tx.EndMail(ctx, l.lease, store.EmailSent, "")
		case v == refused || last:
			return tx.EndMail(ctx, l.lease, store.EmailRefused, reason)
		case v == unheard:
			return tx.RetryMail(ctx, l.lease, time.Second, false, reason)
		}
		return tx.RetryMail(ctx, l.lease, backoff(l.entries[0].Attempts+1), true, reason)
	})
	mail := slog.String("mail", l.lease.MailID)
	switch {
	case v == sent:
		for i := range l.entries {
			s.m.seconds.Observe(time.Since(l.entries[i].HappenedAt).Seconds())
		}
	case v == refused || last:
		s.o.Logger.WarnContext(ctx, "a mail is given up; its reason is in the table emails", mail, slog.Int("attempts", l.entries[0].Attempts+1))
	case v == later:
		s.o.Logger.InfoContext(ctx, "a mail was not taken; it is tried again", mail, slog.Int("attempts", l.entries[0].Attempts+1))
	}
}

// attempt hands a letter over. A stop lets it end, for a moment.
func (s *sender) attempt(ctx context.Context, l *letter) (verdict, error) {
	m, err := s.compose(l)
	if err != nil {
		return refused, err
	}
	going, ended := outlive(ctx, grace)
	defer ended()
	c := s.conn
	defer context.AfterFunc(going, c.drop)()
	delivered, err := c.send(m)
	v := judge(delivered, err)
	if s.used = time.Now(); err != nil { // who knows what the session is in the middle of
		c.drop()
		s.conn = nil
	}
	return v, err
}

// record writes an end down, for as long as it takes: unwritten, the mail would be
// sent again when its lease is over.
func (s *sender) record(ctx context.Context, l *letter, end func(context.Context, *store.Tx) (bool, error)) {
	keep, stop := outlive(ctx, grace)
	defer stop()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		ours := false
		err := s.o.DB.Update(keep, store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
			ours, err = end(ctx, tx)
			return err
		})
		switch {
		case err == nil && !ours:
			s.o.Logger.ErrorContext(keep, "a mail's lease was over before its end was written; it may be sent twice", slog.String("mail", l.lease.MailID))
			return
		case err == nil:
			return
		case keep.Err() != nil:
			s.o.Logger.ErrorContext(ctx, "a mail's end was not written; it may be sent twice", slog.String("mail", l.lease.MailID), slog.Any("error", err))
			return
		}
		s.o.Logger.WarnContext(keep, "writing a mail's end failed; it is tried again", slog.String("mail", l.lease.MailID), slog.Any("error", err))
		pause(keep, wait)
	}
}

// outlive is a context that ends some time after ctx does.
func outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		pause(out, by)
		cancel()
	})
	return out, func() {
		stop()
		cancel()
	}
}

// clip cuts a text to so many characters.
func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimSpace(string(r[:n-1])) + "…"
}
