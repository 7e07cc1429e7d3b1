package embedded

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	table  = "table" // compacted, as booking.events is
	stream = "stream"
)

func startKafka(t *testing.T, o KafkaOptions) *Kafka {
	t.Helper()
	k, err := StartKafka(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func client(t *testing.T, k *Kafka, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(k.clientOptions(), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func createTopics(t *testing.T, cl *kgo.Client) {
	t.Helper()
	admin := kadm.NewClient(cl)
	for name, config := range map[string]map[string]string{
		table:  {"cleanup.policy": "compact", "retention.ms": "-1", "min.compaction.lag.ms": millis(30 * 24 * time.Hour)},
		stream: {"cleanup.policy": "delete", "retention.ms": millis(12 * time.Hour)},
	} {
		values := make(map[string]*string)
		for key, value := range config {
			values[key] = &value
		}
		if _, err := admin.CreateTopic(t.Context(), 1, -1, values, name); err != nil {
			t.Fatal(err)
		}
	}
}

func produce(t *testing.T, cl *kgo.Client, topic, value string, at time.Time) {
	t.Helper()
	r := &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte(value), Timestamp: at}
	if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// values reads what the topic holds, from its start to its end.
func values(t *testing.T, k *Kafka, topic string) string {
	t.Helper()
	cl := client(t, k, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	admin := kadm.NewClient(cl)
	ends, err := admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	starts, err := admin.ListStartOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	start, _ := starts.Lookup(topic, 0)
	var got []string
	for next := start.Offset; next < end.Offset; {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got = append(got, string(r.Value))
			next = r.Offset + 1
		})
	}
	return strings.Join(got, " ")
}

func TestNoEventInsideTheWindowIsCompactedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startKafka(t, KafkaOptions{Dir: t.TempDir(), Addr: "127.0.0.1:9092", Network: new(kfake.VirtualNetwork)})
		cl := client(t, k)
		createTopics(t, cl)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- k.Run(ctx) }()

		var want []string
		for hour := range 36 / 2 {
			value := strconv.Itoa(hour)
			want = append(want, value)
			produce(t, cl, table, value, time.Now())
			produce(t, cl, stream, value, time.Now())
			<-time.After(2 * time.Hour)
		}

		if got := values(t, k, table); got != strings.Join(want, " ") {
			t.Errorf("the compacted topic holds %q, want %q", got, want)
		}
		if got := values(t, k, stream); got != strings.Join(want[len(want)-6:], " ") {
			t.Errorf("the topic of twelve hours holds %q, want the last 6 of %q", got, want)
		}
		// The broker's own compaction forgets them: the day this fails, the broker has
		// learned of min.compaction.lag.ms and the guard may go.
		k.Cluster().Compact()
		if got := values(t, k, table); got == strings.Join(want, " ") {
			t.Error("the broker's own compaction kept everything")
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
}

func TestTrimRemovesOldRecordsOfAStreamAndNoneOfATable(t *testing.T) {
	k := startKafka(t, KafkaOptions{Dir: t.TempDir()})
	cl := client(t, k)
	createTopics(t, cl)
	now := time.Now()
	for _, hours := range []int{200, 13, 11, 0} {
		at := now.Add(-time.Duration(hours) * time.Hour)
		produce(t, cl, table, strconv.Itoa(hours), at)
		produce(t, cl, stream, strconv.Itoa(hours), at)
	}

	for range 2 { // the second pass finds nothing to do
		if err := k.Trim(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}

	if got, want := values(t, k, stream), "11 0"; got != want {
		t.Errorf("the stream holds %q, want %q", got, want)
	}
	if got, want := values(t, k, table), "200 13 11 0"; got != want {
		t.Errorf("the table holds %q, want %q", got, want)
	}
	if err := k.Trim(t.Context(), now.Add(13*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := values(t, k, stream); got != "" {
		t.Errorf("thirteen hours later the stream holds %q, want nothing", got)
	}
}

func TestTheLogSurvivesCloseAndReopen(t *testing.T) {
	dir := t.TempDir()
	k := startKafka(t, KafkaOptions{Dir: dir})
	cl := client(t, k)
	createTopics(t, cl)
	produce(t, cl, table, "first", time.Now())
	addr := k.Addrs()[0]
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}

	k = startKafka(t, KafkaOptions{Dir: dir, Addr: addr})
	if got := k.Addrs()[0]; got != addr {
		t.Errorf("reopened at %s, want %s", got, addr)
	}
	produce(t, client(t, k), table, "second", time.Now())
	if got, want := values(t, k, table), "first second"; got != want {
		t.Errorf("the table holds %q, want %q", got, want)
	}
}

func TestTheCleanerIsSetBeyondAnyRunAlsoAfterAReopen(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		k := startKafka(t, KafkaOptions{Dir: dir})
		configs, err := kadm.NewClient(client(t, k)).DescribeBrokerConfigs(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(configs) != 1 {
			t.Fatalf("%d brokers, want 1", len(configs))
		}
		for _, c := range configs {
			if got, want := setting(c, "log.cleaner.backoff.ms"), millis(never); got != want {
				t.Errorf("log.cleaner.backoff.ms is %s, want %s", got, want)
			}
		}
		k.Close()
	}
}

func TestASecondBrokerOnTheSameFolderSaysWhoHoldsIt(t *testing.T) {
	dir := t.TempDir()
	startKafka(t, KafkaOptions{Dir: dir})
	_, err := StartKafka(t.Context(), KafkaOptions{Dir: dir})
	want := fmt.Sprintf("starting kafka: folder %s is in use by process %d;", dir, os.Getpid())
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got error %v, want %q", err, want)
	}
}

func TestAnAddressInUseIsNamed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir, addr := t.TempDir(), ln.Addr().String()
	_, err = StartKafka(t.Context(), KafkaOptions{Dir: dir, Addr: addr})
	if want := "address " + addr + " is in use"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want %q", err, want)
	}
	startKafka(t, KafkaOptions{Dir: dir}) // the failed start let go of the folder
}

func TestAWildcardAddressIsToldAsOneThatClientsCanDial(t *testing.T) {
	k := startKafka(t, KafkaOptions{Dir: t.TempDir(), Addr: "0.0.0.0:0"})
	host, _, err := net.SplitHostPort(k.Addrs()[0])
	if err != nil || host != "127.0.0.1" {
		t.Errorf("told %s, want 127.0.0.1", k.Addrs()[0])
	}
	if err := client(t, k).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
