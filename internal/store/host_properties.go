package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// A Span is the nights from one day to another.
type Span struct {
	CheckIn, CheckOut schemas.Date
}

// TakenDates are the spans that bookings of anybody hold of a home, in their
// order, as far as they touch the days from in to out. Requests that have run out
// hold nothing.
func (t *Tx) TakenDates(ctx context.Context, p schemas.PropertyID, in, out schemas.Date) ([]Span, error) {
	rows, _ := t.tx.Query(ctx, `select check_in::text, check_out::text from krib_taken_dates($1, $2::text::date, $3::text::date)`,
		string(p), string(in), string(out)) // CollectRows reports the error
	spans, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Span])
	if err != nil {
		return nil, fmt.Errorf("reading the taken dates of %s from %s to %s: %w", p, in, out, err)
	}
	return spans, nil
}

// AddHost makes sure that a host is known. Its name is its id until it says
// another.
func (t *Tx) AddHost(ctx context.Context, h schemas.HostID) error {
	if _, err := t.tx.Exec(ctx, `insert into hosts (id, name) values ($1, $1) on conflict do nothing`, string(h)); err != nil {
		return fmt.Errorf("adding host %s: %w", h, err)
	}
	return nil
}

// AddProperty writes a home whose id is free, and says whether it was.
func (t *Tx) AddProperty(ctx context.Context, p *Property) (bool, error) {
	tag, err := t.tx.Exec(ctx, `
		insert into properties (id, host_id, title, address, city, state, country, latitude, longitude, property_type,
		  bedrooms, bathrooms, max_guests, status, currency, price_per_night, cleaning_fee, service_fee_bp, tax_per_night,
		  minimum_nights, maximum_nights, available_from, available_to, time_zone)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22::text::date, $23::text::date, $24)
		on conflict do nothing`, p.values()...)
	if err != nil {
		return false, fmt.Errorf("adding property %s: %w", p.ID, err)
	}
	return tag.RowsAffected() == 1, nil
}

// HostProperties lists a host's homes, of one status or of all if it is empty, the
// newest first.
func (t *Tx) HostProperties(ctx context.Context, h schemas.HostID, status string, limit, offset int) (PropertyPage, error) {
	const from = `properties p where p.host_id = $1 and ($2 = '' or p.status = $2)`
	var p PropertyPage
	if err := t.tx.QueryRow(ctx, upToCap(from), string(h), status).Scan(&p.Total); err != nil {
		return p, fmt.Errorf("counting the homes of host %s: %w", h, err)
	}
	p.Total, p.Capped = capped(p.Total)
	rows, _ := t.tx.Query(ctx, `select `+propertyColumns+` from `+from+`
		order by p.created_at desc, p.id desc limit $3 offset $4`, string(h), status, limit+1, offset) // CollectRows reports the error
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Property])
	if err != nil {
		return p, fmt.Errorf("listing the homes of host %s: %w", h, err)
	}
	p.Properties, p.More = firstOf(found, limit)
	return p, nil
}

// OwnProperty is a host's own home of any status. Another host's is not found,
// also when it is on the market.
func (t *Tx) OwnProperty(ctx context.Context, h schemas.HostID, id schemas.PropertyID) (Property, error) {
	return t.ownProperty(ctx, h, id, "")
}

// LockOwnProperty is OwnProperty that keeps the home from being booked or changed
// until the transaction ends.
func (t *Tx) LockOwnProperty(ctx context.Context, h schemas.HostID, id schemas.PropertyID) (Property, error) {
	return t.ownProperty(ctx, h, id, " for no key update")
}

func (t *Tx) ownProperty(ctx context.Context, h schemas.HostID, id schemas.PropertyID, rest string) (Property, error) {
	rows, _ := t.tx.Query(ctx, `select `+propertyColumns+` from properties p where p.id = $1 and p.host_id = $2`+rest,
		string(id), string(h)) // CollectExactlyOneRow reports the error
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Property])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p, schemas.Errorf(schemas.NotFound, "property_not_found", "there is no property %q of this host", id)
	case err != nil:
		return p, fmt.Errorf("reading property %s: %w", id, err)
	}
	return p, nil
}

// ReplaceProperty writes everything that a host may say of its home. The home
// must be locked by this transaction.
func (t *Tx) ReplaceProperty(ctx context.Context, p *Property) error {
	_, err := t.tx.Exec(ctx, `
		update properties set title = $3, address = $4, city = $5, state = $6, country = $7, latitude = $8, longitude = $9,
		  property_type = $10, bedrooms = $11, bathrooms = $12, max_guests = $13, status = $14, currency = $15,
		  price_per_night = $16, cleaning_fee = $17, service_fee_bp = $18, tax_per_night = $19, minimum_nights = $20,
		  maximum_nights = $21, available_from = $22::text::date, available_to = $23::text::date, time_zone = $24, updated_at = now()
		where id = $1 and host_id = $2`, p.values()...)
	if err != nil {
		return fmt.Errorf("replacing property %s: %w", p.ID, err)
	}
	return nil
}

// values are what the two statements above take, in their order.
func (p *Property) values() []any {
	return []any{
		string(p.ID), string(p.HostID), p.Title, p.Address, p.City, p.State, p.Country, p.Latitude, p.Longitude, p.Type,
		p.Bedrooms, p.Bathrooms, p.MaxGuests, p.Status, p.Currency, int64(p.PricePerNight), int64(p.CleaningFee), p.ServiceFeeBP,
		int64(p.TaxPerNight), p.MinimumNights, p.MaximumNights, p.AvailableFrom, p.AvailableTo, p.TimeZone,
	}
}
