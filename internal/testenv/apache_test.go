//go:build kafka

package testenv_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/testenv"
)

// With the tag kafka nothing may quietly stand on the embedded broker.
func TestTheBrokersAreApacheKafka(t *testing.T) {
	a := testenv.Apache(t)
	brokers := testenv.Brokers(t)
	admin, err := kadm.NewOptClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	meta, err := admin.BrokerMetadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if meta.Cluster != testenv.ClusterID || len(meta.Brokers) != len(a.Addrs()) {
		t.Errorf("cluster %s with %d brokers, want %s with %d", meta.Cluster, len(meta.Brokers), testenv.ClusterID, len(a.Addrs()))
	}
}

func TestAnApacheKafkaKeepsWhatItHadOverAKill(t *testing.T) {
	a := testenv.Apache(t)
	addr := a.Addrs()[0]
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.Addrs()...), kgo.ConsumeTopics("topic"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, -1, nil, "topic"); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "topic", Value: []byte("kept")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	a.Kill(t, addr)
	a.Start(t, addr)
	for {
		fetches := cl.PollFetches(t.Context())
		if t.Context().Err() != nil {
			t.Fatal("the record is gone")
		}
		if rs := fetches.Records(); len(rs) > 0 {
			if string(rs[0].Value) != "kept" {
				t.Errorf("got %q", rs[0].Value)
			}
			return
		}
	}
}
