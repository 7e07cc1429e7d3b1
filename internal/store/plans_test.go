package store_test

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// logRows is some millions where the times are measured that the test logs.
var logRows = flag.Int("log.rows", 60_000, "attempts in the log whose queries are looked at")

// statisticsOf is 1000 where they are measured.
var statisticsOf = flag.Int("statistics.of", 40, "subscriptions whose statistics are looked at")

// seedLog fills the log: deliveries of the given number of subscriptions, spread
// evenly over the last 60 days. One in ten took a second attempt, one in a hundred
// is dead, one in a hundred waits.
func seedLog(t testing.TB, url string, rows, subscriptions int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	for _, sql := range []string{
		`select krib_attempt_partitions(now() - make_interval(days => d)), krib_delivery_partitions(now() - make_interval(days => d)) from unnest(array[0, 30, 60]) d`,
		fmt.Sprintf(`create temp table seed as select 'dlv_' || md5(i::text) as id, 'sub_' || 1 + i / 100 %% %d as sub, 'evt_' || md5((-i)::text) as evt, 'bkg_' || i / 4 as bkg,
			date_trunc('milliseconds', now() - interval '60 days' * (i::float8 / %d)) as at, i from generate_series(1, %d) i`, subscriptions, rows, rows*10/11),
		`insert into webhook_attempts select id, 0, n, evt, 'booking.created', sub, 'agent_1', bkg, case n when 1 then 'event' else 'retry' end,
			at + (n - 1) * interval '5 seconds', 20 + i % 100, case when i % 10 = 0 and n = 1 then 'retry' when i % 100 = 1 then 'dead' when i % 100 = 2 then 'retry' else 'delivered' end,
			not (i % 10 = 0 and n = 1) and i % 100 <> 2, case when i % 10 = 0 and n = 1 or i % 100 in (1, 2) then 500 else 200 end,
			case when i % 10 = 0 and n = 1 or i % 100 in (1, 2) then 'status' else '' end, '', 'thanks', null, at
			from seed, generate_series(1, 2) n where n = 1 or i % 10 = 0`,
		`insert into webhook_deliveries select id, 0, at, sub, 'agent_1', evt, 'booking.created', bkg, 'event',
			case when i % 100 = 1 then 'dead' when i % 100 = 2 then 'waiting' else 'delivered' end, case when i % 10 = 0 then 2 else 1 end, case when i % 10 = 0 then 2 else 1 end,
			case when i % 100 in (1, 2) then 500 else 200 end, case when i % 100 in (1, 2) then 'status' else '' end, null, at, at + interval '5 seconds' from seed`,
		`drop table seed`, `vacuum analyze webhook_attempts`, `vacuum analyze webhook_deliveries`,
	} {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

var (
	scanOf  = regexp.MustCompile(`Scan[^\n]* on (webhook_(?:deliveries|attempts)_(?:\d{6}|default)) `)
	indexOf = regexp.MustCompile(`using (webhook_\w+) on`)
)

// The plans are those of the API's role, under its policies: a page reads a part of
// one index, and of no more months than its span has.
func TestTheLogIsReadByItsIndexesAndInFewMonths(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	seedLog(t, url, *logRows, 10)
	api := login(t, url)
	day, booking, now := 24*time.Hour, schemas.BookingID("bkg_700"), time.Now()
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	all := 60 * day // what seedLog spreads its rows over
	type query interface{ SQL() (string, []any) }
	for name, c := range map[string]struct {
		q           query
		index       string        // a part of its name
		since, till time.Duration // how long ago the deliveries that it reads begin and end; without an end they go on
	}{
		"newest":                 {&store.DeliveryFilter{}, "subscription_id_created_at", all, 0},
		"the last day":           {&store.DeliveryFilter{Since: ago(day)}, "subscription_id_created_at", day, 0},
		"a day of a month ago":   {&store.DeliveryFilter{Since: ago(35 * day), Until: ago(34 * day)}, "subscription_id_created_at", 35 * day, 34 * day},
		"a later page":           {&store.DeliveryFilter{Since: ago(36 * day), After: &store.DeliveryPosition{CreatedAt: *ago(35 * day), ID: "dlv_x"}}, "subscription_id_created_at", 36 * day, 35 * day},
		"dead":                   {&store.DeliveryFilter{State: store.StateDead}, "subscription_id_state_created_at", all, 0},
		"waiting since a day":    {&store.DeliveryFilter{State: store.StateWaiting, Since: ago(day)}, "subscription_id_state_created_at", day, 0},
		"a booking":              {&store.DeliveryFilter{Booking: booking}, "booking_id_subscription_id", all, 0},
		"a rare status":          {&store.DeliveryFilter{Status: 418, Since: ago(day)}, "subscription_id_created_at", day, 0},
		"attempts":               {&store.AttemptFilter{}, "subscription_id_started_at", all, 0},
		"attempts since a day":   {&store.AttemptFilter{Since: ago(day)}, "subscription_id_started_at", day + store.LongestOnItsWay, 0},
		"a later page of these":  {&store.AttemptFilter{Since: ago(20 * day), After: &store.AttemptPosition{StartedAt: *ago(10 * day), ID: "dlv_x", Number: 1}}, "subscription_id_started_at", 20*day + store.LongestOnItsWay, 10*day - store.ClocksApart},
		"attempts of a delivery": {&store.AttemptFilter{Delivery: "dlv_x"}, "", all, 0},
	} {
		switch f := c.q.(type) {
		case *store.DeliveryFilter:
			f.Subscription, f.Limit = "sub_1", 50
		case *store.AttemptFilter:
			f.Subscription, f.Limit = "sub_1", 50
		}
		sql, args := c.q.SQL()
		plan, took := api.explain(t, false, sql, args)
		months := map[string]bool{}
		for _, m := range scanOf.FindAllStringSubmatch(plan, -1) {
			months[m[1]] = true
		}
		for _, m := range indexOf.FindAllStringSubmatch(plan, -1) {
			if !strings.Contains(m[1], c.index) {
				t.Errorf("%s reads the index %s, want *%s*:\n%s", name, m[1], c.index, plan)
			}
		}
		most := partitionsOf(now.Add(-c.since), now.Add(-c.till), c.till == 0)
		if strings.Contains(plan, "Seq Scan") || len(months) == 0 || len(months) > most || strings.Contains(plan, "Sort Method: external") {
			t.Errorf("%s reads %d partitions, want %d at most, by indexes:\n%s", name, len(months), most, plan)
		}
		t.Logf("%s: %s", name, took)
	}
	plan, took := api.explain(t, false, store.CountWaiting, []any{"sub_1"})
	if strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Index Only Scan") {
		t.Errorf("what waits is not counted in its index:\n%s", plan)
	}
	t.Logf("counting what waits: %s", took)
	plan, took = api.explain(t, false, store.CountFailing, []any{now.Add(-time.Hour), now.Add(-24 * time.Hour), now.Add(-7 * 24 * time.Hour), "sub_1"})
	if strings.Contains(plan, "Seq Scan") {
		t.Errorf("what fails is not counted by an index:\n%s", plan)
	}
	t.Logf("counting what fails: %s", took)
	sink, _, _ := pools(t, url)
	batch := make([]schemas.Attempt, 1000)
	for i := range batch {
		batch[i] = attempted(schemas.DeliveryID(fmt.Sprintf("dlv_new_%d", i)), 1, schemas.Delivered)
		batch[i].SubscriptionID = schemas.SubscriptionID(fmt.Sprintf("sub_%d", i%10))
	}
	began := time.Now()
	write(t, sink, batch...)
	t.Logf("writing 1,000 attempts: %s", time.Since(began))
}

// partitionsOf is how many partitions a span of time may touch: those of its months, the
// default one, and where it has no end that of the next month, which is made ahead.
func partitionsOf(since, till time.Time, endless bool) int {
	month := func(at time.Time) int { return at.UTC().Year()*12 + int(at.UTC().Month()) }
	n := month(till) - month(since) + 2
	if endless {
		n++
	}
	return n
}

// What an owner reads goes by its subscription or its agent. There are many more of
// others than in any test, so that a plan which reads them all shows.
func TestStatisticsAreReadByTheirOwnersIndex(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	// Slots of a day and hours of a week, each with thirty buckets.
	exec(t, url, fmt.Sprintf(`insert into webhook_statistics
		select 'sub_' || s, 'agent_' || s / 10, m, now() - m * n * interval '1 minute', 10, 1, 0, 0, 12, 2, array_fill(1::bigint, array[30])
		from generate_series(10, %d) s, (select 5 as m, n from generate_series(0, 310) n union all select 60, n from generate_series(26, 168) n) slots`, 9+*statisticsOf))
	exec(t, url, `vacuum analyze webhook_statistics`)
	api := login(t, url)
	for name, c := range map[string]struct {
		scope store.Scope
		id    schemas.SubscriptionID
		index string
	}{
		"a subscription":        {store.Scope{Agent: "agent_1"}, "sub_10", "webhook_statistics_pk"},
		"an agent of ten":       {store.Scope{Agent: "agent_1"}, "", "webhook_statistics_by_agent"},
		"everything (platform)": {store.Scope{Agent: "agent_1", Platform: true}, "", ""},
	} {
		sql, args := store.StatisticsQuery(c.scope, c.id, time.Now())
		plan, took := api.explain(t, c.scope.Platform, sql, args)
		if c.index != "" && !strings.Contains(plan, c.index) {
			t.Errorf("%s is read without %s:\n%s", name, c.index, plan)
		}
		t.Logf("statistics of %s: %s", name, took)
	}
}

// explain runs a query five times as agent_1 and returns its plan and the median
// time. It switches the planner's settings off that are named.
func (s session) explain(t *testing.T, platform bool, sql string, args []any, off ...string) (plan string, median time.Duration) {
	t.Helper()
	tx, err := s.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	// A partition that is nearly empty is read faster without its index, whatever the
	// query; this asks whether there is one.
	if _, err := tx.Exec(t.Context(), `select set_config('krib.agent_id', 'agent_1', true), set_config('krib.platform', $1, true), set_config('enable_seqscan', 'off', true)`, map[bool]string{true: "on"}[platform]); err != nil {
		t.Fatal(err)
	}
	for _, name := range off {
		if _, err := tx.Exec(t.Context(), `select set_config($1, 'off', true) where $1 <> ''`, name); err != nil {
			t.Fatal(err)
		}
	}
	var took []time.Duration
	for range 5 {
		began := time.Now()
		rows, err := tx.Query(t.Context(), sql, args...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	rows, _ := tx.Query(t.Context(), `explain (analyze, costs off, timing off, summary off) `+sql, args...)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n"), took[2]
}
