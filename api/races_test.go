package api_test

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// replica is another process's API on the same database: nothing in memory is
// shared with w, so what keeps the two apart is Postgres.
func (w *world) replica(change ...func(*producers.Options)) *world {
	w.t.Helper()
	db, err := store.Open(w.t.Context(), w.url, store.RoleAPI, 10)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(db.Close)
	ring, err := seal.DeriveRing("a master secret of the tests")
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := auth.New(w.t.Context(), auth.Options{DB: db, JWTSecret: jwtSecret})
	if err != nil {
		w.t.Fatal(err)
	}
	o := producers.Options{DB: db, Ring: ring, Now: w.now, AllowedAddress: func(netip.Addr) bool { return false }}
	for _, c := range change {
		c(&o)
	}
	other := *w
	other.db, other.srv = db, httptest.NewServer(api.New(api.Options{
		DB: db, Producer: producers.New(o), Auth: a, Logger: testenv.Logger(w.t), HostReads: unlimited, HostWrites: unlimited,
	}))
	w.t.Cleanup(other.srv.Close)
	return &other
}

// at is the same caller, calling another process.
func (c client) at(w *world) client {
	c.w = w
	return c
}

// race sends n requests at once and returns their answers.
func race(t *testing.T, n int, send func(i int) (reply, error)) []reply {
	t.Helper()
	replies := make([]reply, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			var err error
			if replies[i], err = send(i); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	return replies
}

// events are what a booking has on its topic, in order, as the outbox holds it:
// the relay publishes these rows as they are.
func (w *world) events(id string) []schemas.Event {
	w.t.Helper()
	rows, err := w.sql.Query(w.t.Context(), `select value from outbox where topic = $1 and key = $2 order by id`, schemas.BookingEvents, id)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var out []schemas.Event
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			w.t.Fatal(err)
		}
		e, err := schemas.Decode[schemas.Event](raw)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// agrees holds a booking's events to its row: versions rise by one from the first
// to the row's, and the last event has the row's status.
func (w *world) agrees(id string) {
	w.t.Helper()
	var (
		version int64
		status  schemas.BookingStatus
	)
	if err := w.sql.QueryRow(w.t.Context(), `select version, status from bookings where id = $1`, id).Scan(&version, &status); err != nil {
		w.t.Fatal(err)
	}
	events := w.events(id)
	for i, e := range events {
		if e.Version != int64(i)+1 || e.Booking.Version != e.Version {
			w.t.Errorf("event %d of %s has version %d", i+1, id, e.Version)
		}
	}
	if n := len(events); int64(n) != version || events[n-1].Booking.Status != status {
		w.t.Errorf("%s is %s at version %d, and has %d events", id, status, version, n)
	}
}

func TestOfManyGuestsOfTheSameNightsOneIsBooked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	processes := []*world{w, w.replica()}
	const racers = 64
	guests := make([]client, racers)
	for i := range guests {
		guests[i] = w.key("bookings:write").at(processes[i%2])
	}
	var winner string
	for i, r := range race(t, racers, func(i int) (reply, error) {
		body := stay(7)
		body["guest_info"].(map[string]any)["email"] = fmt.Sprintf("guest%d@example.com", i)
		return guests[i].send("POST", bookings, body)
	}) {
		switch {
		case r.status == 200 && winner == "":
			winner = r.text("data.booking_id")
			r.is("data.guest_info.email", fmt.Sprintf("guest%d@example.com", i))
		default:
			r.refused(409, "dates_taken").is("conflict.check_in", day(7), "conflict.check_out", day(9))
		}
	}
	if n := w.count(`select count(*) from bookings`); n != 1 || winner == "" || w.outbox() != 2 {
		t.Fatalf("%d bookings and %d outbox rows, winner %q", n, w.outbox(), winner)
	}
	w.agrees(winner)
}

// Whoever says which version it means to change wins alone. Who does not may find
// a legal move behind another's, as to cancel what was just confirmed.
func TestOfConfirmAndCancelOneWinsEachBooking(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	processes := []*world{w, w.replica()}
	a, h := w.key("bookings:write"), w.host(hostOne)
	const stays, racers = 10, 64 // bookings, and callers of each
	ids := make([]string, stays)
	for i := range ids {
		ids[i] = a.book(7 + 2*i)
	}
	for _, version := range []string{`"2"`, "*"} {
		won := map[string]int{}
		for i, r := range race(t, stays*racers, func(i int) (reply, error) {
			id, at := ids[i%stays], processes[i/stays%2]
			switch i / stays % 4 {
			case 0, 3:
				return h.at(at).send("POST", hostPath(hostOne, "/"+id+"/confirm"), nil, "If-Match", version)
			case 1:
				return a.at(at).send("PUT", statusPath(id), map[string]any{"status": "cancelled"}, "If-Match", version)
			default:
				return h.at(at).send("POST", hostPath(hostOne, "/"+id+"/decline"), nil, "If-Match", version)
			}
		}) {
			switch r.status {
			case 200:
				won[ids[i%stays]]++
			case 409:
			default:
				t.Errorf("answered %d: %s", r.status, r.body)
			}
		}
		for _, id := range ids {
			if version != "*" && won[id] != 1 {
				t.Errorf("%d won %s, want one", won[id], id)
			}
			w.agrees(id)
		}
	}
	if n := w.count(`select count(*) from bookings where status = 'pending'`); n != 0 {
		t.Errorf("%d bookings are pending still", n)
	}
}

func TestFiftyOfOneIdempotencyKeyMakeOneBooking(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	processes := []*world{w, w.replica()}
	a := w.key("bookings:write")
	replies := race(t, 50, func(i int) (reply, error) {
		return a.at(processes[i%2]).send("POST", bookings, stay(7), "Idempotency-Key", "same")
	})
	for _, r := range replies {
		if r.want(200); string(r.body) != string(replies[0].body) {
			t.Errorf("answered\n%s\nand\n%s", r.body, replies[0].body)
		}
	}
	if n := w.count(`select count(*) from bookings`); n != 1 || w.outbox() != 2 {
		t.Errorf("%d bookings, %d outbox rows", n, w.outbox())
	}
}

// A home that is changed while it is booked: every booking has the price of one of
// the two states, and nobody waits for anybody in a circle.
func TestAHomeIsReplacedWhileItIsBooked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	processes := []*world{w, w.replica()}
	a, h := w.key("bookings:write"), w.host(hostOne)
	h.do("PUT", ownHome(hostOne, "h"), with(cottage(), "base_price_per_night", 100, "cleaning_fee", 0, "service_fee_percent", 0)).want(200)
	for i, r := range race(t, 60, func(i int) (reply, error) {
		at := processes[i%2]
		if i%3 == 0 {
			return h.at(at).send("PUT", ownHome(hostOne, "h"), with(cottage(), "base_price_per_night", 100+i%2, "cleaning_fee", 0, "service_fee_percent", 0))
		}
		return a.at(at).send("POST", bookings, with(stay(2+2*i), "property_id", "h", "total_amount", json.Number("200")))
	}) {
		if r.status != 200 {
			r.refused(400, "price_mismatch").is("expected_amount", 202)
		} else if i%3 != 0 {
			w.agrees(r.text("data.booking_id"))
		}
	}
}
