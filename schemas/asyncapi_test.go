package schemas_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/krib-ai/krib/schemas"
)

func asyncAPI(t *testing.T, topics []schemas.Topic) object {
	t.Helper()
	b, err := schemas.AsyncAPI(topics, "schemas/")
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, b).(object)
}

func allTopics() []schemas.Topic {
	return schemas.Topics(schemas.TopicOptions{Partitions: 12, ReplayWindow: 720 * time.Hour, Ladder: schemas.DefaultLadder()})
}

// testdata/asyncapi-3.0.0.json is the specification's own schema, from
// @asyncapi/specs 6.11.1 (Apache License 2.0).
func TestTheTopicsDocumentIsAsyncAPI(t *testing.T) {
	raw, err := os.ReadFile("testdata/asyncapi-3.0.0.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:///asyncapi.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:///asyncapi.json")
	if err != nil {
		t.Fatal(err)
	}
	d := asyncAPI(t, allTopics())
	if err := s.Validate(d); err != nil {
		t.Error(err)
	}
	d["channels"].(object)["booking.events"].(object)["bindings"].(object)["kafka"].(object)["partitions"] = "twelve"
	if s.Validate(d) == nil {
		t.Error("a document that is wrong in a binding is taken too")
	}
}

// at follows names into a document.
func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for _, name := range path {
		o, ok := v.(object)
		if !ok || o[name] == nil {
			t.Fatalf("no %s of %v", name, path)
		}
		v = o[name]
	}
	return v
}

func TestEveryTopicIsAChannelWhosePayloadIsItsSchema(t *testing.T) {
	d := asyncAPI(t, allTopics())
	channels := at(t, d, "channels").(object)
	if len(channels) != len(allTopics()) {
		t.Errorf("%d channels for %d topics", len(channels), len(allTopics()))
	}
	for _, topic := range allTopics() {
		c := at(t, channels, topic.Name)
		name, ok := schemas.SchemaOf(topic.Name)
		if !ok || at(t, c, "address") != topic.Name {
			t.Errorf("%s: %v", topic.Name, c)
		}
		if got, want := at(t, c, "messages", name, "$ref"), "#/components/messages/"+name; got != want {
			t.Errorf("the message of %s is %v, want %s", topic.Name, got, want)
		}
		ref := at(t, d, "components", "messages", name, "payload", "schema", "$ref").(string)
		if _, err := os.Stat(filepath.FromSlash("../" + ref)); err != nil {
			t.Errorf("the payload of %s: %v", topic.Name, err)
		}
	}
	if _, ok := schemas.SchemaOf("somebody.elses"); ok {
		t.Error("a topic that is not ours has a schema")
	}
	if _, err := schemas.AsyncAPI([]schemas.Topic{{Name: "somebody.elses"}}, ""); err == nil {
		t.Error("a topic that holds nobody knows what is described")
	}
}

func TestTheDocumentedHeadersAreThoseThatAreWritten(t *testing.T) {
	d := asyncAPI(t, allTopics())
	e := schemas.Event{ID: "evt_1", Type: schemas.BookingCreated}
	m := e.Meta()
	m.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	written := object{}
	for _, h := range m.Headers() {
		written[h.Key] = h.Value
	}
	headers := at(t, d, "components", "messages", schemas.SchemaEvent, "headers").(object)
	documented := object{}
	for name := range headers["properties"].(object) {
		documented[name] = written[name]
	}
	if diff := cmp.Diff(written, documented); diff != "" {
		t.Errorf("headers (-written +documented):\n%s", diff)
	}
	headers["$id"] = "mem:///headers.json"
	if err := compiledFrom(t, headers).Validate(written); err != nil {
		t.Error(err)
	}
}

func TestTheExamplesOfMessagesAreGoldenRecords(t *testing.T) {
	messages := at(t, asyncAPI(t, allTopics()), "components", "messages").(object)
	var known []any
	for _, g := range goldens(t) {
		known = append(known, parsed(t, g.value))
	}
	for name, m := range messages {
		shown := at(t, m, "examples").([]any)
		if len(shown) == 0 {
			t.Errorf("%s has no example", name)
		}
		for _, e := range shown {
			payload := at(t, e, "payload")
			if !slices.ContainsFunc(known, func(g any) bool { return cmp.Equal(g, payload) }) {
				t.Errorf("an example of %s is no golden record: %v", name, payload)
			}
			if err := compiled(t, name).Validate(payload); err != nil {
				t.Errorf("an example of %s: %v", name, err)
			}
		}
	}
}
