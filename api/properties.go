package api

import (
	"context"
	"net/http"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

type propertyQuery struct {
	Text      string          `json:"q" check:"max=200"`
	City      string          `json:"city" check:"max=100"`
	State     string          `json:"state" check:"max=100"`
	Latitude  *float64        `json:"latitude" check:"min=-90,max=90"`
	Longitude *float64        `json:"longitude" check:"min=-180,max=180"`
	RadiusKM  *float64        `json:"radius_km" check:"min=0.1,max=1000"`
	MinPrice  *schemas.Amount `json:"min_price_per_night" check:"min=0"`
	MaxPrice  *schemas.Amount `json:"max_price_per_night" check:"min=0"`
	Bedrooms  int             `json:"bedrooms" check:"min=0,max=100"`
	Bathrooms int             `json:"bathrooms" check:"min=0,max=100"`
	MaxGuests int             `json:"max_guests" check:"min=1,max=50"`
	Type      string          `json:"property_type" check:"max=50"`
	CheckIn   schemas.Date    `json:"check_in"`
	CheckOut  schemas.Date    `json:"check_out"`
	Limit     int             `json:"limit" check:"min=1,max=50" default:"20"`
	Offset    int             `json:"offset" check:"min=0,max=10000" default:"0"`
	SortBy    string          `json:"sort_by" check:"enum=price_asc|price_desc" default:"price_asc"`
}

func (q *propertyQuery) check(add func(field, rule, message string)) {
	if (q.Latitude == nil) != (q.Longitude == nil) {
		add("longitude", "together", "and latitude go together")
	}
	if q.RadiusKM != nil && q.Latitude == nil {
		add("radius_km", "together", "needs latitude and longitude")
	}
	if q.MinPrice != nil && q.MaxPrice != nil && *q.MaxPrice < *q.MinPrice {
		add("max_price_per_night", "range", "must not be below min_price_per_night")
	}
	switch {
	case (q.CheckIn == "") != (q.CheckOut == ""):
		add("check_out", "together", "and check_in go together")
	case q.CheckOut < q.CheckIn || q.CheckIn != "" && q.CheckOut == q.CheckIn:
		add("check_out", "after", "must be after check_in")
	}
}

// defaultRadius is how far from a given point is near, in kilometres.
const defaultRadius = 10

func (q *propertyQuery) filter() store.PropertyFilter {
	f := store.PropertyFilter{
		Text: q.Text, City: q.City, State: q.State, Type: q.Type, Latitude: q.Latitude, Longitude: q.Longitude, RadiusKM: defaultRadius,
		MinPrice: q.MinPrice, MaxPrice: q.MaxPrice, Bedrooms: q.Bedrooms, Bathrooms: q.Bathrooms, Guests: q.MaxGuests,
		CheckIn: q.CheckIn, CheckOut: q.CheckOut, PriceDescending: q.SortBy == "price_desc", Limit: q.Limit, Offset: q.Offset,
	}
	if q.RadiusKM != nil {
		f.RadiusKM = *q.RadiusKM
	}
	return f
}

type propertyView struct {
	ID            schemas.PropertyID `json:"id"`
	HostID        schemas.HostID     `json:"host_id"`
	Title         string             `json:"title"`
	Type          string             `json:"property_type"`
	Address       string             `json:"address"`
	City          string             `json:"city"`
	State         string             `json:"state"`
	Country       string             `json:"country"`
	Latitude      *float64           `json:"latitude"`
	Longitude     *float64           `json:"longitude"`
	Bedrooms      int                `json:"bedrooms"`
	Bathrooms     int                `json:"bathrooms"`
	MaxGuests     int                `json:"max_guests"`
	Price         schemas.Amount     `json:"base_price_per_night"`
	CleaningFee   schemas.Amount     `json:"cleaning_fee"`
	ServiceFee    schemas.Amount     `json:"service_fee_percent"` // hundredths of a percent have two places, as money has
	TaxPerNight   schemas.Amount     `json:"tax_per_night"`
	Currency      string             `json:"currency"`
	MinimumNights int                `json:"minimum_nights"`
	MaximumNights int                `json:"maximum_nights"`
	AvailableFrom *schemas.Date      `json:"available_from"`
	AvailableTo   *schemas.Date      `json:"available_to"`
	TimeZone      string             `json:"time_zone"`
}

func viewProperty(p *store.Property) propertyView {
	return propertyView{
		ID: p.ID, HostID: p.HostID, Title: p.Title, Type: p.Type, Address: p.Address, City: p.City, State: p.State, Country: p.Country,
		Latitude: p.Latitude, Longitude: p.Longitude, Bedrooms: p.Bedrooms, Bathrooms: p.Bathrooms, MaxGuests: p.MaxGuests,
		Price: p.PricePerNight, CleaningFee: p.CleaningFee, ServiceFee: schemas.Amount(p.ServiceFeeBP), TaxPerNight: p.TaxPerNight,
		Currency: p.Currency, MinimumNights: p.MinimumNights, MaximumNights: p.MaximumNights, AvailableFrom: p.AvailableFrom,
		AvailableTo: p.AvailableTo, TimeZone: p.TimeZone,
	}
}

type searchView struct {
	Properties    []propertyView `json:"properties"`
	TotalCount    int            `json:"total_count"`
	TotalCapped   bool           `json:"total_count_capped"`
	ReturnedCount int            `json:"returned_count"`
	HasMore       bool           `json:"has_more"`
	Metadata      searchMetadata `json:"search_metadata"`
}

type searchMetadata struct {
	City       *string       `json:"city"`
	CheckIn    *schemas.Date `json:"check_in"`
	CheckOut   *schemas.Date `json:"check_out"`
	SortBy     string        `json:"sort_by"`
	Limit      int           `json:"limit"`
	Offset     int           `json:"offset"`
	NextOffset *int          `json:"next_offset"`
}

func (s *server) searchProperties(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[propertyQuery](r)
	if err != nil {
		return answer{}, err
	}
	var page store.PropertyPage
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) (err error) {
		page, err = tx.SearchProperties(ctx, q.filter())
		return err
	})
	found := page.Properties
	v := searchView{Properties: make([]propertyView, len(found)), TotalCount: page.Total, TotalCapped: page.Capped, ReturnedCount: len(found), HasMore: page.More}
	for i := range found {
		v.Properties[i] = viewProperty(&found[i])
	}
	next := offsetBehind(q.Offset, len(found), page.More)
	v.Metadata = searchMetadata{
		City: orNull(q.City), CheckIn: orNull(q.CheckIn), CheckOut: orNull(q.CheckOut), SortBy: q.SortBy, Limit: q.Limit, Offset: q.Offset, NextOffset: next,
	}
	return answer{data: v}, err
}

func (s *server) property(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "property_id")
	if err != nil {
		return answer{}, err
	}
	var v propertyView
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		found, err := tx.Property(ctx, schemas.PropertyID(id))
		v = viewProperty(&found)
		return err
	})
	return answer{data: v}, err
}

// nextOffset is where the next page begins, or nil after the last one.
func nextOffset(offset, returned, total int) *int {
	if next := offset + returned; returned > 0 && next < total {
		return &next
	}
	return nil
}

// maxOffset is where pages by offset end: Postgres reads and drops what is before a
// page.
const maxOffset = 10_000

// offsetBehind is where the next page begins, or nil after the last one and behind
// maxOffset.
func offsetBehind(offset, returned int, more bool) *int {
	if next := offset + returned; more && next <= maxOffset {
		return &next
	}
	return nil
}

// orNull shows an empty value as null, as the contract does.
func orNull[T ~string](v T) *T {
	if v == "" {
		return nil
	}
	return &v
}
