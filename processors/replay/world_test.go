package replay_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/fanout"
	"github.com/krib-ai/krib/processors/replay"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/producers/outbox"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/attempts"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const agent = schemas.AgentID("agent_1")

var (
	mine = store.Scope{Agent: agent}
	noon = schemas.Stamp(time.Now().Add(-time.Hour))
)

// A world is the whole way of an event but for the API and the runners: relay,
// fan-out, delivery, retries and the sink of attempts, on a broker and a database.
type world struct {
	testing.TB
	c    *testenv.Cluster
	url  string
	sql  *pgxpool.Pool // past row level security
	p    *producers.Producer
	jobs store.ReplayJobs
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ladder := schemas.Ladder{50 * time.Millisecond}
	w := &world{TB: t, c: testenv.Topics(t, ladder), url: testenv.Database(t)}
	var err error
	if w.sql, err = pgxpool.New(t.Context(), w.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.sql.Close)
	ring, err := seal.DeriveRing("a secret for the tests only")
	if err != nil {
		t.Fatal(err)
	}
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	signal := store.NewSignal(store.ChannelOutbox)
	w.p = producers.New(producers.Options{
		DB: w.open(store.RoleAPI), Ring: ring, AllowHTTP: true, AllowedAddress: func(netip.Addr) bool { return true }, Wake: signal.Wake,
	})
	w.jobs = store.ReplayJobs{DB: w.open(store.RoleJobs)}
	testenv.Run(t, outbox.New(outbox.Options{Kafka: w.c.Config, DatabaseURL: w.url, Signal: signal, Logger: w.c.Config.Logger}).Run)
	f, err1 := fanout.New(fanout.Options{Kafka: w.c.Config, Logger: w.c.Config.Logger})
	d, err2 := deliver.New(deliver.Options{Kafka: w.c.Config, Ring: ring, Ladder: ladder, Timeout: 10 * time.Second, Allow: loopback, AllowHTTP: true})
	m, err3 := retry.New(retry.Options{Kafka: w.c.Config})
	s, err4 := attempts.New(attempts.Options{Kafka: w.c.Config, DB: w.open(store.RoleSink), Wake: signal.Wake, Logger: w.c.Config.Logger})
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, run := range []func(context.Context) error{f.Run, d.Run, m.Run, s.Run} {
		testenv.Run(t, run)
	}
	return w
}

func (w *world) open(role store.Role) *store.DB {
	w.Helper()
	db, err := store.Open(w.Context(), w.url, role, 8)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(db.Close)
	return db
}

// run starts a runner that looks often, after change.
func (w *world) run(change ...func(*replay.Options)) (stop func()) {
	w.Helper()
	o := replay.Options{Kafka: w.c.Config, Jobs: w.jobs, Logger: w.c.Config.Logger, Poll: 20 * time.Millisecond, Lease: time.Second}
	for _, c := range change {
		c(&o)
	}
	r, err := replay.New(o)
	if err != nil {
		w.Fatal(err)
	}
	return testenv.Run(w.TB, r.Run)
}

// event is the nth of booking b, of the test's agent.
func event(b, n int, kind schemas.EventType) *schemas.Event {
	id := fmt.Sprintf("bkg_%d", b)
	return &schemas.Event{
		ID: schemas.EventID(fmt.Sprintf("evt_%d_%d", b, n)), Type: kind, Version: int64(n), OccurredAt: noon.Add(time.Duration(b) * time.Second),
		HostWebhooks: true, Changed: []string{},
		Booking: schemas.Booking{
			ID: schemas.BookingID(id), Version: int64(n), AgentID: agent, HostID: "host_1", Status: schemas.Pending, CheckIn: "2026-06-01",
			CheckOut: "2026-06-03", Property: schemas.PropertyRef{ID: "prop_1", Title: "Home"}, Guest: schemas.Guest{FirstName: "A", LastName: "B"},
			CreatedAt: noon, UpdatedAt: noon,
		},
	}
}

// history is n bookings of two events each.
func history(n int) []*schemas.Event {
	var es []*schemas.Event
	for b := range n {
		es = append(es, event(b, 1, schemas.BookingCreated), event(b, 2, schemas.BookingConfirmed))
	}
	return es
}

// happen writes events as the relay does, but for the transaction.
func (w *world) happen(es ...*schemas.Event) {
	w.Helper()
	rs := make([]*kgo.Record, len(es))
	for i, e := range es {
		r, err := kafka.Encode(string(schemas.BookingEvents), string(e.Booking.ID), e.Meta(), e)
		if err != nil {
			w.Fatal(err)
		}
		r.Timestamp = e.OccurredAt
		rs[i] = r
	}
	if err := w.c.Client.ProduceSync(w.Context(), rs...).FirstErr(); err != nil {
		w.Fatal(err)
	}
}

// fannedOut waits until fan-out has read all that has happened.
func (w *world) fannedOut() {
	w.Helper()
	adm := kadm.NewClient(w.c.Client)
	testenv.Eventually(w.TB, "fan-out has read everything", func() bool {
		ends, err1 := adm.ListCommittedOffsets(w.Context(), string(schemas.BookingEvents))
		done, err2 := adm.FetchOffsets(w.Context(), fanout.Group)
		if err1 != nil || err2 != nil {
			return false
		}
		current := true
		ends.Each(func(e kadm.ListedOffset) {
			if at, ok := done.Lookup(e.Topic, e.Partition); e.Offset > 0 && (!ok || at.At < e.Offset) {
				current = false
			}
		})
		return current
	})
}

// past happens before there is any subscription.
func (w *world) past(es ...*schemas.Event) {
	w.Helper()
	w.happen(es...)
	w.fannedOut()
}

func (w *world) subscribe(url string, events ...schemas.EventType) schemas.SubscriptionID {
	w.Helper()
	if len(events) == 0 {
		events = []schemas.EventType{schemas.BookingCreated, schemas.BookingConfirmed}
	}
	a, err := w.p.CreateSubscription(w.Context(), mine, nil, producers.NewSubscription{AgentName: "Test", URL: url, Events: events, APIKey: "agents-own-key"})
	if err != nil {
		w.Fatal(err)
	}
	w.published()
	return a.Subscription.ID
}

func (w *world) toggle(id schemas.SubscriptionID) {
	w.Helper()
	if _, err := w.p.ToggleSubscription(w.Context(), mine, nil, id); err != nil {
		w.Fatal(err)
	}
}

func (w *world) start(id schemas.SubscriptionID, r schemas.ReplayRange) schemas.Replay {
	w.Helper()
	return w.begin(id, producers.NewReplay{Range: r})
}

func (w *world) begin(id schemas.SubscriptionID, in producers.NewReplay) schemas.Replay {
	w.Helper()
	if in.Range.Since == nil && in.Range.BookingID == "" {
		in.Range.Since = new(noon)
	}
	job, err := w.p.StartReplay(w.Context(), mine, nil, id, in)
	if err != nil {
		w.Fatal(err)
	}
	return job
}

// read is a job as it is now, with what has become of its deliveries.
func (w *world) read(job schemas.Replay) schemas.Replay {
	w.Helper()
	err := w.jobs.DB.Read(w.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
		if job, err = tx.Replay(ctx, job.SubscriptionID, job.ID); err != nil {
			return err
		}
		ended, err := tx.ReplayOutcomes(ctx, &job)
		job.Progress.Settle(ended)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return job
}

// ends waits for the end of a job, and of the deliveries that it has sent.
func (w *world) ends(job schemas.Replay, want schemas.ReplayState) schemas.Replay {
	w.Helper()
	testenv.Eventually(w.TB, "the replay ends", func() bool {
		job = w.read(job)
		return job.State.Ended() && len(job.Progress.Waiting) == 0
	})
	if job.State != want {
		w.Errorf("the replay is %s (%s), want %s", job.State, job.Reason, want)
	}
	return job
}

// sent are the deliveries of a job on the topic, in their order.
func (w *world) sent(job schemas.Replay) []schemas.Delivery {
	w.Helper()
	ends, err := kadm.NewClient(w.c.Client).ListCommittedOffsets(w.Context(), string(schemas.Deliveries))
	if err != nil {
		w.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(e kadm.ListedOffset) {
		if e.Offset > 0 {
			left[e.Partition] = e.Offset
		}
	})
	cl, err := kgo.NewClient(append(w.c.Config.Options("test-reader"), kgo.ConsumeTopics(string(schemas.Deliveries)), kgo.KeepControlRecords())...)
	if err != nil {
		w.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	var out []schemas.Delivery
	for len(left) > 0 && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			d, err := schemas.Decode[schemas.Delivery](r.Value)
			if err != nil {
				w.Error(err)
			}
			if d.Run == job.Run && d.Hop == 0 {
				out = append(out, d)
			}
		})
	}
	return out
}

// ids are the webhook-ids of requests, or of events, sorted.
func ids[T any](of []T, id func(T) string) []string {
	out := make([]string, len(of))
	for i := range of {
		out[i] = id(of[i])
	}
	slices.Sort(out)
	return out
}

func requestID(r testenv.Request) string { return r.Header.Get("Webhook-Id") }
func eventID(e *schemas.Event) string    { return string(e.ID) }
func deliveredID(d schemas.Delivery) string {
	return string(d.EventID)
}

// A gate holds requests back until it is opened.
type gate struct {
	once sync.Once
	c    chan struct{}
}

func newGate() *gate  { return &gate{c: make(chan struct{})} }
func (g *gate) open() { g.once.Do(func() { close(g.c) }) }

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	if _, err := w.sql.Exec(w.Context(), sql, args...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) count(sql string, args ...any) (n int) {
	w.Helper()
	if err := w.sql.QueryRow(w.Context(), sql, args...).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

// lockAttempts keeps the sink from writing until the answer is called; reading goes
// on.
func (w *world) lockAttempts() (unlock func()) {
	w.Helper()
	tx, err := w.sql.Begin(w.Context())
	if err == nil {
		_, err = tx.Exec(w.Context(), `lock table webhook_attempts in share mode`)
	}
	if err != nil {
		w.Fatal(err)
	}
	unlock = sync.OnceFunc(func() { _ = tx.Rollback(context.WithoutCancel(w.Context())) })
	w.Cleanup(unlock)
	return unlock
}

// published waits until the relay has published every change: events of a test do
// not pass the outbox, and could overtake one.
func (w *world) published() {
	w.Helper()
	testenv.Eventually(w.TB, "the outbox is empty", func() bool { return w.count(`select count(*) from outbox`) == 0 })
}

// withheld makes events until one is withheld, and returns its id. Those before it
// have overtaken the word that the subscription was switched off.
func (w *world) withheld() (id string) {
	w.Helper()
	for n := 0; ; n++ {
		e := event(200+n, 1, schemas.BookingCreated)
		w.happen(e)
		testenv.Eventually(w.TB, "an event to a disabled subscription ends", func() bool {
			return w.count(`select count(*) from webhook_attempts where event_id = $1 and final`, string(e.ID)) == 1
		})
		if w.count(`select count(*) from webhook_attempts where event_id = $1 and outcome = 'withheld'`, string(e.ID)) == 1 {
			return string(e.ID)
		}
	}
}

func garbage(value string) *kgo.Record {
	return &kgo.Record{Topic: string(schemas.BookingEvents), Key: []byte("bkg_1"), Value: []byte(value)}
}
