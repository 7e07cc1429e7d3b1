package deliver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/schemas"
)

// secret is the key of every subscription of a world; whsec is how people see it.
var (
	secret = bytes.Repeat([]byte("k"), 32)
	whsec  = "whsec_" + base64.StdEncoding.EncodeToString(secret)
)

const ringSecret = "a secret for the tests only"

// A world is a broker with the topics, and what a test does to it.
type world struct {
	testing.TB
	partitions int32
	ladder     schemas.Ladder
	conf       kafka.Config
	cl         *kgo.Client
	ring       *seal.Ring
}

func newWorld(tb testing.TB, partitions int32, ladder ...time.Duration) *world {
	tb.Helper()
	w := &world{TB: tb, partitions: partitions, ladder: ladder}
	w.conf = kafka.Config{Brokers: testenv.Brokers(tb), Logger: testenv.Logger(tb)}
	var err error
	if w.ring, err = seal.DeriveRing(ringSecret); err != nil {
		tb.Fatal(err)
	}
	if w.cl, err = kafka.NewProducer(w.conf, "test"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.cl.Close)
	topics := schemas.Topics(schemas.TopicOptions{Partitions: partitions, ReplayWindow: 24 * time.Hour, Ladder: w.ladder})
	if err := kafka.CreateTopics(tb.Context(), w.cl, topics); err != nil {
		tb.Fatal(err)
	}
	return w
}

func (w *world) produce(rs ...*kgo.Record) {
	w.Helper()
	if err := w.cl.ProduceSync(w.Context(), rs...).FirstErr(); err != nil {
		w.Fatal(err)
	}
}

// subscribe writes an active subscription, after edit has changed it.
func (w *world) subscribe(id schemas.SubscriptionID, url string, edit ...func(*schemas.Subscription)) {
	w.Helper()
	now := schemas.Stamp(time.Now())
	s := schemas.Subscription{
		ID: id, Version: 1, AgentID: "agent_1", URL: url, Active: true, EnabledAt: now, CreatedAt: now, UpdatedAt: now,
		SealedAPIKey: w.ring.Seal([]byte("key of "+string(id)), string(id), seal.FieldAPIKey),
		Secrets:      []schemas.SealedSecret{{Sealed: w.ring.Seal(secret, string(id), seal.FieldSigningSecret), CreatedAt: now}},
	}
	for _, e := range edit {
		e(&s)
	}
	r, err := kafka.Encode(string(schemas.Subscriptions), string(id), s.Meta(), &s)
	if err != nil {
		w.Fatal(err)
	}
	w.produce(r)
}

// bodyTimestamp is the text of every body's timestamp, which no encoder of ours
// would write.
const bodyTimestamp = "2026-03-01T12:00:00.120000+01:00"

func delivery(sub schemas.SubscriptionID, booking schemas.BookingID, sequence int64) schemas.Delivery {
	e := schemas.EventID(fmt.Sprintf("evt_%s_%d", booking, sequence))
	return schemas.Delivery{
		ID: schemas.DeliveryFor(e, sub), EventID: e, EventType: schemas.BookingCreated, SubscriptionID: sub, AgentID: "agent_1",
		BookingID: booking, Sequence: sequence, Trigger: schemas.TriggerEvent, CreatedAt: schemas.Stamp(time.Now()),
		Payload: fmt.Sprintf(`{"id":%q,"sequence":%d,"timestamp":%q,"name":"Zoë & <b>"}`, e, sequence, bodyTimestamp),
	}
}

func (w *world) record(d schemas.Delivery) *kgo.Record {
	w.Helper()
	r, err := kafka.Encode(string(schemas.Deliveries), string(d.SubscriptionID), d.Meta(time.Now()), &d)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

func (w *world) deliver(ds ...schemas.Delivery) {
	w.Helper()
	rs := make([]*kgo.Record, len(ds))
	for i := range ds {
		rs[i] = w.record(ds[i])
	}
	w.produce(rs...)
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// work runs a worker until the test ends or stop is called.
func (w *world) work(edit ...func(*deliver.Options)) (stop func()) {
	w.Helper()
	o := deliver.Options{Kafka: w.conf, Ring: w.ring, Ladder: w.ladder, Timeout: 5 * time.Second, Allow: loopback, AllowHTTP: true}
	if o.Ladder == nil {
		o.Ladder = schemas.Ladder{}
	}
	for _, e := range edit {
		e(&o)
	}
	d, err := deliver.New(o)
	if err != nil {
		w.Fatal(err)
	}
	return w.run(d.Run)
}

// move runs a retry mover as well.
func (w *world) move() (stop func()) {
	w.Helper()
	m, err := retry.New(retry.Options{Kafka: w.conf})
	if err != nil {
		w.Fatal(err)
	}
	return w.run(m.Run)
}

func (w *world) run(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("asked to stop, Run answered %v", err)
		}
	})
	w.Cleanup(stop)
	return stop
}

// read reads a topic from its start until n values have come.
func read[T any](w *world, topic string, n int) []T {
	w.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.conf.Brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	var out []T
	for len(out) < n {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			w.Fatalf("%d of %d records came on %s", len(out), n, topic)
		}
		fs.EachRecord(func(r *kgo.Record) {
			v, err := schemas.Decode[T](r.Value)
			if err != nil {
				w.Fatal(err)
			}
			out = append(out, v)
		})
	}
	return out
}

func (w *world) attempts(n int) []schemas.Attempt {
	w.Helper()
	return read[schemas.Attempt](w, string(schemas.Attempts), n)
}

func (w *world) dead(n int) []schemas.Delivery {
	w.Helper()
	return read[schemas.Delivery](w, string(schemas.DeadLetters), n)
}

// settled waits until the groups have committed all that there is.
func (w *world) settled(groups ...string) {
	w.Helper()
	adm := kadm.NewClient(w.cl)
	testenv.Eventually(w, "all is committed", func() bool {
		lags, err := adm.Lag(w.Context(), groups...)
		if err != nil || lags.Error() != nil {
			return false
		}
		for _, l := range lags {
			if len(l.Lag) == 0 || l.Lag.Total() != 0 {
				return false
			}
		}
		return len(lags) == len(groups)
	})
}

// count is how many records a topic has.
func (w *world) count(topic string) int {
	w.Helper()
	ends, err := kadm.NewClient(w.cl).ListEndOffsets(w.Context(), topic)
	if err != nil {
		w.Fatal(err)
	}
	n := 0
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	return n
}

// failing answers 500 to the first n requests of each event.
func failing(n int) func(testenv.Request) testenv.Response {
	var mu sync.Mutex
	seen := map[string]int{}
	return func(r testenv.Request) testenv.Response {
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("webhook-id")
		if seen[id]++; seen[id] <= n {
			return testenv.Response{Status: http.StatusInternalServerError}
		}
		return testenv.Response{}
	}
}

// rewind takes a group's commits back to the start; its members must have left.
func (w *world) rewind(group, topic string) {
	w.Helper()
	adm := kadm.NewClient(w.cl)
	starts, err := adm.ListStartOffsets(w.Context(), topic)
	if err != nil {
		w.Fatal(err)
	}
	if err := adm.CommitAllOffsets(w.Context(), group, starts.Offsets()); err != nil {
		w.Fatal(err)
	}
}
