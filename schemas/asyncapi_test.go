package schemas_test

import (
	"bytes"
	"encoding/json"
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
	b, err := schemas.AsyncAPI(topics)
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
		if ref := at(t, d, "components", "messages", name, "payload", "schema", "$ref"); ref != "#/components/schemas/"+name {
			t.Errorf("the payload of %s is %v", topic.Name, ref)
		}
	}
	if _, ok := schemas.SchemaOf("somebody.elses"); ok {
		t.Error("a topic that is not ours has a schema")
	}
	if _, err := schemas.AsyncAPI([]schemas.Topic{{Name: "somebody.elses"}}); err == nil {
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

// A folder holds one file, the document.
type folder struct{ schemas map[string]*jsonschema.Schema }

func (f folder) Validate(v any, name string) error { return f.schemas[name].Validate(v) }

// inFolder saves a document in an empty folder and compiles its schemas from there.
func inFolder(t *testing.T, d object) folder {
	t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "saved.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{"file": jsonschema.FileLoader{}}) // and nothing from elsewhere
	f := folder{map[string]*jsonschema.Schema{}}
	for name := range at(t, d, "components", "schemas").(object) {
		if f.schemas[name], err = c.Compile("file://" + filepath.ToSlash(file) + "#/components/schemas/" + name); err != nil {
			t.Errorf("%s cannot be resolved from a file: %v", name, err)
		}
	}
	return f
}

// The schemas of the document take and refuse what the files do.
func TestASavedTopicsDocumentChecksRecordsByItself(t *testing.T) {
	alone := inFolder(t, asyncAPI(t, allTopics()))
	for _, g := range goldens(t) {
		if err := alone.Validate(parsed(t, g.value), g.schema); err != nil {
			t.Errorf("%s: %v", g.file, err)
		}
	}
	event := func() object {
		for _, g := range goldens(t) {
			if g.file == "booking-event.created.json" {
				return parsed(t, g.value).(object)
			}
		}
		t.Fatal("there is no golden record of a created booking")
		return nil
	}
	for what, spoil := range map[string]func(object){
		"no type":              func(o object) { delete(o, "type") },
		"no booking":           func(o object) { delete(o, "booking") },
		"a guest's number":     func(o object) { o["booking"].(object)["guest"].(object)["email"] = 5 },
		"nights that are text": func(o object) { o["booking"].(object)["nights"] = "2" },
	} {
		e := event()
		spoil(e)
		if by, saved := compiled(t, schemas.SchemaEvent).Validate(e), alone.Validate(e, schemas.SchemaEvent); (by == nil) != (saved == nil) || saved == nil {
			t.Errorf("%s: the file says %v, the document %v", what, by, saved)
		}
	}
}

func TestTheExamplesOfMessagesAreGoldenRecords(t *testing.T) {
	d := asyncAPI(t, allTopics())
	messages := at(t, d, "components", "messages").(object)
	alone := inFolder(t, d)
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
			if err := alone.Validate(payload, name); err != nil {
				t.Errorf("an example of %s, by the document alone: %v", name, err)
			}
		}
	}
}
