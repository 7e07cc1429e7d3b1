package producers

import (
	"context"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// Steps counts what a turn over the requests has done.
type Steps struct {
	Expired, Half, NineTenths int
}

// Sum is how many requests made a step.
func (s Steps) Sum() int { return s.Expired + s.Half + s.NineTenths }

// Add is both together.
func (s Steps) Add(o Steps) Steps {
	return Steps{s.Expired + o.Expired, s.Half + o.Half, s.NineTenths + o.NineTenths}
}

// StepRequests takes up to limit pending bookings one step further, each with its
// event: its host is reminded, or it is cancelled as expired. It runs in the
// caller's own transaction, in RoleJobs, and may run in several replicas at once:
// each locks requests of its own, and a step that is made is not due any more.
//
// A request makes one step in a transaction. So one that nobody looked at for long
// gets each reminder that it missed, in order, as long as it has not run out.
func StepRequests(ctx context.Context, tx *store.Tx, now time.Time, limit int) (Steps, error) {
	var done Steps
	due, err := tx.DueRequests(ctx, now, limit)
	if err != nil {
		return done, err
	}
	for i := range due {
		d := &due[i]
		c := change{tx: tx, now: schemas.Stamp(now), host: d.Policy, actor: schemas.Actor{Kind: schemas.ActorSystem, ID: "reminders"}}
		switch kind := nextStep(d, c.now); kind {
		case schemas.ReminderHalf:
			done.Half++
			err = c.remind(ctx, d, kind)
		case schemas.ReminderNineTenths:
			done.NineTenths++
			err = c.remind(ctx, d, kind)
		default:
			done.Expired++
			err = c.expire(ctx, &d.Booking)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// nextStep is the reminder that is due, or none when the request has run out: it
// is too late to remind anybody then, whatever was missed.
func nextStep(d *store.DueRequest, now time.Time) schemas.ReminderKind {
	switch {
	case expired(&d.Booking, now), d.Reminders >= 2:
		return ""
	case d.Reminders == 1:
		return schemas.ReminderNineTenths
	}
	return schemas.ReminderHalf
}

func (c *change) remind(ctx context.Context, d *store.DueRequest, kind schemas.ReminderKind) error {
	b := &d.Booking
	b.Version, b.UpdatedAt = b.Version+1, c.now
	e := c.event(schemas.HostResponseNeeded, b)
	e.Reminder, e.Changed = kind, []string{"updated_at"}
	rows, err := rowsOf(ctx, e)
	if err != nil {
		return err
	}
	c.tx.SaveReminder(b, d.Reminders+1, rows)
	return nil
}
