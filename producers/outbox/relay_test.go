package outbox

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type ground struct {
	*testenv.Cluster
	url    string
	db     *store.DB
	signal *store.Signal
}

func newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{Cluster: testenv.Topics(t, nil), url: testenv.Database(t), signal: store.NewSignal(store.ChannelOutbox)}
	db, err := store.Open(t.Context(), g.url, store.RoleAPI, 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	g.db = db
	return g
}

func (g *ground) relay() *Relay {
	return New(Options{Kafka: g.Config, DatabaseURL: g.url, Signal: g.signal, Logger: g.Config.Logger})
}

// put commits rows to the outbox, each in a transaction of its own.
func (g *ground) put(t *testing.T, topic, key string, values ...string) {
	t.Helper()
	for _, v := range values {
		err := g.db.Update(t.Context(), store.Scope{}, func(_ context.Context, tx *store.Tx) error {
			tx.Enqueue(store.OutboxRow{Topic: topic, Key: &key, Value: []byte(v), Headers: []schemas.Header{{Key: "ce_id", Value: v}}})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	g.signal.Wake()
}

func values(rs []*kgo.Record) string {
	var out []string
	for _, r := range rs {
		out = append(out, string(r.Value))
	}
	return strings.Join(out, " ")
}

const (
	events = string(schemas.BookingEvents)
	feed   = string(schemas.HostNotifications)
)

func TestRowsArriveOnceInTheirOrderAndLeaveTheOutbox(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	testenv.Run(t, g.relay().Run)
	var want []string
	for i := range 50 {
		v := fmt.Sprintf("v%d", i)
		want = append(want, v)
		g.put(t, events, "one", v)
	}
	rs := g.Read(t, events, 50)
	if got := values(rs); got != strings.Join(want, " ") {
		t.Errorf("got %s", got)
	}
	if got := kafka.HeaderOf(rs[0], "ce_id"); got != "v0" {
		t.Errorf("ce_id is %q, want v0", got)
	}
	leaderless(t, g)
}

// leaderless waits until the outbox is empty and its relay idle.
func leaderless(t *testing.T, g *ground) {
	t.Helper()
	testenv.Eventually(t, "the outbox is empty", func() bool { return g.waiting(t) == 0 })
}

func (g *ground) waiting(t *testing.T) int {
	t.Helper()
	jobs, err := store.Open(t.Context(), g.url, store.RoleJobs, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer jobs.Close()
	var n int
	err = jobs.Read(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		var err error
		n, err = tx.OutboxDepth(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lead takes the lead by hand, as Relay.lead does, so that a test can stop it
// between two lines.
func (g *ground) lead(t *testing.T) (*store.OutboxLeader, *kgo.Client) {
	t.Helper()
	lock, err := store.LeadOutbox(t.Context(), g.url)
	if err != nil || lock == nil {
		t.Fatalf("no lead: %v, %v", lock, err)
	}
	cl, err := kgo.NewClient(append(g.Config.Options("leader"), kafka.TransactionalOptions(transactionalID)...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if _, _, err := cl.ProducerID(t.Context()); err != nil {
		t.Fatal(err)
	}
	return lock, cl
}

func TestACrashBetweenPublishAndDeleteRepeatsNothing(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.put(t, events, "one", "v1", "v2")
	lock, cl := g.lead(t)
	rows, err := lock.Oldest(t.Context(), maxRows, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := transact(t.Context(), cl, lock.Outbox(), rows); err != nil {
		t.Fatal(err)
	}
	lock.Close() // the process dies here
	testenv.Run(t, g.relay().Run)
	g.put(t, events, "one", "v3")
	leaderless(t, g)
	if got := values(g.Read(t, events, 3)); got != "v1 v2 v3" {
		t.Errorf("got %s, want v1 v2 v3", got)
	}
}

// The former leader was paused with a batch in hand. Awake again, it must not
// append what is old by now: compaction would keep it as the booking's state.
func TestAPausedLeaderThatWakesUpCanPublishNothing(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.put(t, events, "one", "v1")
	lock, cl := g.lead(t)
	old, err := lock.Oldest(t.Context(), maxRows, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close() // Postgres gave its session up
	testenv.Run(t, g.relay().Run)
	g.put(t, events, "one", "v2")
	leaderless(t, g)
	if err := transact(t.Context(), cl, lock.Outbox(), old); err == nil {
		t.Error("the paused leader published")
	}
	if err := lock.Delete(t.Context(), []int64{1}); err == nil {
		t.Error("the paused leader deleted rows")
	}
	g.put(t, events, "one", "v3")
	leaderless(t, g)
	if got := values(g.Read(t, events, 3)); got != "v1 v2 v3" {
		t.Errorf("got %s, want v1 v2 v3", got)
	}
}

func TestProgressIsFoundBehindAbortedTransactions(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.put(t, events, "one", "v1")
	lock, cl := g.lead(t)
	defer lock.Close()
	rows, err := lock.Oldest(t.Context(), maxRows, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := transact(t.Context(), cl, lock.Outbox(), rows); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		r := &kgo.Record{Topic: string(schemas.OutboxProgress), Key: []byte("outbox"), Value: fmt.Appendf(nil, `{"outbox":%q,"ids":[99]}`, lock.Outbox())}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
	}
	p, err := lastProgress(t.Context(), g.Config, lock.Outbox())
	if err != nil || len(p.IDs) != 1 || p.IDs[0] != rows[0].ID {
		t.Errorf("got %v, %v, want row %d", p.IDs, err, rows[0].ID)
	}
}

func TestARowThatKafkaRefusesIsSetAsideAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.put(t, events, "one", "v1", "v2", strings.Repeat("x", 2<<20), "v3", "v4")
	testenv.Run(t, g.relay().Run)
	leaderless(t, g)
	if got := values(g.Read(t, events, 4)); got != "v1 v2 v3 v4" {
		t.Errorf("got %.100s", got)
	}
}

func TestARowToAnExplicitPartitionGoesThere(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	testenv.Run(t, g.relay().Run)
	for p := range int32(3) {
		err := g.db.Update(t.Context(), store.Scope{}, func(_ context.Context, tx *store.Tx) error {
			tx.Enqueue(store.OutboxRow{Topic: feed, Partition: &p, Value: []byte("v")})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	g.signal.Wake()
	seen := map[int32]bool{}
	for _, r := range g.Read(t, feed, 3) {
		seen[r.Partition] = true
	}
	if len(seen) != 3 {
		t.Errorf("records on partitions %v, want each of three", seen)
	}
}

func TestASecondRelayTakesOverWhenTheFirstStops(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	first, second := g.relay(), New(Options{Kafka: g.Config, DatabaseURL: g.url, Signal: store.NewSignal("other"), Logger: g.Config.Logger})
	stopFirst := testenv.Run(t, first.Run)
	testenv.Eventually(t, "the first leads", first.Leading)
	testenv.Run(t, second.Run)
	g.put(t, events, "one", "v1")
	leaderless(t, g)
	if second.Leading() {
		t.Error("both lead")
	}
	stopFirst()
	g.put(t, events, "one", "v2")
	testenv.Eventually(t, "the second leads", second.Leading)
	leaderless(t, g)
	if got := values(g.Read(t, events, 2)); got != "v1 v2" {
		t.Errorf("got %s, want v1 v2", got)
	}
}

// Progress that cannot be read, or that is about another database's rows, says
// nothing about ours: neither stops the relay nor makes it forget a row.
func TestForeignAndDamagedProgressIsPassed(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.put(t, events, "one", "v1", "v2")
	for _, v := range []string{"{", "{}", `{"outbox":"another","ids":[1,2]}`, "\xff"} {
		g.ProduceRecord(t, &kgo.Record{Topic: string(schemas.OutboxProgress), Key: []byte("outbox"), Value: []byte(v)})
	}
	testenv.Run(t, g.relay().Run)
	if got := values(g.Read(t, events, 2)); got != "v1 v2" {
		t.Errorf("got %s, want v1 v2", got)
	}
	leaderless(t, g)
}

// Half a transaction, as a broker leaves it that was killed between the markers
// of two partitions: the progress is committed and a booking is not, or the other
// way round. Nothing is lost and nothing is there twice.
func TestHalfATransactionIsMadeWhole(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.put(t, events, "one", "v1")
	g.put(t, events, "two", "w1")
	lock, cl := g.lead(t)
	rows, err := lock.Oldest(t.Context(), maxRows, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := transact(t.Context(), cl, lock.Outbox(), rows[:1]); err != nil { // v1 and its progress
		t.Fatal(err)
	}
	g.ProduceRecord(t, &kgo.Record{ // progress says both
		Topic: string(schemas.OutboxProgress), Key: []byte("outbox"), Value: fmt.Appendf(nil, `{"outbox":%q,"ids":[%d,%d]}`, lock.Outbox(), rows[0].ID, rows[1].ID),
	})
	lock.Close()
	testenv.Run(t, g.relay().Run)
	g.put(t, events, "one", "v2")
	leaderless(t, g)
	got := map[string]string{}
	for _, r := range g.Read(t, events, 3) {
		got[string(r.Key)] += string(r.Value) + " "
	}
	if got["one"] != "v1 v2 " || got["two"] != "w1 " {
		t.Errorf("got %v", got)
	}
}

// Deletes are not flushed one by one. A crash of Postgres may bring back the rows
// of several batches, and a batch may have been published since then.
func TestRowsThatACrashOfPostgresBroughtBackAreNotRepeated(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	const n = 2*maxRows + 50 // more than one look takes in
	var rows []store.OutboxRow
	for i := range n {
		v, key := fmt.Sprintf("v%05d", i), "one"
		rows = append(rows, store.OutboxRow{Topic: events, Key: &key, Value: []byte(v), Headers: []schemas.Header{{Key: "ce_id", Value: v}}})
	}
	if err := g.db.Update(t.Context(), store.Scope{}, func(_ context.Context, tx *store.Tx) error {
		tx.Enqueue(rows...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	owner, err := pgx.Connect(t.Context(), g.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close(context.WithoutCancel(t.Context())) }()
	exec := func(sql string) {
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`create table before_the_crash as select * from outbox`)
	stop := testenv.Run(t, g.relay().Run)
	leaderless(t, g)
	stop()
	exec(`insert into outbox overriding system value select * from before_the_crash`)
	testenv.Run(t, g.relay().Run)
	g.put(t, events, "one", "last")
	leaderless(t, g)
	got := g.Read(t, events, n+1)
	if len(got) != n+1 || string(got[n].Value) != "last" {
		t.Errorf("%d records, the last of them %s; want %d and the new one", len(got), got[len(got)-1].Value, n+1)
	}
}
