package producers

import (
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// A PriceLine is one line of a quote. Type is base, fee, tax or discount.
type PriceLine struct {
	Name   string         `json:"name"`
	Amount schemas.Amount `json:"amount"`
	Type   string         `json:"type"`
}

// A Quote is what a stay costs, line by line.
type Quote struct {
	Nights    int            `json:"nights"`
	Total     schemas.Amount `json:"total_price"`
	Currency  string         `json:"currency"`
	Breakdown []PriceLine    `json:"breakdown"`
}

// QuoteStay computes a stay's price: nights at the base price, the cleaning fee
// once, the service fee as a share of the base (rounded half up to the minor
// unit), the tax for each night.
func QuoteStay(p *store.Property, nights int) Quote {
	n := schemas.Amount(nights)
	base := p.PricePerNight * n
	service := (base*schemas.Amount(p.ServiceFeeBP) + 5000) / 10000
	q := Quote{Nights: nights, Currency: p.Currency, Breakdown: []PriceLine{
		{"Base price", base, "base"},
		{"Cleaning fee", p.CleaningFee, "fee"},
		{"Service fee", service, "fee"},
		{"Tourism tax", p.TaxPerNight * n, "tax"},
	}}
	for _, l := range q.Breakdown {
		q.Total += l.Amount
	}
	return q
}
