package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

const lease = time.Minute

// A subscription, and replays to it.
func replayJobs(t *testing.T) (database string, j store.ReplayJobs) {
	t.Helper()
	database = testenv.Database(t)
	for _, w := range witnesses {
		if w.table == "webhook_subscriptions" {
			exec(t, database, w.row)
		}
	}
	db, err := store.Open(t.Context(), database, store.RoleJobs, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return database, store.ReplayJobs{DB: db}
}

// replayRow writes one that waits, the older the smaller run is.
func replayRow(t *testing.T, database, id string, run int, delivery string, dry bool) {
	t.Helper()
	c := connect(t, database)
	_, err := c.Exec(t.Context(), `insert into webhook_replays (id, agent_id, subscription_id, run, trigger, dry_run, booking_id, event_types, only_failed,
		delivery_id, lease_until, created_at, saved_at)
		values ($1, 'agent_a', 'sub_a', $2, 'replay', $3, '', '{}', false, $4, now() - interval '1 hour' + $2::bigint * interval '1 second', now(), now())`, id, run, dry, delivery)
	if err != nil {
		t.Fatal(err)
	}
}

func taken(t *testing.T, j store.ReplayJobs, owner string) string {
	t.Helper()
	r, err := j.Take(t.Context(), owner, lease)
	switch {
	case err != nil:
		t.Fatal(err)
	case r == nil:
		return ""
	}
	return string(r.ID)
}

func TestReplaysAreTakenOneRangeAtATimeAndWhatSomebodyWaitsForFirst(t *testing.T) {
	t.Parallel()
	database, j := replayJobs(t)
	replayRow(t, database, "old", 1, "", false)
	replayRow(t, database, "new", 2, "", false)
	replayRow(t, database, "one", 3, "dlv_1", false)
	replayRow(t, database, "count", 4, "", true)
	var got []string
	for range 4 {
		got = append(got, taken(t, j, "me"))
	}
	if s := strings.Join(got, " "); s != "one count old " {
		t.Errorf("taken %q", s)
	}
	old := &schemas.Replay{ID: "old", SubscriptionID: "sub_a"}
	if err := j.Finish(t.Context(), old, "another", schemas.ReplayDone, ""); err != nil || taken(t, j, "me") != "" {
		t.Errorf("another ended it: %v", err)
	}
	if err := j.Finish(t.Context(), old, "me", schemas.ReplayDone, ""); err != nil || taken(t, j, "me") != "new" {
		t.Errorf("the next did not follow: %v", err)
	}
}

func TestAReplayIsItsOwnersUntilTheLeaseEnds(t *testing.T) {
	t.Parallel()
	database, j := replayJobs(t)
	replayRow(t, database, "r", 1, "", false)
	r, err := j.Take(t.Context(), "one", lease)
	if err != nil || r == nil || r.State != schemas.ReplayRunning || r.StartedAt == nil {
		t.Fatalf("took %+v, %v", r, err)
	}
	r.Progress.Matched = 7
	if sub, err := j.Save(t.Context(), r, "one", lease); err != nil || sub == nil || sub.ID != "sub_a" {
		t.Fatalf("saved: %+v, %v", sub, err)
	}
	if taken(t, j, "two") != "" {
		t.Error("it was taken although it is leased")
	}
	exec(t, database, `update webhook_replays set lease_until = now()`)
	next, err := j.Take(t.Context(), "two", lease)
	if err != nil || next == nil || next.Progress.Matched != 7 || !next.SavedAt.Equal(r.SavedAt) || !next.StartedAt.Equal(*r.StartedAt) {
		t.Fatalf("went on with %+v, %v", next, err)
	}
	r.Progress.Matched = 8
	if sub, err := j.Save(t.Context(), r, "one", lease); err != nil || sub != nil {
		t.Errorf("the former owner could save: %+v, %v", sub, err)
	}
	if err := j.Release(t.Context(), next, "two", time.Hour); err != nil || taken(t, j, "one") != "" {
		t.Errorf("it was taken before its pause was over: %v", err)
	}
	exec(t, database, `update webhook_replays set state = 'cancelled', finished_at = now(), lease_until = now()`)
	if taken(t, j, "one") != "" {
		t.Error("a cancelled one was taken")
	}
}

// Its end in the log is fixed when it begins: everything that was accepted before
// must be there.
func TestAReplayBeginsWhenWhatWasAcceptedBeforeItIsInTheLog(t *testing.T) {
	t.Parallel()
	database, j := replayJobs(t)
	replayRow(t, database, "r", 1, "", false)
	exec(t, database, `insert into outbox (topic, key, headers, value, created_at) values ('t', 'k', '[]', '', now() - interval '2 hours')`)
	if taken(t, j, "me") != "" {
		t.Error("it began before the outbox was empty")
	}
	exec(t, database, `update outbox set created_at = now()`) // a later change
	if taken(t, j, "me") != "r" {
		t.Error("it waits for what was accepted after it")
	}
}

// The indexes must serve the runners' and the readers' queries however many
// replays there have been.
func TestReplaysAreFoundByTheirIndexes(t *testing.T) {
	t.Parallel()
	database, _ := replayJobs(t)
	c := connect(t, database)
	if _, err := c.Exec(t.Context(), `set enable_seqscan = off`); err != nil {
		t.Fatal(err)
	}
	for index, query := range map[string]string{
		"webhook_replays_newest":      `select id from webhook_replays where subscription_id = 's' order by created_at desc, id desc limit 10`,
		"webhook_replays_unfinished":  `select id from webhook_replays where state in ('waiting', 'running') and lease_until <= now()`,
		"webhook_replays_finished_at": `delete from webhook_replays where finished_at < now() - interval '30 days'`,
	} {
		rows, _ := c.Query(t.Context(), `explain `+query)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if p := strings.Join(plan, "\n"); !strings.Contains(p, index) || strings.Contains(p, "Sort") {
			t.Errorf("%s does not serve %s:\n%s", index, query, p)
		}
	}
}
