//go:build kafka

package kafka_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// A logbook is booking.events as Krib makes it, with a window of an hour, and with
// segments that end after a minute: what is in the last one is never compacted.
type logbook struct {
	cl   *kgo.Client
	scan *kafka.Scanner
	now  time.Time
}

func newLogbook(t *testing.T) *logbook {
	t.Helper()
	testenv.Apache(t) // the embedded broker compacts nothing
	c := kafka.Config{Brokers: testenv.Brokers(t), Logger: testenv.Logger(t)}
	cl, err := kafka.NewProducer(c, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	topic := schemas.Topics(schemas.TopicOptions{Partitions: 2, ReplayWindow: time.Hour})[0]
	topic.Config = maps.Clone(topic.Config)
	topic.Config["segment.ms"], topic.Config["min.cleanable.dirty.ratio"] = "60000", "0.01"
	if err := kafka.CreateTopics(t.Context(), cl, []schemas.Topic{topic}); err != nil {
		t.Fatal(err)
	}
	eagerCleaner(t, kadm.NewClient(cl))
	scan, err := kafka.NewScanner(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(scan.Close)
	return &logbook{cl, scan, time.Now()}
}

// eagerCleaner lets the brokers look for something to compact every 100 ms, and not
// every 15 s, until the test ends.
func eagerCleaner(t *testing.T, adm *kadm.Client) {
	t.Helper()
	alter := func(ctx context.Context, c kadm.AlterConfig) {
		c.Name = "log.cleaner.backoff.ms"
		if _, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{c}); err != nil {
			t.Error(err)
		}
	}
	alter(t.Context(), kadm.AlterConfig{Op: kadm.SetConfig, Value: new("100")})
	t.Cleanup(func() { alter(context.WithoutCancel(t.Context()), kadm.AlterConfig{Op: kadm.DeleteConfig}) })
}

// write makes a version of each booking, as if it had happened so long ago.
func (l *logbook) write(t *testing.T, cl *kgo.Client, version int, ago time.Duration, bookings ...string) {
	t.Helper()
	var rs []*kgo.Record
	for _, b := range bookings {
		rs = append(rs, &kgo.Record{Topic: string(schemas.BookingEvents), Key: []byte(b), Value: fmt.Appendf(nil, `{"version":%d}`, version), Timestamp: l.now.Add(-ago)})
	}
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// inTransaction writes as the relay does, with a marker behind it.
func (l *logbook) inTransaction(t *testing.T, version int, ago time.Duration, booking string) {
	t.Helper()
	cl, err := kgo.NewClient(append(kafka.Config{Brokers: testenv.Brokers(t), Logger: testenv.Logger(t)}.Options("relay"), kafka.TransactionalOptions("window")...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	l.write(t, cl, version, ago, booking)
	if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
}

// versions are what is on the topic of each booking, in its order.
func (l *logbook) versions(t *testing.T) map[string][]int {
	t.Helper()
	ends, err := l.scan.Ends(t.Context(), string(schemas.BookingEvents))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]int{}
	err = l.scan.Read(t.Context(), time.Time{}, ends, func(r *kgo.Record) {
		var v struct{ Version int }
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Error(err)
		}
		out[string(r.Key)] = append(out[string(r.Key)], v.Version)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func upTo(from, to int) (out []int) {
	for v := from; v <= to; v++ {
		out = append(out, v)
	}
	return out
}

// Bookings change for an hour that is long over, and again for the last half hour.
func TestCompactionLeavesEveryEventOfTheWindowAndTheLastOfEachBookingBeforeIt(t *testing.T) {
	l := newLogbook(t)
	bookings := []string{"bkg_0", "bkg_1", "bkg_2", "bkg_3"}
	for v := 1; v <= 20; v++ {
		l.write(t, l.cl, v, 3*time.Hour-time.Duration(v)*2*time.Minute, append(bookings, "bkg_over")...)
	}
	for v := 21; v <= 40; v++ {
		l.write(t, l.cl, v, 45*time.Minute-time.Duration(v-20)*2*time.Minute, append(bookings, "bkg_new")...)
	}
	for v := 1; v <= 3; v++ {
		l.inTransaction(t, v, time.Minute, "bkg_relayed")
	}
	want := map[string][]int{"bkg_over": {20}, "bkg_new": upTo(21, 40), "bkg_relayed": {1, 2, 3}}
	for _, b := range bookings {
		want[b] = upTo(20, 40)
	}
	var got map[string][]int
	testenv.Eventually(t, "of what is older than the window only the last of each booking is left", func() bool {
		got = l.versions(t)
		for b, vs := range want {
			if inside := got[b][max(0, len(got[b])-len(vs)):]; fmt.Sprint(inside) != fmt.Sprint(vs) {
				t.Fatalf("%s has lost some of %v: %v are there", b, vs, got[b])
			}
		}
		return fmt.Sprint(got) == fmt.Sprint(want)
	})

	// It was the window that kept them: without one the same events go.
	set(t, l.cl, string(schemas.BookingEvents), map[string]string{"min.compaction.lag.ms": "0"})
	testenv.Eventually(t, "without a window its events are compacted too", func() bool {
		got = l.versions(t)
		for _, b := range append(bookings, "bkg_new") {
			if vs := got[b]; len(vs) == 0 || vs[len(vs)-1] != 40 || fmt.Sprint(got["bkg_over"]) != "[20]" {
				t.Fatalf("the last version is lost: %v", got)
			}
			if len(got[b]) > 2 { // the last one in an ended segment, and what is in the open one
				return false
			}
		}
		return true
	})
}
