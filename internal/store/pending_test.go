package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
)

// An agent's and a host's past grows without end; what is pending does not.
func TestPendingRequestsAreCountedWithoutReadingAnsweredOnes(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	exec(t, url, `insert into agents (id, name) values ('agent_1', 'One'), ('agent_2', 'Two')`)
	exec(t, url, `insert into hosts (id, name) values ('host_1', 'One'), ('host_2', 'Two')`)
	exec(t, url, `insert into properties (id, host_id, title, address, city, state, country, latitude, longitude, property_type, bedrooms, bathrooms,
		max_guests, status, currency, price_per_night)
		select p, h, p, '', 'Dubai', 'Dubai', 'AE', 25, 55, 'apartment', 1, 1, 4, 'active', 'AED', 1
		from (values ('prop_1', 'host_1'), ('prop_2', 'host_1'), ('prop_3', 'host_2')) v (p, h)`)
	const insert = `insert into bookings (id, version, agent_id, host_id, property_id, status, check_in, check_out, guests, guest_first_name,
		guest_last_name, guest_email, guest_phone, guest_country_code, special_requests, total_amount, currency, payment_method, created_at, updated_at, expires_at)`
	exec(t, url, insert+` select 'bkg_' || i, 2, 'agent_1', 'host_1', 'prop_' || 1 + i % 2, 'cancelled', '2030-01-01', '2030-01-03', 1, 'A', 'B', 'a@example.com', '1', '+971', '', 1,
		'AED', 'pending', now(), now(), null from generate_series(1, 20000) i`)
	exec(t, url, insert+` select id, 2, agent, host, property, 'pending', date '2030-01-01' + day, date '2030-01-01' + day + nights, 1, 'A', 'B', 'a@example.com', '1', '+971', '', 1,
		'AED', 'pending', now(), now(), now() + ttl from (values
		('p1', 'agent_1', 'host_1', 'prop_1', 0, 3, interval '1 hour'), ('p2', 'agent_1', 'host_1', 'prop_1', 5, 4, null), ('p3', 'agent_1', 'host_1', 'prop_2', 0, 9, '1 hour'),
		('expired', 'agent_1', 'host_1', 'prop_1', 20, 50, '0'), ('of another', 'agent_2', 'host_1', 'prop_1', 100, 60, '1 hour'),
		('elsewhere', 'agent_1', 'host_2', 'prop_3', 0, 70, '1 hour')) v (id, agent, host, property, day, nights, ttl)`)
	exec(t, url, `vacuum analyze bookings`)
	_, _, api := pools(t, url)
	err := api.Update(t.Context(), store.Scope{Agent: "agent_1"}, func(ctx context.Context, tx *store.Tx) error {
		before, err := tx.RowsRead(ctx, "bookings")
		if err != nil {
			return err
		}
		have, err := tx.LockPending(ctx, "agent_1", "host_1", "prop_1", time.Now())
		if err != nil {
			return err
		}
		if want := (store.Pending{Requests: 3, Nights: 7}); have != want {
			t.Errorf("counted %+v, want %+v", have, want)
		}
		after, err := tx.RowsRead(ctx, "bookings")
		if n := after - before; n > 100 {
			t.Errorf("%d rows were read, of 20,006", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
