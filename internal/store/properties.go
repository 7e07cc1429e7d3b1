package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
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

// A PropertyPage is a part of a list. Total counts the whole list up to CountCap,
// whichever page this is; Capped says that there are more.
type PropertyPage struct {
	Properties   []Property
	Total        int
	Capped, More bool
}

// SearchProperties lists active homes in a stable order. It reads the market, whose
// view has no policy: row level security would keep each index from being used whose
// operator could reveal a row by an error, as like could.
//
// Postgres cannot know how many homes match, and either order of work is slow for the
// wrong number. So the count comes first, up to CountCap: what is rare is fetched by
// the indexes of its conditions and sorted, what is frequent is met soon on a walk
// along the prices.
func (t *Tx) SearchProperties(ctx context.Context, f PropertyFilter) (PropertyPage, error) {
	var p PropertyPage
	t.tx.queue("planning for the values at hand", `select set_config('plan_cache_mode', 'force_custom_plan', true)`)
	sql, args := f.countSQL()
	if err := t.tx.QueryRow(ctx, sql, args...).Scan(&p.Total); err != nil {
		return p, fmt.Errorf("counting properties: %w", err)
	}
	p.Total, p.Capped = capped(p.Total)
	if f.Offset >= p.Total && !p.Capped {
		return p, nil
	}
	if p.Capped {
		t.tx.queue("walking along the prices", `select set_config('enable_sort', 'off', true)`)
	}
	sql, args = f.pageSQL(p.Capped)
	rows, _ := t.tx.Query(ctx, sql, args...) // CollectRows reports the error
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Property])
	if err != nil {
		return p, fmt.Errorf("searching properties: %w", err)
	}
	p.Properties, p.More = firstOf(found, f.Limit)
	return p, nil
}

// capped is a count that was made up to CountCap and one more.
func capped(n int) (int, bool) { return min(n, CountCap), n > CountCap }

// firstOf cuts off the row too many, which says that there are more.
func firstOf[T any](rows []T, limit int) (page []T, more bool) {
	return rows[:min(len(rows), limit)], len(rows) > limit
}

// upToCap counts the rows of a from clause up to CountCap and one more.
func upToCap(from string) string {
	return fmt.Sprintf(`select count(*) from (select from %s limit %d) x`, from, CountCap+1)
}

func (f PropertyFilter) countSQL() (string, []any) {
	where, args := f.conditions()
	return upToCap(`krib_market p where ` + where), args
}

func (f PropertyFilter) pageSQL(frequent bool) (string, []any) {
	where, args := f.conditions()
	order := "p.price_per_night, p.id"
	if f.PriceDescending {
		order = "p.price_per_night desc, p.id desc"
	}
	from := `krib_market p where ` + where
	if !frequent { // the offset keeps the order out of the choice of an index
		from = `(select * from krib_market p where ` + where + ` offset 0) p`
	}
	return fmt.Sprintf(`select %s from %s order by %s limit %d offset %d`, propertyColumns, from, order, f.Limit+1, f.Offset), args
}

// kmPerDegree is of latitude, and of longitude at the equator; it is rounded down, so
// that a box of degrees is never too small.
const kmPerDegree = 111

// conditions writes the filter as SQL; values travel as arguments only.
func (f PropertyFilter) conditions() (string, []any) {
	c := []string{"true"}
	var args []any
	add := func(cond string, vals ...any) {
		for _, v := range vals {
			args = append(args, v)
			cond = strings.Replace(cond, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		c = append(c, cond)
	}
	if f.Text != "" {
		f.containing(add)
	}
	if f.City != "" {
		add("p.folded_city = lower(?)", f.City)
	}
	if f.State != "" {
		add("p.folded_state = lower(?)", f.State)
	}
	if f.Type != "" {
		add("p.folded_type = lower(?)", f.Type)
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
		f.near(add)
	}
	if f.CheckIn != "" && f.CheckOut != "" {
		add(`?::text::date - ?::text::date <= 365`, string(f.CheckOut), string(f.CheckIn)) // no home takes more, and no row is read to see it
		add(`?::text::date - ?::text::date between p.minimum_nights and p.maximum_nights`, string(f.CheckOut), string(f.CheckIn))
		add(`(p.available_from is null or p.available_from <= ?::text::date)`, string(f.CheckIn))
		add(`(p.available_to is null or p.available_to >= ?::text::date)`, string(f.CheckOut))
		add(`not krib_dates_taken(p.id, ?::text::date, ?::text::date)`, string(f.CheckIn), string(f.CheckOut))
	}
	return strings.Join(c, " and "), args
}

// near asks for homes within the radius: those in a box around the point, which the
// index finds, by great-circle distance in kilometres (the haversine formula). The
// box has every longitude where the circle has a pole or the date line in it.
func (f PropertyFilter) near(add func(cond string, vals ...any)) {
	lat, long := *f.Latitude, *f.Longitude
	dLat := f.RadiusKM / kmPerDegree
	west, east := -180.0, 180.0
	if top := math.Abs(lat) + dLat; top < 89 {
		dLong := dLat / math.Cos(top*math.Pi/180)
		if long-dLong > -180 && long+dLong < 180 {
			west, east = long-dLong, long+dLong
		}
	}
	add(`point(p.longitude, p.latitude) <@ box(point(?, ?), point(?, ?))`, west, lat-dLat, east, lat+dLat)
	add(`6371 * 2 * asin(sqrt(least(1, power(sin(radians(p.latitude - ?) / 2), 2)
	  + cos(radians(?)) * cos(radians(p.latitude)) * power(sin(radians(p.longitude - ?) / 2), 2)))) <= ?`, lat, lat, long, f.RadiusKM)
}

// What the index of texts goes by: three letters or digits in a row, or a byte beyond
// ASCII, which is folded into three digits. What has a word at least is a text.
var (
	trigram = regexp.MustCompile(`[0-9A-Za-z]{3}|[^\x00-\x7f]`)
	word    = regexp.MustCompile(`[0-9A-Za-z]|[^\x00-\x7f]`)
)

// containing asks for homes with the text in their title, address or city. A text that
// the index cannot find has to begin a word; one without a letter or a digit is found
// nowhere. Otherwise it would be looked for in every home.
func (f PropertyFilter) containing(add func(cond string, vals ...any)) {
	text := f.Text
	switch {
	case !word.MatchString(text):
		add("false")
		return
	case !trigram.MatchString(text):
		text = " " + text
	}
	add(`p.folded_text like '%' || regexp_replace(krib_folded(?), '[\\%_]', '\\\&', 'g') || '%'`, text)
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
