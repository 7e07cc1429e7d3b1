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

// A Quote is what a stay costs; the lines of Breakdown are its parts and make the
// total.
type Quote struct {
	Nights                                      int
	Base, CleaningFee, ServiceFee, Taxes, Total schemas.Amount
	Currency                                    string
	Breakdown                                   []PriceLine
}

// QuoteStay computes a stay's price: nights at the base price, the cleaning fee
// once, the service fee as a share of the base (rounded half up to the minor
// unit), the tax for each night.
func QuoteStay(p *store.Property, nights int) Quote {
	n := schemas.Amount(nights)
	base := p.PricePerNight * n
	q := Quote{
		Nights: nights, Currency: p.Currency, Base: base, CleaningFee: p.CleaningFee,
		ServiceFee: (base*schemas.Amount(p.ServiceFeeBP) + 5000) / 10000, Taxes: p.TaxPerNight * n,
	}
	q.Breakdown = []PriceLine{
		{"Base price", q.Base, "base"},
		{"Cleaning fee", q.CleaningFee, "fee"},
		{"Service fee", q.ServiceFee, "fee"},
		{"Tourism tax", q.Taxes, "tax"},
	}
	for _, l := range q.Breakdown {
		q.Total += l.Amount
	}
	return q
}
