package api

import (
	"context"
	"net/http"
	"regexp"

	"golang.org/x/text/language"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// propertyBody is a whole home. The bounds of its money keep the dearest stay
// below what one booking may cost, so every home can be booked.
type propertyBody struct {
	Title         string         `json:"title" check:"required,min=3,max=200,line"`
	Type          string         `json:"property_type" check:"required,min=1,max=50,line"`
	Address       string         `json:"address" check:"required,min=5,max=300,line"`
	City          string         `json:"city" check:"required,min=1,max=100,line"`
	State         string         `json:"state" check:"required,min=1,max=100,line"`
	Country       string         `json:"country" check:"required,as=country"`
	Latitude      *float64       `json:"latitude" check:"min=-90,max=90"`
	Longitude     *float64       `json:"longitude" check:"min=-180,max=180"`
	Bedrooms      int            `json:"bedrooms" check:"required,min=0,max=100"`
	Bathrooms     int            `json:"bathrooms" check:"required,min=0,max=100"`
	MaxGuests     int            `json:"max_guests" check:"required,min=1,max=50"`
	Status        string         `json:"status" check:"enum=draft|active|inactive" default:"active"`
	Currency      string         `json:"currency" check:"required,as=currency"`
	Price         schemas.Amount `json:"base_price_per_night" check:"required,min=0.01,max=10000"`
	CleaningFee   schemas.Amount `json:"cleaning_fee" check:"min=0,max=10000" default:"75"`
	ServiceFee    schemas.Amount `json:"service_fee_percent" check:"min=0,max=100" default:"3"`
	TaxPerNight   schemas.Amount `json:"tax_per_night" check:"min=0,max=1000" default:"15"`
	MinimumNights int            `json:"minimum_nights" check:"min=1,max=365" default:"1"`
	MaximumNights int            `json:"maximum_nights" check:"min=1,max=365" default:"365"`
	AvailableFrom *schemas.Date  `json:"available_from"`
	AvailableTo   *schemas.Date  `json:"available_to"`
	TimeZone      string         `json:"time_zone" check:"max=64,as=timezone" default:"Asia/Dubai"`
}

func (b *propertyBody) check(add func(field, rule, message string)) {
	if (b.Latitude == nil) != (b.Longitude == nil) {
		add("longitude", "together", "and latitude go together")
	}
	if b.MinimumNights > 0 && b.MaximumNights > 0 && b.MaximumNights < b.MinimumNights {
		add("maximum_nights", "range", "must not be below minimum_nights")
	}
	if b.AvailableFrom != nil && b.AvailableTo != nil && *b.AvailableFrom != "" && *b.AvailableTo != "" && *b.AvailableTo <= *b.AvailableFrom {
		add("available_to", "after", "must be after available_from")
	}
}

func (b *propertyBody) property(id schemas.PropertyID) store.Property {
	return store.Property{
		ID: id, Title: b.Title, Address: b.Address, City: b.City, State: b.State, Country: b.Country, Latitude: b.Latitude,
		Longitude: b.Longitude, Type: b.Type, Bedrooms: b.Bedrooms, Bathrooms: b.Bathrooms, MaxGuests: b.MaxGuests, Status: b.Status,
		Currency: b.Currency, PricePerNight: b.Price, CleaningFee: b.CleaningFee, ServiceFeeBP: int64(b.ServiceFee),
		TaxPerNight: b.TaxPerNight, MinimumNights: b.MinimumNights, MaximumNights: b.MaximumNights,
		AvailableFrom: b.AvailableFrom, AvailableTo: b.AvailableTo, TimeZone: b.TimeZone,
	}
}

// checkCountry takes the countries of ISO 3166-1 by their two letters, as CLDR has them:
// golang.org/x/text, in the version of go.mod, whose tables are of CLDR 32 (2017-10).
// No country has come into the standard since.
func checkCountry(s string) string {
	if r, err := language.ParseRegion(s); err != nil || !r.IsCountry() || r.String() != s {
		return "must be a country as AE"
	}
	return ""
}

func checkCurrency(s string) string {
	if err := schemas.CheckCurrency(s); err != nil {
		return err.Error()
	}
	return ""
}

func checkTimeZone(s string) string {
	if _, err := schemas.LoadZone(s); err != nil {
		return "must be a time zone of the IANA database, in its spelling, as Asia/Dubai"
	}
	return ""
}

// homeID is what a host may call a home: it stands in paths, where "search" is
// taken.
var homeID = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)

type hostPropertyView struct {
	propertyView

	Status string `json:"status"`
}

func viewHostProperty(p *store.Property) hostPropertyView {
	return hostPropertyView{viewProperty(p), p.Status}
}

type hostPropertyQuery struct {
	Status string `json:"status" check:"enum=draft|active|inactive|suspended"`
	Limit  int    `json:"limit" check:"min=1,max=100" default:"20"`
	Offset int    `json:"offset" check:"min=0,max=10000" default:"0"`
}

type hostPropertyPage struct {
	Properties    []hostPropertyView `json:"properties"`
	TotalCount    int                `json:"total_count"`
	TotalCapped   bool               `json:"total_count_capped"`
	ReturnedCount int                `json:"returned_count"`
	HasMore       bool               `json:"has_more"`
	HostID        schemas.HostID     `json:"host_id"`
	Pagination    paginationView     `json:"pagination"`
}

func (s *server) hostProperties(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[hostPropertyQuery](r)
	if err != nil {
		return answer{}, err
	}
	v := hostPropertyPage{HostID: p.Host}
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		page, err := tx.HostProperties(ctx, p.Host, q.Status, q.Limit, q.Offset)
		homes := page.Properties
		v.Properties, v.TotalCount, v.TotalCapped, v.ReturnedCount, v.HasMore = make([]hostPropertyView, len(homes)), page.Total, page.Capped, len(homes), page.More
		for i := range homes {
			v.Properties[i] = viewHostProperty(&homes[i])
		}
		return err
	})
	next := offsetBehind(q.Offset, v.ReturnedCount, v.HasMore)
	v.Pagination = paginationView{Limit: q.Limit, Offset: q.Offset, NextOffset: next}
	return answer{data: v}, err
}

func (s *server) hostProperty(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "property_id")
	if err != nil {
		return answer{}, err
	}
	var v hostPropertyView
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		home, err := tx.OwnProperty(ctx, p.Host, schemas.PropertyID(id))
		v = viewHostProperty(&home)
		return err
	})
	return answer{data: v}, err
}

func (s *server) putProperty(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "property_id")
	if err != nil {
		return answer{}, err
	}
	if !homeID.MatchString(id) || id == "search" {
		return answer{}, schemas.Refuse(schemas.Malformed, "invalid_property_id", "property_id", "format",
			"property_id must be 1 to 64 letters, digits, - or _, and not the word search")
	}
	in, _, err := decode[propertyBody](r, strict)
	if err != nil {
		return answer{}, err
	}
	home, err := s.o.Producer.PutProperty(r.Context(), p.Scope(), in.property(schemas.PropertyID(id)))
	if err != nil {
		return answer{}, err
	}
	return answer{data: viewHostProperty(&home), message: "Property is " + home.Status}, nil
}
