package kafka_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

const day = 24 * time.Hour

// wanted are Krib's topics with the given window, three partitions each.
func wanted(window time.Duration) []schemas.Topic {
	return schemas.Topics(schemas.TopicOptions{Partitions: 3, ReplayWindow: window})
}

// set changes settings behind Krib's back, as an operator does.
func set(t *testing.T, cl *kgo.Client, topic string, settings map[string]string) {
	t.Helper()
	var alter []kadm.AlterConfig
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		alter = append(alter, kadm.AlterConfig{Name: k, Value: new(settings[k])})
	}
	res, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), alter, topic)
	if err != nil || len(res) != 1 || res[0].Err != nil {
		t.Fatalf("%s: %v, %+v", topic, err, res)
	}
}

// drifts are what Diff finds, once it finds as many: a cluster takes a moment to
// say what it was told. Each is topic, setting and got.
func drifts(t *testing.T, cl *kgo.Client, topics []schemas.Topic, n int) map[string]kafka.Drift {
	t.Helper()
	var out map[string]kafka.Drift
	testenv.Eventually(t, "the differences are there", func() bool {
		found, err := kafka.Diff(t.Context(), cl, topics)
		if err != nil {
			t.Log(err) // of a topic that is just going
			return false
		}
		out = map[string]kafka.Drift{}
		for _, d := range found {
			out[d.Topic+" "+d.Setting+" "+d.Got] = d
		}
		return len(out) == n
	})
	return out
}

func TestWhatIsSafeIsRepairedOnceAndStays(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	topics := wanted(time.Hour)
	adm := kadm.NewClient(c.Client)
	if _, err := adm.DeleteTopics(t.Context(), "host.notifications"); err != nil {
		t.Fatal(err)
	}
	set(t, c.Client, "booking.events", map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "86400000", "retention.bytes": "1000000", "min.compaction.lag.ms": "1000"})
	set(t, c.Client, "webhook.dead", map[string]string{"retention.ms": "1000"})
	set(t, c.Client, "webhook.attempts", map[string]string{"retention.ms": "-1"}) // nothing is there that it would delete
	found := drifts(t, c.Client, topics, 7)
	for _, want := range []string{
		"host.notifications topic missing", "booking.events cleanup.policy compact,delete", "booking.events retention.ms 86400000", "booking.events retention.bytes 1000000",
		"booking.events min.compaction.lag.ms 1000", "webhook.dead retention.ms 1000", "webhook.attempts retention.ms -1",
	} {
		if d, ok := found[want]; !ok || d.Refused != "" {
			t.Errorf("%s: %+v, %v", want, d, ok)
		}
	}
	repaired, left, err := kafka.Repair(t.Context(), c.Client, topics, false)
	if err != nil || len(repaired) != 7 || len(left) != 0 {
		t.Errorf("repaired %v, left %v, %v", repaired, left, err)
	}
	drifts(t, c.Client, topics, 0)
	if repaired, left, err := kafka.Repair(t.Context(), c.Client, topics, false); err != nil || len(repaired)+len(left) != 0 {
		t.Errorf("again it repaired %v, left %v, %v", repaired, left, err)
	}
}

func TestPartitionsAreAddedOnlyWhereKeysDoNotMatter(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	four := schemas.Topics(schemas.TopicOptions{Partitions: 4, ReplayWindow: time.Hour})
	repaired, left, err := kafka.Repair(t.Context(), c.Client, four, true)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range repaired {
		names = append(names, d.Topic+" "+d.Setting)
	}
	if got := strings.Join(names, ", "); got != "webhook.dead partitions, krib.poison partitions" {
		t.Errorf("repaired are %s", got)
	}
	for _, d := range left {
		if d.Setting != "partitions" || !strings.Contains(d.Refused, "keys would move") || d.Loses {
			t.Errorf("left is %+v", d)
		}
	}
	ts, err := kadm.NewClient(c.Client).ListTopics(t.Context())
	if err != nil || len(left) != 5 || len(ts["booking.events"].Partitions) != 3 || len(ts["krib.poison"].Partitions) != 4 {
		t.Errorf("left are %v; %v", left, err)
	}
	for _, d := range drifts(t, c.Client, wanted(time.Hour), 2) {
		if !strings.Contains(d.Refused, "cannot be taken away") {
			t.Errorf("too many: %+v", d)
		}
	}
}

// In a topic with something old in it, what is kept is shortened by force only.
func TestNothingThatIsThereIsDeletedUnlessForced(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	longer := map[string]map[string]string{
		"booking.events":     {"min.compaction.lag.ms": "8640000000", "max.compaction.lag.ms": "9000000000"},
		"webhook.dead":       {"retention.ms": "-1"},
		"krib.poison":        {"retention.ms": "8640000000"},
		"webhook.attempts":   {"cleanup.policy": "compact", "retention.ms": "-1"},
		"host.notifications": {"retention.ms": "-1"}, // with something young
	}
	for topic, settings := range longer {
		set(t, c.Client, topic, settings)
	}
	drifts(t, c.Client, wanted(time.Hour), 7)
	for topic := range longer {
		at := time.Now().Add(-60 * day)
		if topic == "host.notifications" {
			at = time.Now()
		}
		c.ProduceRecord(t, &kgo.Record{Topic: topic, Key: []byte("k"), Timestamp: at})
	}
	repaired, left, err := kafka.Repair(t.Context(), c.Client, wanted(time.Hour), false)
	if err != nil || len(repaired) != 1 || repaired[0].Topic != "host.notifications" || len(left) != 6 {
		t.Fatalf("repaired %v, left %v, %v", repaired, left, err)
	}
	for _, d := range left {
		if !d.Loses || !strings.Contains(d.Refused, "records that are older than ") {
			t.Errorf("left is %+v", d)
		}
	}
	if repaired, left, err := kafka.Repair(t.Context(), c.Client, wanted(time.Hour), true); err != nil || len(repaired) != 6 || len(left) != 0 {
		t.Errorf("forced, it repaired %v, left %v, %v", repaired, left, err)
	}
}

func TestTopicsWithTooFewCopiesAreToldOf(t *testing.T) {
	t.Parallel()
	k, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	cl, err := kafka.NewProducer(kafka.Config{Brokers: k.ListenAddrs(), Logger: testenv.Logger(t)}, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	topics := wanted(time.Hour)[:2]
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 3, 1, nil, topics[0].Name); err != nil {
		t.Fatal(err)
	}
	_, left, err := kafka.Repair(t.Context(), cl, topics, true)
	said := map[string]string{}
	for _, d := range left {
		said[d.Topic+" "+d.Setting] = d.Refused
	}
	if err != nil || len(left) != 2 || !strings.Contains(said["booking.events replication"], "reassignment") ||
		!strings.Contains(said["booking.events min.insync.replicas"], "with 1 copies every write would be refused") {
		t.Errorf("%v, %v", left, err)
	}
}

// A cluster of many brokers has one copy of a topic by default, where nobody says
// more. kfake makes three whatever it is told, so the request is looked at.
func TestCopiesEnoughToBeWrittenAreAskedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		brokers   int
		byDefault string
		denied    bool // to ask for it
		asks      int16
	}{{4, "1", false, 3}, {3, "2", false, 3}, {3, "3", false, -1}, {1, "1", false, -1}, {3, "1", true, -1}} {
		k, err := kfake.NewCluster(kfake.NumBrokers(c.brokers), kfake.BrokerConfigs(map[string]string{"default.replication.factor": c.byDefault}))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		asked := make(chan int16, 1)
		k.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
			asked <- r.(*kmsg.CreateTopicsRequest).Topics[0].ReplicationFactor
			return nil, nil, false
		})
		if c.denied {
			k.ControlKey(int16(kmsg.DescribeConfigs), func(r kmsg.Request) (kmsg.Response, error, bool) {
				res := r.ResponseKind().(*kmsg.DescribeConfigsResponse)
				no := kmsg.NewDescribeConfigsResponseResource()
				no.ErrorCode, no.ResourceType = kerr.ClusterAuthorizationFailed.Code, kmsg.ConfigResourceTypeBroker
				res.Resources = append(res.Resources, no)
				return res, nil, true
			})
		}
		cl, err := kafka.NewProducer(kafka.Config{Brokers: k.ListenAddrs(), Logger: testenv.Logger(t)}, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := kafka.CreateTopics(t.Context(), cl, wanted(time.Hour)[:1]); err != nil {
			t.Fatal(err)
		}
		if n := <-asked; n != c.asks {
			t.Errorf("on %d brokers with a default of %s it asks for %d copies, want %d", c.brokers, c.byDefault, n, c.asks)
		}
	}
}
