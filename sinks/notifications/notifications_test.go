package notifications_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/notifications"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type ground struct {
	*testenv.Cluster
	sink, api *store.DB
}

const host = schemas.HostID("host_1")

func newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{Cluster: testenv.Topics(t, nil)}
	url := testenv.Database(t)
	for _, o := range []struct {
		role store.Role
		db   **store.DB
	}{{store.RoleSink, &g.sink}, {store.RoleAPI, &g.api}} {
		db, err := store.Open(t.Context(), url, o.role, 4)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		*o.db = db
	}
	return g
}

func (g *ground) start(t *testing.T) (stop func()) {
	t.Helper()
	s, err := notifications.New(notifications.Options{Kafka: g.Config, DB: g.sink, Feed: g.Feed, Logger: g.Config.Logger})
	if err != nil {
		t.Fatal(err)
	}
	return testenv.Run(t, s.Run)
}

func note(id string) *schemas.Notification {
	now := schemas.Stamp(time.Now())
	return &schemas.Notification{
		ID: schemas.NotificationID(id), HostID: host, Type: schemas.NewBooking, Title: "T", Message: "M", Priority: schemas.High, CreatedAt: now, UpdatedAt: now,
	}
}

func (g *ground) log(t *testing.T, n *schemas.Notification) {
	t.Helper()
	f := schemas.FeedRecord{Kind: schemas.FeedNotification, HostID: host, At: n.CreatedAt, Notification: n}
	g.Produce(t, string(schemas.HostNotifications), string(host), f.Meta(), f)
}

func (g *ground) listed(t *testing.T) map[schemas.NotificationID]bool {
	t.Helper()
	out := map[schemas.NotificationID]bool{}
	err := g.api.Read(t.Context(), store.Scope{Host: host}, func(ctx context.Context, tx *store.Tx) error {
		p, err := tx.Notifications(ctx, host, store.NotificationFilter{Limit: 100}, "", 0)
		for _, n := range p.Items {
			out[n.ID] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (g *ground) offset(t *testing.T) int64 {
	t.Helper()
	var next int64
	err := g.api.Read(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
		next, err = tx.SinkOffset(ctx, g.Feed.TopicID, g.Feed.Partition(host))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestEachRecordBecomesOneRowAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	stop := g.start(t)
	for i := range 5 {
		g.log(t, note(fmt.Sprintf("ntf_%d", i)))
	}
	g.log(t, note("ntf_0")) // the same record twice
	testenv.Eventually(t, "six records are committed", func() bool { return g.offset(t) == 6 })
	stop()
	for i := 5; i < 9; i++ {
		g.log(t, note(fmt.Sprintf("ntf_%d", i)))
	}
	g.start(t)
	testenv.Eventually(t, "ten records are committed", func() bool { return g.offset(t) == 10 })
	if got := len(g.listed(t)); got != 9 {
		t.Errorf("%d rows, want 9", got)
	}
}

// The command wrote its row, the host deleted it, and only now does the sink see
// the record of its creation.
func TestADeletedNotificationStaysDeletedWhenItsCreationArrives(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	n := note("ntf_1")
	scope := store.Scope{Host: host}
	err := g.api.Update(t.Context(), scope, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.InsertNotification(ctx, n); err != nil {
			return err
		}
		return tx.Mark(ctx, []schemas.NotificationID{n.ID}, schemas.Deleted, time.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
	g.log(t, n)
	g.log(t, note("ntf_2"))
	g.start(t)
	testenv.Eventually(t, "both records are committed", func() bool { return g.offset(t) == 2 })
	if got := g.listed(t); got["ntf_1"] || !got["ntf_2"] {
		t.Errorf("listed %v, want ntf_2 only", got)
	}
}

// Another writer committed in this one's place, as after a rebalance that is
// still under way. The refused one must neither stop nor go back.
func TestARefusedWriterThatStillOwnsItsPartitionGoesOn(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start(t)
	g.log(t, note("ntf_1"))
	testenv.Eventually(t, "the first record is committed", func() bool { return g.offset(t) == 1 })
	err := g.sink.Update(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		ok, err := tx.AdvanceSink(ctx, g.Feed.TopicID, g.Feed.Partition(host), 1, 2)
		if err == nil && !ok {
			t.Error("the offset could not be moved")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	g.log(t, note("ntf_2")) // the other writer's, and not in the table
	g.log(t, note("ntf_3"))
	testenv.Eventually(t, "the third record is committed", func() bool { return g.offset(t) == 3 })
	if got := g.listed(t); !got["ntf_1"] || got["ntf_2"] || !got["ntf_3"] {
		t.Errorf("listed %v, want ntf_1 and ntf_3: what is below the offset is another's", got)
	}
}

func TestAStoredOffsetBeyondTheTopicBeginsAnew(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	err := g.sink.Update(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.AdvanceSink(ctx, g.Feed.TopicID, g.Feed.Partition(host), 0, 1_000)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	g.log(t, note("ntf_1"))
	g.start(t)
	testenv.Eventually(t, "the record is committed", func() bool { return g.offset(t) == 1 })
	if got := g.listed(t); !got["ntf_1"] {
		t.Errorf("listed %v", got)
	}
}

func TestARecordThatCannotBeDecodedIsSetAsideAndTheRestFlows(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	for _, bad := range []string{"{", "null", `{"kind":"notification"}`, "\xff"} {
		g.ProduceRecord(t, &kgo.Record{Topic: string(schemas.HostNotifications), Key: []byte(host), Value: []byte(bad)})
	}
	g.log(t, note("ntf_1"))
	g.start(t)
	testenv.Eventually(t, "all are committed", func() bool { return g.offset(t) == 5 })
	if got := g.listed(t); len(got) != 1 {
		t.Errorf("listed %v, want one", got)
	}
	g.Read(t, string(schemas.PoisonRecords), 4)
}
