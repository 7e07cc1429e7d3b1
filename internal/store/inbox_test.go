package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

const crowded = schemas.HostID("host_crowded")

// crowdedInbox is an inbox of n notifications, of which the newest is the first.
func crowdedInbox(tb testing.TB, n int) *store.DB {
	tb.Helper()
	url := testenv.Database(tb)
	sql, err := pgxpool.New(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	defer sql.Close()
	for _, q := range []string{
		fmt.Sprintf(`insert into host_notifications (id, host_id, type, title, message, booking_id, property_id, priority, action_required, action_url,
		  created_at, updated_at, read_at)
		select 'ntf_' || lpad(to_hex(i), 32, '0'), '%s', (array['new_booking', 'payment_received', 'guest_message', 'booking_update'])[1 + i %% 4],
		  'A title', 'A message of some length', 'bkg_' || i / 4, 'prop_' || i %% 1000, (array['high', 'medium'])[1 + i %% 2], i %% 1000 = 0, '',
		  now() - i * interval '1 second', now(), case when i %% 3 > 0 then now() end
		from generate_series(1, %d) i`, crowded, n),
		`analyze host_notifications`,
	} {
		if _, err := sql.Exec(tb.Context(), q); err != nil {
			tb.Fatal(err)
		}
	}
	db, err := store.Open(tb.Context(), url, store.RoleAPI, 2)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	return db
}

func filters() map[string]store.NotificationFilter {
	day := time.Now().Add(-24 * time.Hour)
	return map[string]store.NotificationFilter{
		"all":            {},
		"unread":         {UnreadOnly: true},
		"to act":         {ActionRequired: true},
		"a common type":  {Type: schemas.GuestMessage},
		"an absent type": {Type: schemas.Urgent},
		"no priority":    {Priority: schemas.Low},
		"a property":     {PropertyID: "prop_7"},
		"no property":    {PropertyID: "prop_none"},
		"a booking":      {BookingID: "bkg_9"},
		"old ones":       {CreatedTo: &day},
		"one day":        {CreatedFrom: &day},
		"a deep page":    {After: &store.NotificationPosition{CreatedAt: day}},
		"a far offset":   {Offset: 10_000},
	}
}

// However large the inbox, a request looks at rows for one page and for counts up
// to the cap, and not at the rest.
func TestAFullInboxCostsNoMoreThanItsPage(t *testing.T) {
	t.Parallel()
	const rows = 60_000
	db := crowdedInbox(t, rows)
	// Each row counts twice: for the table, and for the index by which it was found.
	// The two counts stop at the cap, and a page begins at its offset. A filter on top
	// of an index passes over some rows.
	read := func(name string, offset int, f func(context.Context, *store.Tx) error) {
		t.Helper()
		err := db.Read(t.Context(), store.Scope{Host: crowded}, func(ctx context.Context, tx *store.Tx) error {
			before, err := tx.RowsRead(ctx, "host_notifications")
			if err != nil {
				return err
			}
			if err := f(ctx, tx); err != nil {
				return err
			}
			after, err := tx.RowsRead(ctx, "host_notifications")
			if n := after - before; n > int64(2*(4*store.CountCap+offset+200)) {
				t.Errorf("%s: %d rows were looked at, of %d", name, n, rows)
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range filters() {
		f.Limit = 50
		read(name, f.Offset, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Notifications(ctx, crowded, f, "feed", 0)
			return err
		})
	}
	read("count", 0, func(ctx context.Context, tx *store.Tx) error {
		n, capped, err := tx.UnreadNotifications(ctx, crowded)
		if n != store.CountCap || !capped {
			t.Errorf("%d unread, capped %v", n, capped)
		}
		return err
	})
	read("statistics", 0, func(ctx context.Context, tx *store.Tx) error {
		gs, capped, err := tx.NotificationGroups(ctx, crowded)
		sum := 0
		for _, g := range gs {
			sum += g.Count
		}
		if sum != store.CountCap || !capped {
			t.Errorf("%d counted, capped %v", sum, capped)
		}
		return err
	})
}

func BenchmarkInboxOfAMillion(b *testing.B) {
	db := crowdedInbox(b, 1_000_000)
	run := func(name string, f func(context.Context, *store.Tx) error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := db.Read(b.Context(), store.Scope{Host: crowded}, f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for name, f := range filters() {
		f.Limit = 50
		run(name, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Notifications(ctx, crowded, f, "feed", 0)
			return err
		})
	}
	run("count", func(ctx context.Context, tx *store.Tx) error {
		_, _, err := tx.UnreadNotifications(ctx, crowded)
		return err
	})
	run("statistics", func(ctx context.Context, tx *store.Tx) error {
		_, _, err := tx.NotificationGroups(ctx, crowded)
		return err
	})
}
