package fanout_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/fanout"
	"github.com/krib-ai/krib/schemas"
)

// counted starts a processor and returns what reads its metrics.
func counted(t *testing.T, c *testenv.Cluster) (metric func(name string) float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	p, err := fanout.New(fanout.Options{Kafka: c.Config, Logger: c.Config.Logger, Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, p.Run)
	return func(name string) float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "krib_fanout_"+name {
				return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		t.Fatalf("no metric %s", name)
		return 0
	}
}

func filtered(id, filter string) *schemas.Subscription {
	s := subscription(id, "agent_1", false, schemas.BookingCreated)
	s.Filter = filter
	return s
}

func bookingIn(id, city string, amount schemas.Amount) *schemas.Event {
	e := event(id, 1, schemas.BookingCreated, "agent_1")
	e.Booking.Property.City, e.Booking.TotalAmount = city, amount
	return e
}

func TestAFilterDecidesWhichEventsASubscriptionGets(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	put(t, c, filtered("sub_city", `booking.property.city == 'Dubai'`))
	put(t, c, filtered("sub_dear", `booking.total_amount >= 950`))
	put(t, c, filtered("sub_all", ""))
	metric := counted(t, c)
	happen(t, c, bookingIn("bkg_1", "Dubai", 94999))
	happen(t, c, bookingIn("bkg_2", "Sharjah", 95000))
	happen(t, c, bookingIn("bkg_3", "Sharjah", 100))
	happen(t, c, bookingIn("bkg_4", "Dubai", 1_000_000))
	var got []string
	for _, d := range deliveries(t, c, 8) {
		got = append(got, fmt.Sprint(d.BookingID, " ", d.SubscriptionID))
	}
	slices.Sort(got)
	want := []string{
		"bkg_1 sub_all", "bkg_1 sub_city", "bkg_2 sub_all", "bkg_2 sub_dear", "bkg_3 sub_all", "bkg_4 sub_all", "bkg_4 sub_city", "bkg_4 sub_dear",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	// Matched is delivered and filtered.
	testenv.Eventually(t, "four events are counted", func() bool { return metric("events_total") == 4 })
	if d, f := metric("deliveries_total"), metric("filtered_total"); d != 8 || f != 4 {
		t.Errorf("%v deliveries and %v filtered, want 8 and 4", d, f)
	}
}

func TestAChangedFilterTakesEffectForTheNextEvent(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	start(t, c)
	const n = 6
	for i := range n {
		// The cities change places each time, and in the end there is no filter.
		s := filtered("sub_1", fmt.Sprintf(`booking.property.city == '%s'`, []string{"Dubai", "Sharjah"}[i%2]))
		put(t, c, s)
		happen(t, c, bookingIn(fmt.Sprintf("bkg_%02d_a", i), "Dubai", 100))
		happen(t, c, bookingIn(fmt.Sprintf("bkg_%02d_b", i), "Sharjah", 100))
		// An event that waits may be matched by a subscription that is newer than it.
		c.Read(t, string(schemas.HostNotifications), 4*(i+1))
	}
	put(t, c, filtered("sub_1", ""))
	happen(t, c, bookingIn("bkg_a", "Ajman", 100))
	var got, want []string
	for _, d := range deliveries(t, c, n+1) {
		got = append(got, string(d.BookingID))
	}
	for i := range n {
		want = append(want, fmt.Sprintf("bkg_%02d_%s", i, []string{"a", "b"}[i%2]))
	}
	want = append(want, "bkg_a")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestAFilterIsAskedOnceWhoeverHasIt(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	for i := range 20 {
		put(t, c, filtered(fmt.Sprintf("sub_%02d", i), `booking.property.city == 'Dubai'`))
	}
	put(t, c, filtered("sub_other", `booking.property.city == 'Sharjah'`))
	platform := subscription("sub_platform", "agent_2", true, schemas.BookingCreated)
	platform.Filter = `booking.property.city == 'Dubai'`
	put(t, c, platform)
	metric := counted(t, c)
	const n = 5
	for i := range n {
		happen(t, c, bookingIn(fmt.Sprintf("bkg_%d", i), "Dubai", 100))
	}
	deliveries(t, c, n*21)
	testenv.Eventually(t, "the events are counted", func() bool { return metric("events_total") == n })
	if e, d := metric("filter_evaluations_total"), metric("filters"); e != 2*n || d != 2 {
		t.Errorf("%v evaluations of %v filters, want %d of 2", e, d, 2*n)
	}
}

// A filter that has no answer, or that this version does not understand, keeps
// nothing back.
func TestAFilterWithoutAnAnswerCountsAsAMatch(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	put(t, c, filtered("sub_absent", `booking.confirmed_at > event.occurred_at`))
	put(t, c, filtered("sub_of_old", `booking.no_such_member == 1`))
	metric := counted(t, c)
	happen(t, c, bookingIn("bkg_1", "Dubai", 100))
	deliveries(t, c, 2)
	testenv.Eventually(t, "the event is counted", func() bool { return metric("events_total") == 1 })
	if e, u, f := metric("filter_errors_total"), metric("filters_unusable"), metric("filtered_total"); e != 1 || u != 1 || f != 0 {
		t.Errorf("%v errors, %v unusable, %v filtered, want 1, 1, 0", e, u, f)
	}
	put(t, c, filtered("sub_of_old", `booking.guests == 1`))
	happen(t, c, bookingIn("bkg_2", "Dubai", 100))
	deliveries(t, c, 3)
	testenv.Eventually(t, "the event is counted", func() bool { return metric("events_total") == 2 })
	if u, f := metric("filters_unusable"), metric("filtered_total"); u != 0 || f != 1 {
		t.Errorf("once it is mended, %v are unusable and %v filtered, want 0 and 1", u, f)
	}
}
