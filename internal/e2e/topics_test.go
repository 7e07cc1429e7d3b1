//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/testenv"
)

// A described topic is what the AsyncAPI document says of one.
type described struct {
	Address  string
	Bindings struct {
		Kafka struct {
			Topic      string
			Partitions int
			Config     map[string]any `json:"topicConfiguration"`
		}
	}
}

func asyncAPI(t *testing.T, k *krib) map[string]described {
	t.Helper()
	a, err := k.try(t.Context(), "GET", "/api/asyncapi.json", "", nil)
	if err != nil || a.Status != 200 {
		t.Fatalf("the document of the topics: %v", err)
	}
	var doc struct{ Channels map[string]described }
	d := json.NewDecoder(bytes.NewReader(a.Raw))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil || len(doc.Channels) == 0 {
		t.Fatalf("%d topics, %v", len(doc.Channels), err)
	}
	return doc.Channels
}

func topicsOf(t *testing.T, k *krib) []string {
	t.Helper()
	return slices.Sorted(maps.Keys(asyncAPI(t, k)))
}

// What `krib topics apply` makes on a broker, the program that is set up alike
// describes: no topic more or less, its partitions and its settings.
func TestTheTopicsDocumentIsWhatApplyCreates(t *testing.T) {
	brokers := testenv.Brokers(t)
	vars := map[string]string{
		"KRIB_KAFKA_BROKERS": strings.Join(brokers, ","), "KRIB_TOPIC_PARTITIONS": "3", "KRIB_REPLAY_WINDOW": "48h", "KRIB_RETRY_TIERS": "1s,90s,2h",
	}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	var out, errs bytes.Buffer
	if code := app.Run(t.Context(), []string{"topics", "apply"}, lookup, &out, &errs); code != 0 {
		t.Fatalf("topics apply ended with %d: %s%s", code, &out, &errs)
	}
	created := describedBy(t, brokers)
	var env []string
	for name, v := range vars {
		env = append(env, name+"="+v)
	}
	documented := map[string]described{}
	for name, d := range asyncAPI(t, startHere(t, env...)) {
		if d.Address != name || d.Bindings.Kafka.Topic != name {
			t.Errorf("the channel %s is at %s, and its topic is %s", name, d.Address, d.Bindings.Kafka.Topic)
		}
		documented[name] = d
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(created)), slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Fatalf("topics (-created +documented):\n%s", diff)
	}
	for name, d := range documented {
		if got, want := d.Bindings.Kafka.Partitions, created[name].partitions; got != want {
			t.Errorf("%s has %d partitions, and says %d", name, want, got)
		}
		said := map[string]string{}
		for key, v := range d.Bindings.Kafka.Config {
			if list, ok := v.([]any); ok {
				v = strings.Trim(fmt.Sprint(list...), "[]")
			}
			said[key] = fmt.Sprint(v)
		}
		if diff := cmp.Diff(created[name].config, said); diff != "" {
			t.Errorf("settings of %s (-created +documented):\n%s", name, diff)
		}
	}
}

type created struct {
	partitions int
	config     map[string]string // what was set for the topic itself
}

func describedBy(t *testing.T, brokers []string) map[string]created {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	configs, err := adm.DescribeTopicConfigs(t.Context(), topics.Names()...)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]created{}
	for _, r := range configs {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		c := created{len(topics[r.Name].Partitions), map[string]string{}}
		for _, e := range r.Configs {
			if e.Source.String() == "DYNAMIC_TOPIC_CONFIG" && e.Key != "min.insync.replicas" { // which durable brokers bring
				c.config[e.Key] = e.MaybeValue()
			}
		}
		out[r.Name] = c
	}
	return out
}
