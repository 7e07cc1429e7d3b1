package api

import (
	"context"
	"net/http"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

type availabilityQuery struct {
	CheckIn  schemas.Date `json:"check_in" check:"required"`
	CheckOut schemas.Date `json:"check_out" check:"required"`
	Guests   int          `json:"guests" check:"min=1,max=50" default:"1"`
}

type availabilityView struct {
	PropertyID   schemas.PropertyID `json:"property_id"`
	CheckIn      schemas.Date       `json:"check_in"`
	CheckOut     schemas.Date       `json:"check_out"`
	Guests       int                `json:"guests"`
	IsAvailable  bool               `json:"is_available"`
	Reasons      []string           `json:"reasons"`
	Alternatives []datesView        `json:"alternative_dates"`
}

func (s *server) availability(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "property_id")
	if err != nil {
		return answer{}, err
	}
	q, err := query[availabilityQuery](r)
	if err != nil {
		return answer{}, err
	}
	var a producers.Availability
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		home, err := tx.Property(ctx, schemas.PropertyID(id))
		if err != nil {
			return err
		}
		inquiry, err := producers.Inquire(&home, producers.Stay(q), s.o.Producer.Now())
		if err != nil {
			return err
		}
		taken, err := tx.TakenDates(ctx, home.ID, inquiry.From, inquiry.To)
		a = inquiry.Answer(taken)
		return err
	})
	v := availabilityView{
		PropertyID: schemas.PropertyID(id), CheckIn: q.CheckIn, CheckOut: q.CheckOut, Guests: q.Guests, IsAvailable: len(a.Reasons) == 0,
		Reasons: a.Reasons, Alternatives: make([]datesView, len(a.Alternatives)),
	}
	for i, d := range a.Alternatives {
		v.Alternatives[i] = datesView{d.CheckIn, d.CheckOut, d.CheckIn.NightsUntil(d.CheckOut)}
	}
	return answer{data: v}, err
}

type priceBody struct {
	CheckIn   schemas.Date `json:"check_in" check:"required"`
	CheckOut  schemas.Date `json:"check_out" check:"required"`
	Guests    int          `json:"guests" check:"min=1,max=50" default:"1"`
	PromoCode string       `json:"promo_code" check:"max=50"`
}

type priceView struct {
	PropertyID  schemas.PropertyID    `json:"property_id"`
	CheckIn     schemas.Date          `json:"check_in"`
	CheckOut    schemas.Date          `json:"check_out"`
	Guests      int                   `json:"guests"`
	Nights      int                   `json:"nights"`
	BasePrice   schemas.Amount        `json:"base_price"`
	CleaningFee schemas.Amount        `json:"cleaning_fee"`
	ServiceFee  schemas.Amount        `json:"service_fee"`
	Taxes       schemas.Amount        `json:"taxes"`
	Discount    schemas.Amount        `json:"discount"` // always zero: a booking costs the whole price
	TotalPrice  schemas.Amount        `json:"total_price"`
	Currency    string                `json:"currency"`
	Breakdown   []producers.PriceLine `json:"breakdown"`
}

func (s *server) calculatePricing(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "property_id")
	if err != nil {
		return answer{}, err
	}
	in, _, err := decode[priceBody](r, strict)
	if err != nil {
		return answer{}, err
	}
	var q producers.Quote
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		home, err := tx.Property(ctx, schemas.PropertyID(id))
		if err != nil {
			return err
		}
		q, err = producers.PriceStay(&home, producers.Stay{CheckIn: in.CheckIn, CheckOut: in.CheckOut, Guests: in.Guests}, s.o.Producer.Now())
		return err
	})
	if err != nil {
		return answer{}, err
	}
	a := answer{data: priceView{
		PropertyID: schemas.PropertyID(id), CheckIn: in.CheckIn, CheckOut: in.CheckOut, Guests: in.Guests, Nights: q.Nights,
		BasePrice: q.Base, CleaningFee: q.CleaningFee, ServiceFee: q.ServiceFee, Taxes: q.Taxes,
		TotalPrice: q.Total, Currency: q.Currency, Breakdown: q.Breakdown,
	}}
	if in.PromoCode != "" {
		a.message = "Promo codes lower no price here: a booking costs the whole one"
	}
	return a, nil
}
