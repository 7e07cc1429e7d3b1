//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/testenv"
)

func openDB(t *testing.T, k *krib) *pgxpool.Pool {
	t.Helper()
	db, err := pgxpool.New(t.Context(), k.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func count(t *testing.T, db *pgxpool.Pool, query string, args ...any) int {
	t.Helper()
	var n int
	if err := db.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// plain is a Kafka client that knows nothing of Krib.
func plain(t *testing.T, k *krib, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(k.KafkaBrokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// readPlain waits for n records of a topic.
func readPlain(t *testing.T, k *krib, topic string, n int) []*kgo.Record {
	t.Helper()
	cl := plain(t, k, kgo.ConsumeTopics(topic))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out []*kgo.Record
	for len(out) < n {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s: got %d records, want %d", topic, len(out), n)
		}
		out = append(out, fetches.Records()...)
	}
	return out
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// published compiles the schema files as they are published, by their ids.
func published(t *testing.T) func(uri string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	files, err := filepath.Glob("../../schemas/v1/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no schema files: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		id, _ := doc.(map[string]any)["$id"].(string)
		if err := c.AddResource(id, doc); err != nil {
			t.Fatal(err)
		}
	}
	return func(uri string) *jsonschema.Schema {
		s, err := c.Compile(uri)
		if err != nil {
			t.Fatalf("schema %q: %v", uri, err)
		}
		return s
	}
}

// Every record of every topic, read by a client that has only the published
// files, validates against the schema that its header names.
func TestAPlainKafkaClientCanReadAndValidateEveryRecord(t *testing.T) {
	t.Parallel()
	k := startHere(t, "KRIB_RETRY_TIERS=100ms")
	good := testenv.Receiver(t, nil)
	bad := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Status: 500} })
	k.subscribe(t, good.URL(), "booking.created", "booking.confirmed", "host.response_needed")
	k.subscribe(t, bad.URL(), "booking.created")
	id := k.book(t, 0)
	k.agent(t, "PUT", "/api/v1/external/bookings/"+id+"/status", object{"status": "confirmed"})
	k.agent(t, "POST", "/api/v1/hosts/"+k.HostID+"/notifications", object{"type": "urgent", "title": "T", "message": "M"})
	schema := published(t)
	for topic, n := range map[string]int{
		"booking.events": 3, "webhook.subscriptions": 2, "webhook.deliveries": 5, "webhook.retry.100ms": 1, "webhook.dead": 1,
		"webhook.attempts": 5, "host.notifications": 6, "outbox.progress": 1,
	} {
		for _, r := range readPlain(t, k, topic, n) {
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Value))
			if err != nil {
				t.Errorf("%s: %v in %s", topic, err, r.Value)
				continue
			}
			if err := schema(header(r, "ce_dataschema")).Validate(doc); err != nil {
				t.Errorf("%s: %v", topic, err)
			}
			for _, h := range []string{"ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type", "traceparent"} {
				if header(r, h) == "" {
					t.Errorf("%s: a record without %s", topic, h)
				}
			}
		}
	}
	for i, r := range readPlain(t, k, "booking.events", 3) {
		if string(r.Key) != id || !strings.Contains(string(r.Value), fmt.Sprintf(`"version":%d`, i+1)) {
			t.Errorf("record %d: key %s, value %s", i, r.Key, r.Value)
		}
	}
}

// Garbage on every topic that is read: each reader reports it and goes on.
func TestGarbageOnAnyTopicStopsNothing(t *testing.T) {
	t.Parallel()
	k := startHere(t, "KRIB_RETRY_TIERS=100ms,200ms")
	cl := plain(t, k, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	topics := []string{"booking.events", "webhook.deliveries", "webhook.retry.100ms", "webhook.attempts", "host.notifications"}
	for _, topic := range topics {
		for p := range int32(12) {
			r := &kgo.Record{Topic: topic, Partition: p, Key: []byte("k"), Value: []byte("{not json\xff\x00")}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "webhook.subscriptions", Key: []byte("k"), Value: []byte("{")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	endpoint := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if r.N == 0 {
			return testenv.Response{Status: 500} // so that the retry tier is passed too
		}
		return testenv.Response{}
	})
	k.subscribe(t, endpoint.URL(), "booking.created")
	id := k.book(t, 0)
	endpoint.Next(t)
	if r := endpoint.Next(t); !contains(r.Body, id) {
		t.Errorf("delivered %s", r.Body)
	}
	db := openDB(t, k)
	testenv.Eventually(t, "both attempts and the notification are rows", func() bool {
		return count(t, db, `select count(*) from webhook_attempts`) == 2 && count(t, db, `select count(*) from host_notifications`) == 1
	})
	seen := map[string]bool{}
	for _, r := range readPlain(t, k, "krib.poison", 12*len(topics)) {
		seen[string(r.Key)] = true
	}
	for _, topic := range topics {
		if !seen[topic] {
			t.Errorf("nobody reported the garbage on %s", topic)
		}
	}
}
