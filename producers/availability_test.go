package producers_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// TestAlternativesAreTheNearestFreeStays compares with a search that tries every
// day there is.
func TestAlternativesAreTheNearestFreeStays(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	now := time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)
	today := schemas.DateOf(now)
	for range 500 {
		p := home("prop_1")
		p.Status, p.MinimumNights, p.MaximumNights = "active", 1, 30
		if r.IntN(2) == 0 {
			from, to := today.AddDays(r.IntN(60)-20), today.AddDays(40+r.IntN(100))
			p.AvailableFrom, p.AvailableTo = &from, &to
		}
		var taken []store.Span
		for at := 0; at < 900; {
			at += r.IntN(6)
			n := 1 + r.IntN(6)
			taken = append(taken, store.Span{CheckIn: today.AddDays(at), CheckOut: today.AddDays(at + n)})
			at += n
		}
		in, nights := r.IntN(120), 1+r.IntN(4)
		stay := producers.Stay{CheckIn: today.AddDays(in), CheckOut: today.AddDays(in + nights), Guests: 2}
		q, err := producers.Inquire(&p, stay, now)
		if err != nil {
			t.Fatal(err)
		}
		a := q.Answer(taken)
		want := everyFreeStay(&p, taken, today, nights)
		if free := slices.Contains(want, stay.CheckIn); free != (len(a.Reasons) == 0) {
			t.Fatalf("seed %d: %v is free: %v, but the reasons are %v", seed, stay, free, a.Reasons)
		}
		if len(a.Reasons) == 0 {
			continue
		}
		checkNearest(t, seed, stay, a.Alternatives, want)
	}
}

func checkNearest(t *testing.T, seed uint64, stay producers.Stay, got []store.Span, free []schemas.Date) {
	t.Helper()
	distance := func(d schemas.Date) int { n := stay.CheckIn.NightsUntil(d); return max(n, -n) }
	near, farthest := 0, 0
	for _, d := range free {
		if distance(d) <= 90 {
			near++
		}
	}
	for i, s := range got {
		if !slices.Contains(free, s.CheckIn) || s.CheckIn.NightsUntil(s.CheckOut) != stay.CheckIn.NightsUntil(stay.CheckOut) {
			t.Fatalf("seed %d: %v for %v is not free", seed, s, stay)
		}
		if d := distance(s.CheckIn); d < farthest || i > 0 && s == got[i-1] {
			t.Fatalf("seed %d: %v for %v is not in order", seed, got, stay)
		} else {
			farthest = d
		}
	}
	closer := 0
	for _, d := range free {
		if distance(d) < farthest {
			closer++
		}
	}
	if closer > len(got) || len(got) < min(5, near) || len(got) > 5 {
		t.Fatalf("seed %d: %v for %v: %d are closer, %d near", seed, got, stay, closer, near)
	}
}

func everyFreeStay(p *store.Property, taken []store.Span, today schemas.Date, nights int) []schemas.Date {
	var free []schemas.Date
	for at := range 731 {
		in, out := today.AddDays(at), today.AddDays(at+nights)
		ok := (p.AvailableFrom == nil || in >= *p.AvailableFrom) && (p.AvailableTo == nil || out <= *p.AvailableTo)
		for _, s := range taken {
			ok = ok && (s.CheckOut <= in || s.CheckIn >= out)
		}
		if ok {
			free = append(free, in)
		}
	}
	return free
}
