package retry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const ms = time.Millisecond

type world struct {
	testing.TB
	conf kafka.Config
	cl   *kgo.Client
}

func newWorld(tb testing.TB, ladder ...time.Duration) *world {
	tb.Helper()
	w := &world{TB: tb, conf: kafka.Config{Brokers: testenv.Brokers(tb), Logger: testenv.Logger(tb)}}
	var err error
	if w.cl, err = kafka.NewProducer(w.conf, "test"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.cl.Close)
	w.create(ladder...)
	return w
}

func (w *world) create(ladder ...time.Duration) {
	w.Helper()
	topics := schemas.Topics(schemas.TopicOptions{Partitions: 2, ReplayWindow: time.Hour, Ladder: ladder})
	if err := kafka.CreateTopics(w.Context(), w.cl, topics); err != nil {
		w.Fatal(err)
	}
}

// move runs a mover until the test ends or stop is called.
func (w *world) move(maxHeld int) (stop func()) {
	w.Helper()
	m, err := retry.New(retry.Options{Kafka: w.conf, MaxHeld: maxHeld})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("asked to stop, Run answered %v", err)
		}
	})
	w.Cleanup(stop)
	return stop
}

func delivery(n int) schemas.Delivery {
	return schemas.Delivery{
		ID: schemas.DeliveryID(fmt.Sprint("dlv_", n)), EventID: "evt_1", SubscriptionID: "sub_1", Attempt: 1, Hop: 1,
		Trigger: schemas.TriggerRetry, Payload: "{\"name\":\"Zoë <&>\u2028\\u0001\",\"n\":1.0}",
	}
}

func (w *world) put(tier time.Duration, ds ...schemas.Delivery) {
	w.Helper()
	for i := range ds {
		r, err := kafka.Encode(schemas.TierTopic(tier), string(ds[i].SubscriptionID), ds[i].Meta(time.Now()), &ds[i])
		if err != nil {
			w.Fatal(err)
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "traceparent", Value: []byte("00-aa-bb-01")})
		if err := w.cl.ProduceSync(w.Context(), r).FirstErr(); err != nil {
			w.Fatal(err)
		}
	}
}

// back reads webhook.deliveries until n records have come back.
func (w *world) back(n int) []*kgo.Record {
	w.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.conf.Brokers...), kgo.ConsumeTopics(string(schemas.Deliveries)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	var out []*kgo.Record
	for len(out) < n {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			w.Fatalf("%d of %d records came back", len(out), n)
		}
		out = append(out, fs.Records()...)
	}
	return out
}

func TestRecordComesBackWhenItsTierIsOverAndNotBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 500*ms)
	w.move(0)
	d := delivery(1)
	put := time.Now()
	w.put(500*ms, d)
	r := w.back(1)[0]
	if late := r.Timestamp.Sub(put); late < 500*ms-ms { // timestamps are whole milliseconds
		t.Errorf("it came back after %v", late)
	}
	got, err := schemas.Decode[schemas.Delivery](r.Value)
	if err != nil {
		t.Fatal(err)
	}
	if got.Payload != d.Payload || got.Hop != 2 || got.Attempt != 1 || got.Trigger != d.Trigger || string(r.Key) != "sub_1" {
		t.Errorf("%+v", got)
	}
	if tr := kafka.HeaderOf(r, "traceparent"); tr != "00-aa-bb-01" {
		t.Errorf("the trace is %q", tr)
	}
}

func TestUndecodableRecordDoesNotHoldUpItsTier(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 200*ms, time.Hour)
	bad := func(topic string) *kgo.Record {
		return &kgo.Record{Topic: topic, Key: []byte("sub_1"), Value: []byte("no JSON")}
	}
	if err := w.cl.ProduceSync(t.Context(), bad(schemas.TierTopic(200*ms)), bad(schemas.TierTopic(time.Hour))).FirstErr(); err != nil {
		t.Fatal(err)
	}
	w.put(200*ms, delivery(1))
	w.move(0)
	w.back(1)
	testenv.Eventually(t, "both are poison", func() bool {
		ends, err := kadm.NewClient(w.cl).ListEndOffsets(t.Context(), string(schemas.PoisonRecords))
		n := int64(0)
		ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
		return err == nil && n == 2
	})
}

func TestTierThatIsCreatedLaterIsReadToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 200*ms)
	w.move(0)
	w.put(200*ms, delivery(1))
	w.back(1)
	w.create(300 * ms)
	w.put(300*ms, delivery(2))
	w.back(2)
}

func TestRecordsBeyondTheBoundComeBackToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 300*ms)
	ds := make([]schemas.Delivery, 200)
	for i := range ds {
		ds[i] = delivery(i)
	}
	w.put(300*ms, ds...)
	w.move(10)
	last := -1
	for _, r := range w.back(200) {
		d, err := schemas.Decode[schemas.Delivery](r.Value)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscanf(string(d.ID), "dlv_%d", &n); err != nil || n != last+1 {
			t.Fatalf("%s came after %d", d.ID, last)
		}
		last = n
	}
}

func TestStoppedMoverLeavesWhatItHeldToTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 400*ms)
	stop := w.move(0)
	w.put(400*ms, delivery(1), delivery(2))
	stop()
	w.move(0)
	w.back(2)
}
