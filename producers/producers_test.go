package producers_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func home(id string) store.Property {
	return store.Property{
		ID: schemas.PropertyID(id), Title: "Home", Currency: "AED", PricePerNight: 42500, CleaningFee: 4450, ServiceFeeBP: 300, TaxPerNight: 1500,
		MaxGuests: 4, TimeZone: "Asia/Dubai",
	}
}

func TestAStayIsQuotedLineByLine(t *testing.T) {
	t.Parallel()
	p := home("prop_1")
	q := producers.QuoteStay(&p, 2)
	want := []producers.PriceLine{
		{Name: "Base price", Amount: 85000, Type: "base"},
		{Name: "Cleaning fee", Amount: 4450, Type: "fee"},
		{Name: "Service fee", Amount: 2550, Type: "fee"},
		{Name: "Tourism tax", Amount: 3000, Type: "tax"},
	}
	if q.Total != 95000 || q.Nights != 2 || len(q.Breakdown) != len(want) {
		t.Fatalf("got %+v", q)
	}
	for i := range want {
		if q.Breakdown[i] != want[i] {
			t.Errorf("line %d is %+v, want %+v", i, q.Breakdown[i], want[i])
		}
	}
}

func TestAServiceFeeIsRoundedHalfUpOnce(t *testing.T) {
	t.Parallel()
	for price, want := range map[schemas.Amount]schemas.Amount{49: 1, 50: 2, 16: 0, 17: 1, 33: 1} { // 3 % of one night
		p := store.Property{PricePerNight: price, ServiceFeeBP: 300, Currency: "AED"}
		if got := producers.QuoteStay(&p, 1).Breakdown[2].Amount; got != want {
			t.Errorf("3 %% of %d is %d, want %d", price, got, want)
		}
	}
}

// ground is a database with homes and a Producer on it.
func ground(tb testing.TB, homes int) (*producers.Producer, *atomic.Int64) {
	tb.Helper()
	url := testenv.Database(tb)
	jobs, err := store.Open(tb.Context(), url, store.RoleJobs, 1)
	if err != nil {
		tb.Fatal(err)
	}
	defer jobs.Close()
	for i := range homes {
		s := store.Seed{AgentID: "agent_1", KeyID: "key_1", KeyHash: make([]byte, 32), Scopes: []string{}, HostID: "host_1", Property: home("prop_" + strconv.Itoa(i))}
		if err := jobs.Update(tb.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error { return tx.PlantSeed(ctx, s) }); err != nil {
			tb.Fatal(err)
		}
	}
	db, err := store.Open(tb.Context(), url, store.RoleAPI, 16)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	ring, err := seal.DeriveRing("a secret for tests")
	if err != nil {
		tb.Fatal(err)
	}
	var wakes atomic.Int64
	return producers.New(producers.Options{DB: db, Ring: ring, Wake: func() { wakes.Add(1) }}), &wakes
}

func stay(property, n int) producers.NewBooking {
	in := schemas.DateOf(time.Now().AddDate(0, 0, 3+2*n))
	return producers.NewBooking{
		PropertyID: schemas.PropertyID("prop_" + strconv.Itoa(property)), CheckIn: in, CheckOut: in.AddDays(2), Guests: 2, TotalAmount: 95000,
		Guest:         schemas.Guest{FirstName: "A", LastName: "B", Email: fmt.Sprintf("g%d-%d@example.com", property, n), Phone: "1", CountryCode: "+971"},
		PaymentMethod: "pending",
	}
}

var agent = store.Scope{Agent: "agent_1", Platform: true}

func TestTheRelayIsWokenByACommitAndNotByARefusal(t *testing.T) {
	t.Parallel()
	p, wakes := ground(t, 1)
	if _, err := p.CreateBooking(t.Context(), agent, nil, stay(0, 0)); err != nil || wakes.Load() != 1 {
		t.Fatalf("%v, %d wakes", err, wakes.Load())
	}
	other := stay(0, 0)
	other.Guest.Email = "other@example.com"
	if _, err := p.CreateBooking(t.Context(), agent, nil, other); schemas.KindOf(err) != schemas.Conflict || wakes.Load() != 1 {
		t.Errorf("%v, %d wakes", err, wakes.Load())
	}
}

// Sixteen callers on a throwaway Postgres, which does not sync: it measures the
// command, not the disk.
func BenchmarkCreateBooking(b *testing.B) {
	const homes = 200
	p, _ := ground(b, homes)
	var next atomic.Int64
	b.SetParallelism(8) // of GOMAXPROCS
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := int(next.Add(1))
			if _, err := p.CreateBooking(b.Context(), agent, nil, stay(n%homes, n/homes)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bookings/s")
}
