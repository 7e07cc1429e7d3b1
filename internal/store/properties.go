package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// A Property is a home as agents see it. Money is in minor units of Currency,
// the service fee in hundredths of a percent of the base price.
type Property struct {
	ID            schemas.PropertyID `db:"id"`
	HostID        schemas.HostID     `db:"host_id"`
	Title         string             `db:"title"`
	Address       string             `db:"address"`
	City          string             `db:"city"`
	State         string             `db:"state"`
	Country       string             `db:"country"`
	Latitude      *float64           `db:"latitude"`
	Longitude     *float64           `db:"longitude"`
	Type          string             `db:"property_type"`
	Bedrooms      int                `db:"bedrooms"`
	Bathrooms     int                `db:"bathrooms"`
	MaxGuests     int                `db:"max_guests"`
	Status        string             `db:"status"`
	Currency      string             `db:"currency"`
	PricePerNight schemas.Amount     `db:"price_per_night"`
	CleaningFee   schemas.Amount     `db:"cleaning_fee"`
	ServiceFeeBP  int64              `db:"service_fee_bp"`
	TaxPerNight   schemas.Amount     `db:"tax_per_night"`
	MinimumNights int                `db:"minimum_nights"`
	MaximumNights int                `db:"maximum_nights"`
	AvailableFrom *schemas.Date      `db:"available_from"`
	AvailableTo   *schemas.Date      `db:"available_to"`
	TimeZone      string             `db:"time_zone"`
	CreatedAt     time.Time          `db:"created_at"`
	UpdatedAt     time.Time          `db:"updated_at"`
}

const propertyColumns = `
p.id, p.host_id, p.title, p.address, p.city, p.state, p.country, p.latitude, p.longitude, p.property_type,
p.bedrooms, p.bathrooms, p.max_guests, p.status, p.currency, p.price_per_night, p.cleaning_fee,
p.service_fee_bp, p.tax_per_night, p.minimum_nights, p.maximum_nights, p.available_from::text,
p.available_to::text, p.time_zone, p.created_at, p.updated_at`

// A PropertyFilter narrows a search; zero members do not filter. With both dates
// set, homes that are taken in between, or take no stay of these days, are left
// out.
type PropertyFilter struct {
	Text, City, State, Type string
	Latitude, Longitude     *float64
	RadiusKM                float64
	MinPrice, MaxPrice      *schemas.Amount
	Bedrooms, Bathrooms     int // at least
	Guests                  int
	CheckIn, CheckOut       schemas.Date
	PriceDescending         bool
	Limit, Offset           int
}

// SearchProperties lists active homes in a stable order, and counts all that
// match.
func (t *Tx) SearchProperties(ctx context.Context, f PropertyFilter) ([]Property, int, error) {
	where, args := f.conditions()
	order := "p.price_per_night, p.id"
	if f.PriceDescending {
		order = "p.price_per_night desc, p.id"
	}
	var total int
	if err := t.tx.QueryRow(ctx, `select count(*) from properties p where `+where, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("counting properties: %w", err)
	}
	q := fmt.Sprintf(`select %s from properties p where %s order by %s limit %d offset %d`, propertyColumns, where, order, f.Limit, f.Offset)
	rows, _ := t.tx.Query(ctx, q, args...) // CollectRows reports the error
	ps, err := pgx.CollectRows(rows, pgx.RowToStructByName[Property])
	if err != nil {
		return nil, 0, fmt.Errorf("searching properties: %w", err)
	}
	return ps, total, nil
}

// conditions writes the filter as SQL; values travel as arguments only.
func (f PropertyFilter) conditions() (string, []any) {
	c := []string{"p.status = 'active'"}
	var args []any
	add := func(cond string, vals ...any) {
		for _, v := range vals {
			args = append(args, v)
			cond = strings.Replace(cond, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		c = append(c, cond)
	}
	if f.Text != "" {
		add("(p.title || ' ' || p.address || ' ' || p.city) ilike ?", "%"+likeEscape(f.Text)+"%")
	}
	if f.City != "" {
		add("lower(p.city) = lower(?)", f.City)
	}
	if f.State != "" {
		add("lower(p.state) = lower(?)", f.State)
	}
	if f.Type != "" {
		add("lower(p.property_type) = lower(?)", f.Type)
	}
	if f.MinPrice != nil {
		add("p.price_per_night >= ?", int64(*f.MinPrice))
	}
	if f.MaxPrice != nil {
		add("p.price_per_night <= ?", int64(*f.MaxPrice))
	}
	if f.Bedrooms > 0 {
		add("p.bedrooms >= ?", f.Bedrooms)
	}
	if f.Bathrooms > 0 {
		add("p.bathrooms >= ?", f.Bathrooms)
	}
	if f.Guests > 0 {
		add("p.max_guests >= ?", f.Guests)
	}
	if f.Latitude != nil && f.Longitude != nil {
		// Great-circle distance in kilometres by the haversine formula.
		add(`6371 * 2 * asin(sqrt(least(1, power(sin(radians(p.latitude - ?) / 2), 2)
		  + cos(radians(?)) * cos(radians(p.latitude)) * power(sin(radians(p.longitude - ?) / 2), 2)))) <= ?`,
			*f.Latitude, *f.Latitude, *f.Longitude, f.RadiusKM)
	}
	if f.CheckIn != "" && f.CheckOut != "" {
		add(`?::text::date - ?::text::date between p.minimum_nights and p.maximum_nights`, string(f.CheckOut), string(f.CheckIn))
		add(`(p.available_from is null or p.available_from <= ?::text::date)`, string(f.CheckIn))
		add(`(p.available_to is null or p.available_to >= ?::text::date)`, string(f.CheckOut))
		add(`not krib_dates_taken(p.id, ?::text::date, ?::text::date)`, string(f.CheckIn), string(f.CheckOut))
	}
	return strings.Join(c, " and "), args
}

func likeEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// Property is a home by id: an active one for everybody, any for its own host
// and for the platform.
func (t *Tx) Property(ctx context.Context, id schemas.PropertyID) (Property, error) {
	rows, _ := t.tx.Query(ctx, `select `+propertyColumns+` from properties p where p.id = $1`, string(id)) // CollectExactlyOneRow reports the error
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Property])
	return p, propertyError(id, err)
}

// PropertyZone is the name of a home's time zone, whatever the home's status: a stay
// there goes on after the home has left the market.
func (t *Tx) PropertyZone(ctx context.Context, id schemas.PropertyID) (zone string, err error) {
	err = t.tx.QueryRow(ctx, `select time_zone from krib_property_names where id = $1`, string(id)).Scan(&zone)
	return zone, propertyError(id, err)
}

// A LockedStay is what creating a booking needs to see at once.
type LockedStay struct {
	Property Property
	Host     HostPolicy
	// Held says that some booking of anybody's may hold a night of the stay.
	Held bool
}

// LockStay reads an active home and keeps others from booking it until the
// transaction ends; it leaves foreign keys to it free. It also says whether a
// night of the stay is held, so that the usual stay, which nobody holds, needs no
// second look. All of it is one round trip.
func (t *Tx) LockStay(ctx context.Context, id schemas.PropertyID, in, out schemas.Date) (s LockedStay, err error) {
	b := &pgx.Batch{}
	b.Queue(`select `+propertyColumns+`, `+policyColumns+`
		from properties p left join krib_host_switches h on h.host_id = p.host_id
		where p.id = $1 and p.status = 'active' for no key update of p`, string(id)).Query(func(rows pgx.Rows) error {
		type locked struct {
			Property
			HostPolicy
		}
		l, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[locked])
		s.Property, s.Host = l.Property, l.HostPolicy
		return err
	})
	// A statement of its own: it has to see what was committed while the first one
	// waited for the lock.
	b.Queue(setPlatform, "on")
	b.Queue(`select b.id from bookings b `+overlapping, string(id), string(in), string(out)).Query(func(rows pgx.Rows) error {
		s.Held = rows.Next()
		rows.Close()
		return rows.Err()
	})
	b.Queue(setPlatform, t.scope.platform())
	return s, propertyError(id, t.tx.sendBatch(ctx, b))
}

func propertyError(id schemas.PropertyID, err error) error {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return schemas.Errorf(schemas.NotFound, "property_not_found", "there is no active property %q", id)
	case err != nil:
		return fmt.Errorf("reading property %s: %w", id, err)
	}
	return nil
}
