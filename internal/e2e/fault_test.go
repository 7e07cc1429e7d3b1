//go:build e2e

package e2e

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/embedded"
	"github.com/krib-ai/krib/internal/testenv"
)

// deliveredAll waits until each booking's first webhook is there.
func deliveredAll(t *testing.T, endpoint *testenv.Endpoint, bookings []string) {
	t.Helper()
	testenv.Eventually(t, "every booking's webhook has arrived", func() bool {
		var all strings.Builder
		for _, r := range endpoint.All() {
			all.Write(r.Body)
		}
		for _, id := range bookings {
			if !strings.Contains(all.String(), id) {
				return false
			}
		}
		return true
	})
}

// While the broker is away bookings are accepted; when it is back, in its place,
// everything goes on by itself.
func TestBookingsAreAcceptedWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	broker, err := embedded.StartKafka(ctx, embedded.KafkaOptions{Dir: dir, Addr: "127.0.0.1:0", Logger: testenv.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	addr := broker.Addrs()[0]
	k := startHere(t, "KRIB_KAFKA_BROKERS="+addr)
	endpoint := testenv.Receiver(t, nil)
	k.subscribe(t, endpoint.URL(), "booking.created")
	bookings := []string{k.book(t, 0)}
	deliveredAll(t, endpoint, bookings)
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 10; i++ {
		bookings = append(bookings, k.book(t, i))
	}
	broker, err = embedded.StartKafka(ctx, embedded.KafkaOptions{Dir: dir, Addr: addr, Logger: testenv.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	t.Cleanup(k.stop) // before the broker
	deliveredAll(t, endpoint, bookings)
	db := openDB(t, k)
	testenv.Eventually(t, "every notification is a row", func() bool {
		return count(t, db, `select count(*) from host_notifications`) == len(bookings)
	})
}

// A stop does not wait for a broker that does not answer.
func TestStoppingWhileTheBrokerIsAwayEnds(t *testing.T) {
	t.Parallel()
	broker, err := embedded.StartKafka(t.Context(), embedded.KafkaOptions{Dir: t.TempDir(), Addr: "127.0.0.1:0", Logger: testenv.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	k := startHere(t, "KRIB_KAFKA_BROKERS="+broker.Addrs()[0])
	endpoint := testenv.Receiver(t, nil)
	k.subscribe(t, endpoint.URL(), "booking.created")
	k.book(t, 0)
	endpoint.Next(t)
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	k.book(t, 1)
	k.stop()
}

// Every session of the database is cut, again and again: the relay loses its
// lock, the sinks their transactions, the API its pool.
func TestCutDatabaseSessionsLoseNothing(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	endpoint := testenv.Receiver(t, nil)
	k.subscribe(t, endpoint.URL(), "booking.created")
	db := openDB(t, k)
	var bookings []string
	for i := range 24 {
		if i%4 == 3 {
			count(t, db, `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
		}
		testenv.Eventually(t, "the booking is accepted", func() bool {
			a, err := k.tryOnce(t.Context(), "POST", "/api/v1/bookings", k.APIKey, "", k.stay(i))
			if err != nil || a.Status == http.StatusServiceUnavailable {
				return false
			}
			if a.Status != http.StatusOK {
				t.Fatalf("booking %d: %d %s", i, a.Status, a.Raw)
			}
			bookings = append(bookings, a.text("booking_id"))
			return true
		})
	}
	deliveredAll(t, endpoint, bookings)
	testenv.Eventually(t, "every notification is a row", func() bool {
		return count(t, db, `select count(*) from host_notifications`) == len(bookings)
	})
	events := readPlain(t, k, "booking.events", 2*len(bookings))
	if len(events) != 2*len(bookings) {
		t.Errorf("%d events, want %d", len(events), 2*len(bookings))
	}
}

// Not parallel: it counts the goroutines of the whole process.
func TestStoppingLeavesNoGoroutineBehind(t *testing.T) {
	warm := startHere(t) // what the test ground itself starts, once
	warm.stop()
	requests.CloseIdleConnections()
	before := runtime.NumGoroutine()
	k := startHere(t)
	endpoint := testenv.Receiver(t, nil)
	k.subscribe(t, endpoint.URL(), "booking.created")
	k.book(t, 0)
	endpoint.Next(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, _ = k.stream(ctx, "", func(frame) bool { return false })
	k.stop()
	requests.CloseIdleConnections()
	streams.CloseIdleConnections()
	testenv.Eventually(t, "the program's goroutines have ended", func() bool {
		// The receiver above is still there: a listener and what it has accepted.
		return runtime.NumGoroutine() <= before+4
	})
}
