package api_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// bounds are those of a process on pending nights and requests.
func bounds(nights, requests int) func(*producers.Options) {
	return func(o *producers.Options) { o.PendingNights, o.PendingRequests = nights, requests }
}

// newBoundedWorld has properties whose nights cost 100 each and nothing else.
func newBoundedWorld(t *testing.T, nights, requests int) *world {
	t.Helper()
	w := newWorld(t)
	w.property("second", hostOne, "Dubai", 1)
	w.property("other_host", hostTwo, "Dubai", 1)
	w.exec(`update properties set price_per_night = 10000, cleaning_fee = 0, service_fee_bp = 0, tax_per_night = 0`)
	w = w.replica(bounds(nights, requests))
	held(t, w.srv.Client())
	return w
}

// request is a body for some nights of a property from a day on.
func request(property string, in, nights int) map[string]any {
	return with(stay(in), "property_id", property, "check_out", day(in+nights), "total_amount", json.Number(fmt.Sprint(100*nights)))
}

func TestPendingNightsOfAnAgentAndPropertyAreBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit  int
		stays  []int // nights of those that are taken
		beyond int   // nights of one that is not
		fits   int   // nights of one that still is, or 0
	}{
		"many short stays":                 {limit: 10, stays: []int{1, 2, 1, 2, 1, 2}, beyond: 2, fits: 1},
		"few long stays":                   {limit: 400, stays: []int{200, 199}, beyond: 2, fits: 1},
		"two stays that fill the bound":    {limit: 90, stays: []int{45, 45}, beyond: 1},
		"one stay longer than the bound":   {limit: 90, beyond: 91, fits: 90},
		"the longest stay of the property": {limit: 364, stays: []int{1}, beyond: 365, fits: 363},
		"one night":                        {limit: 1, beyond: 2, fits: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newBoundedWorld(t, c.limit, 0)
			a, at, pending := w.key("bookings:write"), 5, 0
			for _, nights := range c.stays {
				a.do("POST", bookings, request(home, at, nights)).want(200)
				at, pending = at+nights, pending+nights
			}
			before := w.outbox()
			r := a.do("POST", bookings, request(home, at, c.beyond)).refused(409, "too_many_pending_nights").is("limit", c.limit, "pending", pending)
			if rule := r.fields()["check_out"]; rule != "max" || w.outbox() != before {
				t.Errorf("rule %q, %d outbox rows, were %d", rule, w.outbox(), before)
			}
			a.do("POST", bookings, request("second", at, 1)).want(200)                   // each property has its own
			w.key("bookings:write").do("POST", bookings, request(home, at, 1)).want(200) // and so has each agent
			if c.fits > 0 {
				a.do("POST", bookings, request(home, at+1, c.fits)).want(200)
				a.do("POST", bookings, request(home, at+1+c.fits, 1)).refused(409, "too_many_pending_nights")
			}
		})
	}
}

// A property whose shortest stay is longer than the bound could not be asked for.
func TestPropertyOfLongStaysTakesOnePendingRequest(t *testing.T) {
	t.Parallel()
	w := newBoundedWorld(t, 30, 0)
	w.exec(`update properties set minimum_nights = 120 where id = $1`, home)
	a := w.key("bookings:write")
	a.do("POST", bookings, request(home, 5, 121)).refused(409, "too_many_pending_nights").is("limit", 120, "pending", 0)
	a.do("POST", bookings, request(home, 5, 120)).want(200)
	a.do("POST", bookings, request(home, 130, 120)).refused(409, "too_many_pending_nights").is("limit", 120, "pending", 120)
}

func TestPendingRequestsOfAnAgentToAHostAreBounded(t *testing.T) {
	t.Parallel()
	w := newBoundedWorld(t, 0, 3)
	a := w.key("bookings:write")
	for i, property := range []string{home, "second", home} {
		a.do("POST", bookings, request(property, 5+10*i, 9)).want(200)
	}
	for i, property := range []string{home, "second"} {
		a.do("POST", bookings, request(property, 50+10*i, 1)).refused(409, "too_many_pending_requests").is("limit", 3, "pending", 3)
	}
	a.do("POST", bookings, request("other_host", 5, 200)).want(200)
	w.key("bookings:write").do("POST", bookings, request(home, 50, 1)).want(200)
}

// The room is there at once, without a job.
func TestWhatIsNotPendingMakesRoom(t *testing.T) {
	t.Parallel()
	cancelled := map[string]any{"status": "cancelled"}
	for name, free := range map[string]func(w *world, a client, id string){
		"the agent cancels": func(_ *world, a client, id string) { a.do("PUT", statusPath(id), cancelled).want(200) },
		"the host declines": func(w *world, _ client, id string) {
			w.host(hostOne).do("POST", hostPath(hostOne, "/"+id+"/decline"), nil).want(200)
		},
		"the host confirms": func(w *world, _ client, id string) {
			w.host(hostOne).do("POST", hostPath(hostOne, "/"+id+"/confirm"), nil).want(200)
		},
		"the time has run out": func(w *world, _ client, _ string) { w.at(time.Now().Add(24*time.Hour + time.Second)) },
		"the host has confirmed at once": func(w *world, a client, id string) {
			a.do("PUT", statusPath(id), cancelled).want(200)
			w.host(hostOne).do("PUT", settingsPath(hostOne), map[string]any{"auto_approve_bookings": true, "instant_approval": true}).want(200)
			for i := range 3 {
				a.do("POST", bookings, request(home, 100+2*i, 2)).want(200).is("data.status", "confirmed")
			}
			w.host(hostOne).do("PUT", settingsPath(hostOne), map[string]any{"instant_approval": false}).want(200)
		},
	} {
		for bound, b := range map[string]func(*producers.Options){"too_many_pending_nights": bounds(4, 0), "too_many_pending_requests": bounds(0, 1)} {
			t.Run(name+" "+bound, func(t *testing.T) {
				t.Parallel()
				w := newBoundedWorld(t, 0, 0).replica(b)
				a := w.key("bookings:write")
				id := a.do("POST", bookings, request(home, 10, 4)).want(200).text("data.booking_id")
				a.do("POST", bookings, request(home, 30, 4)).refused(409, bound)
				free(w, a, id)
				a.do("POST", bookings, request(home, 30, 4)).want(200).is("data.status", "pending")
				a.do("POST", bookings, request(home, 50, 4)).refused(409, bound)
			})
		}
	}
}

// A request that is repeated takes no more than it has, with an Idempotency-Key and
// without. One that was refused is decided anew under its key.
func TestRepeatedRequestIsNoSecondPendingOne(t *testing.T) {
	t.Parallel()
	w := newBoundedWorld(t, 4, 1)
	a := w.key("bookings:write")
	first := a.do("POST", bookings, request(home, 10, 4), "Idempotency-Key", "one").want(200).text("data.booking_id")
	a.do("POST", bookings, request(home, 10, 4), "Idempotency-Key", "one").want(200).is("data.booking_id", first)
	a.do("POST", bookings, request(home, 10, 4)).want(200).is("data.booking_id", first)
	a.do("POST", bookings, request(home, 20, 4), "Idempotency-Key", "two").refused(409, "too_many_pending_nights")
	a.do("PUT", statusPath(first), map[string]any{"status": "cancelled"}).want(200)
	a.do("POST", bookings, request(home, 20, 4), "Idempotency-Key", "two").want(200)
}

func TestPlatformKeyHasNoBoundOnPendingRequests(t *testing.T) {
	t.Parallel()
	w := newBoundedWorld(t, 2, 1)
	p := w.key("platform", "bookings:write")
	for i := range 4 {
		p.do("POST", bookings, request(home, 10+5*i, 3)).want(200).is("data.status", "pending")
	}
}

// Requests that come at once, to two processes: those of one property wait for its
// row, those of two for the agent's turn at the host.
func TestRequestsAtOncePassNoBoundTogether(t *testing.T) {
	t.Parallel()
	const racers, limit = 40, 7
	for name, c := range map[string]struct {
		bound      func(*producers.Options)
		code       string
		properties []string
	}{
		"nights of one property":     {bounds(2*limit, 0), "too_many_pending_nights", []string{home}},
		"requests to one property":   {bounds(0, limit), "too_many_pending_requests", []string{home}},
		"requests to two properties": {bounds(0, limit), "too_many_pending_requests", []string{home, "second"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newBoundedWorld(t, 0, 0)
			processes := []*world{w.replica(c.bound), w.replica(c.bound)}
			a, taken := w.key("bookings:write"), 0
			for _, r := range race(t, racers, func(i int) (reply, error) {
				return a.at(processes[i/2%2]).send("POST", bookings, request(c.properties[i%len(c.properties)], 5+2*i, 2))
			}) {
				if r.status == 200 {
					taken++
					continue
				}
				r.refused(409, c.code)
			}
			if n := w.count(`select count(*) from bookings where status = $1`, schemas.Pending); taken != limit || n != limit {
				t.Errorf("%d requests were taken and %d are pending, want %d", taken, n, limit)
			}
		})
	}
}
