package producers

import (
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// A Stay is what somebody wants of a home.
type Stay struct {
	CheckIn, CheckOut schemas.Date
	Guests            int
}

func (s Stay) nights() int { return s.CheckIn.NightsUntil(s.CheckOut) }

// todayAt is the day that it is at the home.
func todayAt(p *store.Property, now time.Time) schemas.Date {
	return schemas.DateOf(now.In(schemas.StoredZone(p.TimeZone)))
}

// refusals are the contract's checks that a stay does not pass, in its order.
func refusals(p *store.Property, s Stay, today schemas.Date) []*schemas.Error {
	nights := s.nights()
	var all []*schemas.Error
	add := func(wrong bool, code, field, rule, format string, args ...any) {
		if wrong {
			all = append(all, schemas.Refuse(schemas.Rule, code, field, rule, format, args...))
		}
	}
	add(s.CheckIn < today, "check_in_past", "check_in", "min", "check_in must not be before today, %s at the property", today)
	add(s.CheckIn > today.AddDays(maxAhead), "check_in_too_far", "check_in", "max", "check_in must be within %d days", maxAhead)
	add(nights < 1, "invalid_dates", "check_out", "after", "check_out must be after check_in")
	add(nights >= 1 && nights < p.MinimumNights, "too_few_nights", "check_out", "min", "this property takes at least %d nights", p.MinimumNights)
	add(nights > p.MaximumNights, "too_many_nights", "check_out", "max", "this property takes at most %d nights", p.MaximumNights)
	if p.AvailableFrom != nil {
		add(s.CheckIn < *p.AvailableFrom, "not_available_yet", "check_in", "min", "this property is available from %s", *p.AvailableFrom)
	}
	if p.AvailableTo != nil {
		add(s.CheckOut > *p.AvailableTo, "not_available_any_more", "check_out", "max", "this property is available until %s", *p.AvailableTo)
	}
	add(s.Guests > p.MaxGuests, "too_many_guests", "guests", "max", "this property takes at most %d guests", p.MaxGuests)
	return all
}

// PriceStay is what creating a booking of the stay would ask for. It refuses what
// that would refuse, but for dates that are taken.
func PriceStay(p *store.Property, s Stay, now time.Time) (Quote, error) {
	if err := onMarket(p); err != nil {
		return Quote{}, err
	}
	if wrong := refusals(p, s, todayAt(p, now)); len(wrong) > 0 {
		return Quote{}, wrong[0]
	}
	return QuoteStay(p, s.nights()), nil
}

// onMarket refuses a home that its reader may see, as its host or the platform,
// and nobody can book.
func onMarket(p *store.Property) error {
	if p.Status != "active" {
		return schemas.Errorf(schemas.NotFound, "property_not_found", "there is no active property %q", p.ID)
	}
	return nil
}
