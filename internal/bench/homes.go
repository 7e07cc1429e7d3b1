package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// maxStays is how many stays of two nights a home takes: bookings are accepted
// for about two years ahead.
const maxStays = 350

// homes hand out stays that no two bookings share. Neighbours in time are of
// different homes, so none waits for another's row.
type homes struct {
	ids   []schemas.PropertyID
	first schemas.Date
	next  atomic.Int64
}

// take is the next free stay: two nights for AED 950.00.
func (h *homes) take() (producers.NewBooking, error) {
	n := h.next.Add(1) - 1
	home, stay := n%int64(len(h.ids)), int(n/int64(len(h.ids)))
	if stay >= maxStays {
		return producers.NewBooking{}, errors.New("no home has a night left; take fewer runs")
	}
	in := h.first.AddDays(2 * stay)
	return producers.NewBooking{
		PropertyID: h.ids[home], CheckIn: in, CheckOut: in.AddDays(2), Guests: 2, TotalAmount: 95000, PaymentMethod: "pending",
		Guest: schemas.Guest{FirstName: "Amira", LastName: "Haddad", Email: fmt.Sprintf("guest%d@example.com", n), Phone: "501234567", CountryCode: "+971"},
	}, nil
}

// benchAgent books without HTTP. Its key cannot be used: nobody knows of what it
// would be the hash.
const benchAgent schemas.AgentID = "agent_bench"

// plant gives the seed's host more homes, priced as the seed's own.
func (b *bench) plant(ctx context.Context) (*homes, error) {
	b.say("planting %d homes", b.o.Homes)
	h := &homes{first: schemas.DateOf(time.Now()).AddDays(3)}
	seed := store.Seed{
		AgentID: benchAgent, KeyID: "key_bench", KeyHash: make([]byte, 32), Prefix: "bench", Scopes: []string{}, HostID: b.child.dev.HostID,
		Property: store.Property{
			Title: "Marina View Apartment", Address: "12 Al Marsa Street", City: "Dubai", State: "Dubai", Country: "AE", Type: "apartment",
			Bedrooms: 2, Bathrooms: 2, MaxGuests: 4, Currency: "AED", PricePerNight: 42500, CleaningFee: 4450, ServiceFeeBP: 300, TaxPerNight: 1500,
			TimeZone: "Asia/Dubai",
		},
	}
	for range b.o.Homes {
		h.ids = append(h.ids, schemas.NewPropertyID())
	}
	err := b.jobs.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		for _, id := range h.ids {
			seed.Property.ID = id
			if err := tx.PlantSeed(ctx, seed); err != nil {
				return err
			}
		}
		return nil
	})
	return h, err
}
