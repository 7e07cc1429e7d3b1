package pull_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/producers/outbox"
	"github.com/krib-ai/krib/sinks/pull"
)

const kills = 50

// An agent keeps the cursor together with what its events have done.
type agent struct {
	cursor string
	seen   map[string]int   // ids, and how often
	order  map[string][]int // sequences of each booking
}

// live pulls from either replica until ctx ends, at any point: before an answer,
// in the middle of one, or with one that it has not kept yet.
func (a *agent) live(ctx context.Context, k key, replicas []*replica) {
	for ctx.Err() == nil {
		p, err := replicas[rand.IntN(len(replicas))].try(ctx, k, "after", a.cursor, "limit", fmt.Sprint(1+rand.IntN(20)), "wait", "2")
		if err != nil || ctx.Err() != nil {
			return
		}
		a.keep(p)
	}
}

func (a *agent) keep(p *pulled) {
	a.cursor = p.NextCursor
	for _, e := range p.Events {
		a.seen[e.ID]++
		a.order[e.BookingID] = append(a.order[e.BookingID], int(e.Sequence))
	}
}

// book creates a booking of two nights through the API; stays of different n never
// overlap.
func book(ctx context.Context, r *replica, k key, n int) error {
	in := time.Now().UTC().AddDate(0, 0, 7+3*n)
	body, err := json.Marshal(map[string]any{
		"property_id": "prop_1", "check_in": in.Format(time.DateOnly), "check_out": in.AddDate(0, 0, 2).Format(time.DateOnly), "guests": 2,
		"total_amount": json.Number("950.0"), "payment_method": "pending",
		"guest_info": map[string]any{"first_name": "Test", "last_name": "User", "email": "test@example.com", "phone": "501234567", "country_code": "+971"},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/api/v1/bookings", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", k.bearer)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("booking answered %d %s", resp.StatusCode, b)
	}
	return nil
}

// The whole way: bookings over HTTP, the outbox, the relay's transactions, two
// replicas with little memory, and an agent that is killed and started again.
func TestAnAgentThatIsKilledWhilePullingHasEveryEventOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`insert into hosts (id, name) values ('host_1', 'One')`)
	w.exec(`insert into properties (id, host_id, title, address, city, state, country, latitude, longitude, property_type, bedrooms, bathrooms,
		max_guests, status, currency, price_per_night, cleaning_fee)
		values ('prop_1', 'host_1', 'Home', '1 Marina Walk', 'Dubai', 'Dubai', 'AE', 25.08, 55.14, 'apartment', 2, 1, 4, 'active', 'AED', 42500, 4450)`)
	signal := store.NewSignal(store.ChannelOutbox)
	relay := outbox.New(outbox.Options{Kafka: w.c.Config, DatabaseURL: w.url, Signal: signal, Logger: testenv.Logger(t)})
	testenv.Run(t, relay.Run)
	k, other := w.key("agent_1", false, 0), w.key("agent_2", false, 0)
	replicas := []*replica{w.start(func(o *pull.Options) { o.RingBytes = 8 << 10 }), w.start()}

	a := &agent{cursor: replicas[0].pull(k).NextCursor, seen: map[string]int{}, order: map[string][]int{}}
	const bookings = 120
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := range bookings {
			who := k
			if n%3 == 2 {
				who = other
			}
			if err := book(t.Context(), replicas[0], who, n); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range kills {
		ctx, kill := context.WithTimeout(t.Context(), time.Duration(rand.IntN(int(80*time.Millisecond))))
		a.live(ctx, k, replicas)
		kill()
	}
	writer.Wait()
	testenv.Eventually(t, "all is pulled", func() bool {
		p, err := replicas[1].try(t.Context(), k, "after", a.cursor, "limit", "1000")
		if err != nil {
			t.Fatal(err)
		}
		a.keep(p)
		return len(a.seen) >= 2*bookings*2/3
	})
	if n := len(a.order); n != bookings*2/3 || len(a.seen) != 2*n {
		t.Errorf("%d events of %d bookings, want %d of %d", len(a.seen), n, 2*bookings*2/3, bookings*2/3)
	}
	for id, n := range a.seen {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
	for id, versions := range a.order {
		if !slices.Equal(versions, []int{1, 2}) {
			t.Errorf("%s came as %v", id, versions)
		}
	}
}
