package producers

import (
	"context"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// Suspended is the status of a home that was taken off the market by somebody
// else than its host.
const suspended = "suspended"

// PutProperty creates the scope's host a home, or replaces the one that it has
// under this id. Bookings keep the price and the currency that they were made at.
// The home's row is locked meanwhile, so a booking is judged by the rules of
// before or after, never by some of both.
func (p *Producer) PutProperty(ctx context.Context, s store.Scope, in store.Property) (store.Property, error) {
	in.HostID = s.Host
	var out store.Property
	err := p.o.DB.Update(ctx, s, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.AddHost(ctx, s.Host); err != nil {
			return err
		}
		added, err := tx.AddProperty(ctx, &in)
		if err == nil && !added {
			err = replaceProperty(ctx, tx, &in)
		}
		if err != nil {
			return err
		}
		out, err = tx.Property(ctx, in.ID)
		return err
	})
	return out, err
}

func replaceProperty(ctx context.Context, tx *store.Tx, in *store.Property) error {
	was, err := tx.LockOwnProperty(ctx, in.HostID, in.ID)
	if err != nil {
		return err
	}
	if was.Status == suspended {
		return schemas.Errorf(schemas.Conflict, "property_suspended", "the property is suspended; its host cannot change it")
	}
	return tx.ReplaceProperty(ctx, in)
}
