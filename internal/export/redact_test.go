package export_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/export"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// topicOf is where values of a schema lie.
var topicOf = map[string]string{
	schemas.SchemaEvent:        string(schemas.BookingEvents),
	schemas.SchemaSubscription: string(schemas.Subscriptions),
	schemas.SchemaDelivery:     string(schemas.Deliveries),
	schemas.SchemaHold:         string(schemas.Holds),
	schemas.SchemaAttempt:      string(schemas.Attempts),
	schemas.SchemaFeed:         string(schemas.HostNotifications),
	schemas.SchemaProgress:     string(schemas.OutboxProgress),
	schemas.SchemaPoison:       string(schemas.PoisonRecords),
}

// personal is what the golden records say of people.
var personal = []string{"Aisha", "Khan", "aisha.khan@example.com", "501234567", "12 Marina Walk", "We land at nine"}

type object = map[string]any

// marked collects the texts of a value that stand at places with x-pii.
func marked(root, schema object, value any, inside bool, found map[string]bool) {
	if r, ok := schema["$ref"].(string); ok {
		inside = inside || schema["x-pii"] == true
		schema = root["$defs"].(object)[strings.TrimPrefix(r, "#/$defs/")].(object)
	}
	inside = inside || schema["x-pii"] == true
	switch v := value.(type) {
	case object:
		members, _ := schema["properties"].(object)
		others, _ := schema["additionalProperties"].(object)
		for name, m := range v {
			of, ok := members[name].(object)
			if !ok {
				of = others
			}
			marked(root, of, m, inside, found)
		}
	case []any:
		of, _ := schema["items"].(object)
		for _, m := range v {
			marked(root, of, m, inside, found)
		}
	case string:
		if inside && len(v) > 4 {
			found[v] = true
		}
	}
}

// producedGoldens puts every golden record on its topic and returns what is marked
// in them. One of each has a header that Krib does not write, with a guest in it.
func producedGoldens(t *testing.T, c *testenv.Cluster) (found map[string]bool) {
	t.Helper()
	found = map[string]bool{}
	paths, err := filepath.Glob("../../schemas/testdata/v1/*.json")
	if err != nil || len(paths) < 30 {
		t.Fatalf("%d golden records, %v", len(paths), err)
	}
	for i, p := range paths {
		value, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(filepath.Base(p), ".")
		r := kafka.Record(topicOf[name], fmt.Sprint("key_", i), schemas.Meta{ID: fmt.Sprint("id_", i), Type: name, Schema: name}, value)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "guest", Value: []byte("Aisha Khan")})
		c.ProduceRecord(t, r)
		b, err := schemas.Schema(name)
		if err != nil {
			t.Fatal(err)
		}
		var root object
		var v any
		if err := json.Unmarshal(b, &root); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(value, &v); err != nil {
			t.Fatal(err)
		}
		marked(root, root, v, false, found)
	}
	return found
}

// exported is everything that an export of all topics says: the bytes themselves,
// and behind them, where they are compressed, what a reader finds in them.
func exported(t *testing.T, c *testenv.Cluster, format string, r *export.Redactor) string {
	t.Helper()
	var all bytes.Buffer
	for _, topic := range topicOf {
		var out bytes.Buffer
		w := export.Writer(export.NewLines(&out))
		if format == "parquet" {
			w = export.NewParquet(&out, topic)
		}
		done, err := export.Read(t.Context(), export.Options{Kafka: c.Config, Topic: topic, Redactor: r}, w.Write)
		if err != nil || done.Records == 0 || done.Withheld != 0 {
			t.Fatalf("%s: %+v, %v", topic, done, err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all.Write(out.Bytes())
		if format == "parquet" {
			for _, row := range rowsOf[any](t, out.Bytes()) {
				fmt.Fprintf(&all, "%v\n", row)
			}
		}
	}
	return all.String()
}

func rowsOf[T any](t *testing.T, file []byte) []T {
	t.Helper()
	rows, err := parquet.Read[T](bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestNoPersonalDataOfAGoldenRecordSurvivesRedaction(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	found := producedGoldens(t, c)
	delete(found, string(schemas.BookingCreated)) // a poisoned record's header, and a word that is nobody's
	for _, p := range personal {
		found[p] = true
	}
	for _, format := range []string{"ndjson", "parquet"} {
		plain := exported(t, c, format, nil)
		for _, p := range personal {
			if !strings.Contains(plain, p) {
				t.Errorf("without redaction %s does not have %q, and so proves nothing", format, p)
			}
		}
		for _, how := range []export.Redaction{export.Drop, export.Hash} {
			out := exported(t, c, format, export.NewRedactor(how, "a key of the tests"))
			for p := range found {
				if escaped, _ := json.Marshal(p); strings.Contains(out, p) || strings.Contains(out, strings.Trim(string(escaped), `"`)) {
					t.Errorf("%s with %s says %q", format, how, p)
				}
			}
			if strings.Contains(out, export.HashPrefix) != (how == export.Hash) || !strings.Contains(out, "bkg_019500000000700080000000000000b1") {
				t.Errorf("%s with %s has hashes where none belong, or none, or lost what is nobody's", format, how)
			}
		}
	}
}

func TestRedactionLetsThroughOnlyWhatTheSchemaDescribes(t *testing.T) {
	t.Parallel()
	const event, poison = schemas.SchemaBase + "booking-event.json", schemas.SchemaBase + "poison.json"
	r := export.NewRedactor(export.Drop, "")
	for name, c := range map[string]struct{ schema, value, want string }{
		"order and digits stay":              {event, `{"version": 2, "booking":{"total_amount":950.00,"id":"b<1>"},"id":"e" }`, `{"version":2,"booking":{"total_amount":950.00,"id":"b<1>"},"id":"e"}`},
		"what is marked goes, behind a $ref": {event, `{"booking":{"guest":{"email":"a@b","country_code":"+971"}}}`, `{"booking":{"guest":{"country_code":"+971"}}}`},
		"so does what a newer writer added":  {event, `{"id":"e","middle_name":"Aisha","booking":{"passport":{"no":1},"id":"b"}}`, `{"id":"e","booking":{"id":"b"}}`},
		"and a member by another case":       {event, `{"ID":"e","Booking":{"id":"b"}}`, `{}`},
		"and one of another type":            {event, `{"id":{"name":"Aisha"},"booking":"Aisha","changed":"Aisha","version":"Aisha"}`, `{}`},
		"and a second one of the same name":  {event, `{"booking":{"guest":{"email":"a"}},"booking":{"guest":{"email":"b"}}}`, `{"booking":{"guest":{}},"booking":{"guest":{}}}`},
		"items of arrays are looked at":      {event, `{"changed":["status",{"guest":"Aisha"},["Aisha"],null]}`, `{"changed":["status",null]}`},
		"null holds nothing":                 {event, `{"booking":null,"changed":null}`, `{"booking":null,"changed":null}`},
		"a value that is no object":          {event, `"Aisha"`, ``},
		"a schema that nobody knows":         {"https://example.com/other.json", `{"id":"e"}`, ``},
		"no schema":                          {"", `{"id":"e"}`, ``},
		"a path":                             {schemas.SchemaBase + "../v1/booking-event.json", `{"id":"e"}`, ``},
		"another schema's members":           {poison, `{"booking":{"guest":{"email":"a"}},"topic":"t"}`, `{"topic":"t"}`},
	} {
		got, ok := r.Value(c.schema, []byte(c.value))
		if want := c.want != ""; ok != want || string(got) != c.want && want {
			t.Errorf("%s: %s, %v, want %s", name, got, ok, c.want)
		}
	}
}

func TestEqualValuesHaveEqualHashesUnderOneKey(t *testing.T) {
	t.Parallel()
	const event, feed = schemas.SchemaBase + "booking-event.json", schemas.SchemaBase + "host-notification.json"
	hash := func(key schemas.Secret, schema, value string) string {
		t.Helper()
		out, ok := export.NewRedactor(export.Hash, key).Value(schema, []byte(value))
		text := strings.Split(string(out), `"`)
		i := slices.IndexFunc(text, func(s string) bool { return strings.HasPrefix(s, export.HashPrefix) })
		if !ok || i < 0 || len(text[i]) != len(export.HashPrefix)+64 {
			t.Fatalf("%s became %s", value, out)
		}
		return text[i]
	}
	first := hash("sixteen letters.", event, `{"booking":{"guest":{"email":"Aisha Khan"}}}`)
	if again := hash("sixteen letters.", feed, `{"booking":{"guest_name":"\u0041isha Khan"}}`); again != first {
		t.Errorf("the same text, written another way in another schema, is %s and not %s", again, first)
	}
	for name, other := range map[string]string{
		"another text":          hash("sixteen letters.", event, `{"booking":{"guest":{"email":"aisha khan"}}}`),
		"another key":           hash("sixteen letters!", event, `{"booking":{"guest":{"email":"Aisha Khan"}}}`),
		"a random key":          hash("", event, `{"booking":{"guest":{"email":"Aisha Khan"}}}`),
		"the next random key":   hash("", event, `{"booking":{"guest":{"email":"Aisha Khan"}}}`) + "x",
		"a hash without a key?": "",
	} {
		if other == first {
			t.Errorf("%s makes the same hash", name)
		}
	}
	if out, _ := export.NewRedactor(export.Hash, "k").Value(event, []byte(`{"booking":{"guest":{"email":""}}}`)); string(out) != `{"booking":{"guest":{"email":""}}}` {
		t.Errorf("what is empty became %s", out)
	}
}

func FuzzRedactionMakesJSONThatItLeavesAlone(f *testing.F) {
	paths, _ := filepath.Glob("../../schemas/testdata/v1/*.json")
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		name, _, _ := strings.Cut(filepath.Base(p), ".")
		f.Add(name, b)
	}
	f.Add("booking-event", []byte(` { "a\u0062" : [ { } , [ ] , "x" ] , "id" : "\"" , "booking" : { "guest" : { "email" : { "a" : [ 1 ] } } } } `))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		if !json.Valid(value) {
			t.Skip()
		}
		r := export.NewRedactor(export.Drop, "")
		out, ok := r.Value(schemas.SchemaBase+name+".json", value)
		if !ok {
			return
		}
		again, ok := r.Value(schemas.SchemaBase+name+".json", out)
		if !json.Valid(out) || !ok || string(again) != string(out) {
			t.Errorf("%s became %s, and then %s", value, out, again)
		}
	})
}
