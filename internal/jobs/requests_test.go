package jobs_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/krib-ai/krib/internal/jobs"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

const ttl = 24 * time.Hour

var agent = store.Scope{Agent: "agent_1", Platform: true, Confirms: true}

// A world is a database with a home for each request, and the commands on it.
type world struct {
	t   *testing.T
	url string
	sql *pgxpool.Pool // past row level security
	p   *producers.Producer
}

func newWorld(t *testing.T, homes int) *world {
	t.Helper()
	w := &world{t: t, url: testenv.Database(t)}
	var err error
	if w.sql, err = pgxpool.New(t.Context(), w.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.sql.Close)
	_, err = w.sql.Exec(t.Context(), `insert into hosts (id, name) values ('host_1', 'One')`)
	if err == nil {
		_, err = w.sql.Exec(t.Context(), `
			insert into properties (id, host_id, title, address, city, state, country, property_type, bedrooms, bathrooms, max_guests, status, currency,
			  price_per_night, cleaning_fee)
			select 'prop_' || n, 'host_1', 'Home', 'A', 'Dubai', 'Dubai', 'AE', 'apartment', 1, 1, 4, 'active', 'AED', 42500, 4450
			from generate_series(0, $1::int - 1) n`, homes)
	}
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), w.url, store.RoleAPI, 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	ring, err := seal.DeriveRing("a secret for tests")
	if err != nil {
		t.Fatal(err)
	}
	w.p = producers.New(producers.Options{DB: db, Ring: ring, BookingTTL: ttl})
	return w
}

func (w *world) runner(reg prometheus.Registerer) *jobs.Runner {
	w.t.Helper()
	db, err := store.Open(w.t.Context(), w.url, store.RoleJobs, 2)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(db.Close)
	return jobs.New(jobs.Options{DB: db, Logger: testenv.Logger(w.t), Registry: reg})
}

// book asks for the home's first nights.
func (w *world) book(home int) schemas.Booking {
	w.t.Helper()
	in := schemas.DateOf(time.Now().AddDate(0, 0, 3))
	a, err := w.p.CreateBooking(w.t.Context(), agent, nil, producers.NewBooking{
		PropertyID: schemas.PropertyID(fmt.Sprintf("prop_%d", home)), CheckIn: in, CheckOut: in.AddDays(2), Guests: 2, TotalAmount: 95000,
		Guest:         schemas.Guest{FirstName: "A", LastName: "B", Email: "a@example.com", Phone: "1", CountryCode: "+971"},
		PaymentMethod: "pending",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Booking
}

func (w *world) at(b *schemas.Booking, share float64) time.Time {
	return b.CreatedAt.Add(time.Duration(share * float64(ttl)))
}

// events are a booking's, in the order of the outbox, one word each.
func (w *world) events(id schemas.BookingID) []string {
	w.t.Helper()
	rows, _ := w.sql.Query(w.t.Context(), `select convert_from(value, 'utf8') from outbox where key = $1 order by id`, string(id))
	raw, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, r := range raw {
		e, err := schemas.Decode[schemas.Event]([]byte(r))
		if err != nil {
			w.t.Fatal(err)
		}
		word := fmt.Sprintf("%d %s", e.Version, e.Type)
		if e.Reminder != "" {
			word += " " + string(e.Reminder)
		}
		if e.Booking.CancellationReason != "" {
			word += " " + e.Booking.CancellationReason + " by " + string(e.Actor.Kind)
		}
		out = append(out, word)
	}
	return out
}

func (w *world) happened(id schemas.BookingID, want string) {
	w.t.Helper()
	if got := strings.Join(w.events(id), ", "); got != want {
		w.t.Errorf("events\n%s, want\n%s", got, want)
	}
}

const asked = "1 booking.created, 2 host.response_needed created"

func TestAHostIsRemindedTwiceAndThenTheRequestExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	reg := prometheus.NewRegistry()
	r, b := w.runner(reg), w.book(0)
	for _, c := range []struct {
		share float64
		want  string
	}{
		{0.49, ""},
		{0.51, ", 3 host.response_needed half"},
		{0.89, ", 3 host.response_needed half"},
		{0.91, ", 3 host.response_needed half, 4 host.response_needed nine_tenths"},
		{0.99, ", 3 host.response_needed half, 4 host.response_needed nine_tenths"},
		{1, ", 3 host.response_needed half, 4 host.response_needed nine_tenths, 5 booking.cancelled expired by system"},
		{2, ", 3 host.response_needed half, 4 host.response_needed nine_tenths, 5 booking.cancelled expired by system"},
	} {
		r.Requests(t.Context(), w.at(&b, c.share))
		w.happened(b.ID, asked+c.want)
	}
	var status, reason string
	var version int64
	err := w.sql.QueryRow(t.Context(), `select status, cancellation_reason, version from bookings`).Scan(&status, &reason, &version)
	if err != nil || status != "cancelled" || reason != "expired" || version != 5 {
		t.Errorf("the row says %s %s %d, %v", status, reason, version, err)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP krib_jobs_request_steps_total Steps of requests that waited for their host.
# TYPE krib_jobs_request_steps_total counter
krib_jobs_request_steps_total{step="expired"} 1
krib_jobs_request_steps_total{step="half"} 1
krib_jobs_request_steps_total{step="nine_tenths"} 1
`), "krib_jobs_request_steps_total"); err != nil {
		t.Error(err)
	}
}

// After a pause the reminders that were missed are made up for, in order; what ran
// out meanwhile gets none.
func TestRemindersThatWereMissedAreMadeUpForUnlessTheRequestRanOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	late := w.book(0)
	w.runner(nil).Requests(t.Context(), w.at(&late, 0.95))
	w.happened(late.ID, asked+", 3 host.response_needed half, 4 host.response_needed nine_tenths")
	gone := w.book(1)
	w.runner(nil).Requests(t.Context(), w.at(&gone, 1.5))
	w.happened(gone.ID, asked+", 3 booking.cancelled expired by system")
}

func TestNobodyIsRemindedOfWhatWasAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	yes, no := w.book(0), w.book(1)
	for id, to := range map[schemas.BookingID]schemas.BookingStatus{yes.ID: schemas.Confirmed, no.ID: schemas.Cancelled} {
		if _, err := w.p.ChangeStatus(t.Context(), agent, id, producers.StatusChange{To: to}); err != nil {
			t.Fatal(err)
		}
	}
	w.runner(nil).Requests(t.Context(), w.at(&yes, 5))
	w.happened(yes.ID, asked+", 3 booking.confirmed")
	w.happened(no.ID, asked+", 3 booking.cancelled")
}

// Four replicas look at the same requests at once, while hosts answer some of
// them: each step is made once, and each booking has one end.
func TestManyReplicasMakeEachStepOnce(t *testing.T) {
	t.Parallel()
	const n, replicas = 250, 4 // more than two batches
	w := newWorld(t, n)
	var bs []schemas.Booking
	for i := range n {
		bs = append(bs, w.book(i))
	}
	last := &bs[n-1]
	var confirmed atomic.Int64
	for _, share := range []float64{0.6, 0.95, 1.1} {
		var wg sync.WaitGroup
		for range replicas {
			r := w.runner(nil)
			wg.Go(func() { r.Requests(t.Context(), w.at(last, share)) })
		}
		if share > 1 {
			wg.Go(func() {
				for i := 0; i < n; i += 5 {
					_, err := w.p.ChangeStatus(t.Context(), agent, bs[i].ID, producers.StatusChange{To: schemas.Confirmed})
					if err == nil {
						confirmed.Add(1)
					} else if schemas.KindOf(err) != schemas.Conflict {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	w.runner(nil).Requests(t.Context(), w.at(last, 1.1)) // what a replica passed over, since it was locked
	const reminded = asked + ", 3 host.response_needed half, 4 host.response_needed nine_tenths"
	var expired int64
	for i := range bs {
		switch got := strings.Join(w.events(bs[i].ID), ", "); got {
		case reminded + ", 5 booking.cancelled expired by system":
			expired++
		case reminded + ", 5 booking.confirmed":
		default:
			t.Fatalf("events %s", got)
		}
	}
	if expired+confirmed.Load() != n {
		t.Errorf("%d expired and %d confirmed of %d", expired, confirmed.Load(), n)
	}
}

// The index must serve the query however many bookings wait.
func TestDueRequestsAreFoundByTheirIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.book(0)
	tx, err := w.sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `set local enable_seqscan = off`); err != nil {
		t.Fatal(err)
	}
	rows, _ := tx.Query(t.Context(), `
		explain select id from bookings b where b.status = 'pending' and b.expires_at is not null
		  and krib_request_due(b.created_at, b.expires_at, b.reminders) <= now() - timestamptz '2000-01-01 00:00:00+00'
		order by krib_request_due(b.created_at, b.expires_at, b.reminders) limit 100`)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if p := strings.Join(plan, "\n"); !strings.Contains(p, "Index Scan using bookings_due") || strings.Contains(p, "Sort") {
		t.Errorf("the plan is\n%s", p)
	}
}

// The turn is the cluster's, not a replica's.
func TestAScheduledJobRunsOnceInTheCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	reg, now := prometheus.NewRegistry(), time.Now()
	const runs = `
# HELP krib_jobs_runs_total Runs of a job in this process, by how they ended.
# TYPE krib_jobs_runs_total counter
krib_jobs_runs_total{job="compact_statistics",outcome="done"} %[1]d
krib_jobs_runs_total{job="disable_failed_subscriptions",outcome="done"} %[1]d
krib_jobs_runs_total{job="drop_attempt_partitions",outcome="done"} 1
krib_jobs_runs_total{job="drop_delivery_partitions",outcome="done"} 1
krib_jobs_runs_total{job="expire_notifications",outcome="done"} %[1]d
krib_jobs_runs_total{job="make_attempt_partitions",outcome="done"} 1
krib_jobs_runs_total{job="narrow_subscriptions",outcome="done"} %[1]d
krib_jobs_runs_total{job="purge_emails",outcome="done"} %[1]d
krib_jobs_runs_total{job="purge_idempotency_keys",outcome="done"} %[1]d
krib_jobs_runs_total{job="purge_notifications",outcome="done"} %[1]d
krib_jobs_runs_total{job="purge_replays",outcome="done"} 1
krib_jobs_runs_total{job="purge_statistics",outcome="done"} 1
krib_jobs_runs_total{job="purge_stream_tickets",outcome="done"} %[1]d
krib_jobs_runs_total{job="purge_stripe_events",outcome="done"} 1
`
	first, others := w.runner(reg), prometheus.NewRegistry()
	first.Scheduled(t.Context(), now)
	second := w.runner(others)
	second.Scheduled(t.Context(), now.Add(4*time.Minute)) // before any is due again
	if n, err := testutil.GatherAndCount(others, "krib_jobs_runs_total"); err != nil || n != 0 {
		t.Errorf("another replica ran %d jobs before their time, %v", n, err)
	}
	first.Scheduled(t.Context(), now.Add(2*time.Hour))
	if err := testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf(runs, 2)), "krib_jobs_runs_total"); err != nil {
		t.Error(err)
	}
}

// A schedule moves on success only; and a sweep that finds more than a transaction
// takes goes on.
func TestAJobThatFailedIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	const rows = 2500
	for _, statement := range []string{
		`revoke update on host_notifications from krib_jobs`,
		`insert into host_notifications (id, host_id, type, title, message, booking_id, property_id, priority, action_required, action_url,
		  created_at, updated_at, expires_at)
		select 'n' || n, 'host_1', 'urgent', '', '', '', '', 'high', false, '', now(), now(), now() - interval '1 hour' from generate_series(1, ` + strconv.Itoa(rows) + `) n`,
	} {
		if _, err := w.sql.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	reg, now := prometheus.NewRegistry(), time.Now()
	r := w.runner(reg)
	r.Scheduled(t.Context(), now)
	if _, err := w.sql.Exec(t.Context(), `grant update on host_notifications to krib_jobs`); err != nil {
		t.Fatal(err)
	}
	r.Scheduled(t.Context(), now.Add(time.Minute))
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP krib_jobs_runs_total Runs of a job in this process, by how they ended.
# TYPE krib_jobs_runs_total counter
krib_jobs_runs_total{job="compact_statistics",outcome="done"} 1
krib_jobs_runs_total{job="disable_failed_subscriptions",outcome="done"} 1
krib_jobs_runs_total{job="drop_attempt_partitions",outcome="done"} 1
krib_jobs_runs_total{job="drop_delivery_partitions",outcome="done"} 1
krib_jobs_runs_total{job="expire_notifications",outcome="done"} 1
krib_jobs_runs_total{job="expire_notifications",outcome="failed"} 1
krib_jobs_runs_total{job="make_attempt_partitions",outcome="done"} 1
krib_jobs_runs_total{job="narrow_subscriptions",outcome="done"} 1
krib_jobs_runs_total{job="purge_emails",outcome="done"} 1
krib_jobs_runs_total{job="purge_idempotency_keys",outcome="done"} 1
krib_jobs_runs_total{job="purge_notifications",outcome="done"} 1
krib_jobs_runs_total{job="purge_replays",outcome="done"} 1
krib_jobs_runs_total{job="purge_statistics",outcome="done"} 1
krib_jobs_runs_total{job="purge_stream_tickets",outcome="done"} 1
krib_jobs_runs_total{job="purge_stripe_events",outcome="done"} 1
`), "krib_jobs_runs_total"); err != nil {
		t.Error(err)
	}
	var left int
	if err := w.sql.QueryRow(t.Context(), `select count(*) from host_notifications where deleted_at is null`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d of %d are left, %v", left, rows, err)
	}
}

func TestTheRunnerExpiresByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	b := w.book(0)
	if _, err := w.sql.Exec(t.Context(), `update bookings set created_at = created_at - interval '25 hours', expires_at = expires_at - interval '25 hours'`); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, w.runner(nil).Run)
	testenv.Eventually(t, "the request expires", func() bool { return len(w.events(b.ID)) == 3 })
}
