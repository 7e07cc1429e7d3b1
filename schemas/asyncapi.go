package schemas

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/segmentio/encoding/json"
)

// The golden records are the examples of the document, too.
//
//go:embed testdata/v1/*.json
var examples embed.FS

// content is what a topic holds.
type content struct{ schema, writers, readers string }

var contents = map[string]content{
	string(BookingEvents):     {SchemaEvent, "The relay, in the order in which changes were accepted.", "Fan-out, replays, agents' pulls and streams, mail; analytics."},
	string(Subscriptions):     {SchemaSubscription, "The relay.", "Fan-out and deliver, as a table in memory."},
	string(OutboxProgress):    {SchemaProgress, "The relay.", "The relay."},
	string(Deliveries):        {SchemaDelivery, "Fan-out, retry, replays; the relay for tests and operational events.", "Deliver."},
	string(Holds):             {SchemaHold, "Deliver, for subscriptions with an ordering.", "Deliver, when it takes a partition over."},
	string(DeadLetters):       {SchemaDelivery, "Deliver, when nothing will try again by itself.", "People, with krib dead."},
	string(Attempts):          {SchemaAttempt, "Deliver.", "The log of attempts, statistics and health; analytics."},
	string(HostNotifications): {SchemaFeed, "Fan-out, and the relay for what is sent, marked and announced.", "The inbox, the hosts' streams, mail."},
	string(PoisonRecords):     {SchemaPoison, "Whoever met a record that it could not decode.", "People."},
}

var tierContent = content{SchemaDelivery, "Deliver, for what waits as long as the name says.", "Retry, which moves it back when it is due."}

func contentOf(topic string) (content, bool) {
	if _, ok := TierOf(topic); ok {
		return tierContent, true
	}
	c, ok := contents[topic]
	return c, ok
}

// SchemaOf is the name of the schema of a topic's values.
func SchemaOf(topic string) (string, bool) {
	c, ok := contentOf(topic)
	return c.schema, ok
}

// keys say what the key of a record with each schema is.
var keys = map[string]string{
	SchemaEvent:        "The booking's id.",
	SchemaSubscription: "The subscription's id.",
	SchemaDelivery:     "The subscription's id.",
	SchemaHold:         "Subscription, booking and run, with | between them.",
	SchemaAttempt:      "The subscription's id.",
	SchemaFeed:         "The host's id; none on an announcement, which is written to every partition.",
	SchemaProgress:     "The same on every record.",
	SchemaPoison:       "The topic that the record was read from.",
}

const kafkaBinding = "0.5.0"

type fields = map[string]any

// AsyncAPI is the AsyncAPI 3.0 document of topics, as JSON. It stands alone: the
// schemas are components of it, so that it can be read from a file, too.
func AsyncAPI(topics []Topic) ([]byte, error) {
	channels, operations, messages, payloads := fields{}, fields{}, fields{}, fields{}
	for _, t := range topics {
		c, ok := contentOf(t.Name)
		if !ok {
			return nil, fmt.Errorf("describing the topic %s: nothing says what it holds", t.Name)
		}
		channels[t.Name] = channel(t, c)
		operations["write."+t.Name] = fields{
			"action": "send", "channel": fields{"$ref": "#/channels/" + t.Name}, "summary": c.writers,
			"messages": []any{fields{"$ref": "#/channels/" + t.Name + "/messages/" + c.schema}},
		}
	}
	for _, name := range SchemaNames() {
		m, err := message(name)
		if err != nil {
			return nil, err
		}
		messages[name] = m
		if err := addSchema(payloads, name); err != nil {
			return nil, err
		}
	}
	b, err := json.MarshalIndent(fields{
		"asyncapi": "3.0.0", "defaultContentType": "application/json",
		"info": fields{
			"title": "Krib's topics", "version": "1.0.0",
			"description": "Record batches are compressed with snappy unless the installation sets KRIB_KAFKA_COMPRESSION: kafka-python and KafkaJS need a package for it. Every value is a CloudEvents 1.0 event in the binary mode of the Kafka protocol binding: attributes are headers, the value is JSON. Read with isolation.level=read_committed. Members and values of enums may be added; skip those that you do not know. Members with x-pii tell of people.",
		},
		"servers": fields{"kafka": fields{
			"host": "{bootstrap}", "protocol": "kafka", "description": "The installation's Kafka.",
			"variables": fields{"bootstrap": fields{"default": "127.0.0.1:9092", "description": "One of its bootstrap servers."}},
		}},
		"channels": channels, "operations": operations, "components": fields{"messages": messages, "schemas": payloads},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the AsyncAPI document: %w", err)
	}
	return b, nil
}

func channel(t Topic, c content) fields {
	config := fields{}
	for name, v := range t.Config {
		switch n, err := strconv.ParseInt(v, 10, 64); {
		case name == "cleanup.policy":
			config[name] = strings.Split(v, ",")
		case err == nil:
			config[name] = n
		default:
			config[name] = v
		}
	}
	return fields{
		"address": t.Name, "summary": "Read by: " + c.readers,
		"messages": fields{c.schema: fields{"$ref": "#/components/messages/" + c.schema}},
		"bindings": fields{"kafka": fields{
			"topic": t.Name, "partitions": t.Partitions, "topicConfiguration": config, "bindingVersion": kafkaBinding,
		}},
	}
}

func message(name string) (fields, error) {
	raw, err := Schema(name)
	if err != nil {
		return nil, err
	}
	var about struct{ Title, Description string }
	if err := json.Unmarshal(raw, &about); err != nil {
		return nil, fmt.Errorf("reading the schema %s: %w", name, err)
	}
	shown, err := examplesOf(name)
	if err != nil {
		return nil, err
	}
	return fields{
		"name": name, "title": about.Title, "summary": about.Description, "contentType": "application/json",
		"headers":  headers(name),
		"payload":  fields{"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": fields{"$ref": componentSchemas + name}},
		"bindings": fields{"kafka": fields{"key": fields{"type": "string", "description": keys[name]}, "bindingVersion": kafkaBinding}},
		"examples": shown,
	}, nil
}

const componentSchemas = "#/components/schemas/"

// addSchema makes components of a schema and of each definition inside, which is
// called <schema>.<definition>. Without its $id, what is in it refers to the
// document that it stands in.
func addSchema(components fields, name string) error {
	raw, err := Schema(name)
	if err != nil {
		return err
	}
	var s fields
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("reading the schema %s: %w", name, err)
	}
	inner, _ := s["$defs"].(fields)
	for _, own := range []string{"$id", "$schema", "$defs"} {
		delete(s, own)
	}
	components[name] = moved(s, name)
	for def, of := range inner {
		components[name+"."+def] = moved(of, name)
	}
	return nil
}

// moved is a part of a schema with its references to definitions turned to the
// components that they have become.
func moved(v any, name string) any {
	switch v := v.(type) {
	case fields:
		out := fields{}
		for k, of := range v {
			ref, isText := of.(string)
			if def, ok := strings.CutPrefix(ref, "#/$defs/"); k == "$ref" && isText && ok {
				out[k] = componentSchemas + name + "." + def
				continue
			}
			out[k] = moved(of, name)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = moved(v[i], name)
		}
		return out
	}
	return v
}

// headers is the schema of what Meta.Headers writes.
func headers(name string) fields {
	text := func(description string) fields { return fields{"type": "string", "description": description} }
	properties := fields{
		"ce_specversion": fields{"const": "1.0", "description": "CloudEvents 1.0."},
		"ce_id":          text("Unique among records with the same ce_source; a record that was written again has the same."),
		"ce_type":        text("What the record is."),
		"ce_source":      fields{"const": Source, "description": "Krib."},
		"ce_subject":     text("What the record is about."),
		"ce_time":        fields{"type": "string", "format": "date-time", "description": "When it happened. RFC 3339 in UTC, with microseconds: 27 characters."},
		"ce_dataschema":  fields{"const": SchemaBase + name + ".json", "description": "The schema of the value."},
		"content-type":   fields{"const": "application/json", "description": "Of the value."},
	}
	required := make([]string, 0, len(properties))
	for h := range properties {
		required = append(required, h)
	}
	slices.Sort(required)
	properties["traceparent"] = text("W3C trace context of the request behind it; left out when there is none.")
	return fields{"type": "object", "required": required, "properties": properties}
}

// examplesOf are the golden records of a schema; those that only show every member
// or as few as possible stand for it where there are no others.
func examplesOf(name string) ([]fields, error) {
	paths, err := fs.Glob(examples, "testdata/v1/"+name+".*.json")
	if err != nil {
		return nil, fmt.Errorf("looking for examples of %s: %w", name, err)
	}
	contrived := func(p string) bool { return strings.HasSuffix(p, ".bare.json") || strings.HasSuffix(p, ".full.json") }
	if slices.ContainsFunc(paths, func(p string) bool { return !contrived(p) }) {
		paths = slices.DeleteFunc(paths, contrived)
	}
	out := make([]fields, 0, len(paths))
	for _, p := range paths {
		b, err := examples.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("reading an example: %w", err)
		}
		_, kind, _ := strings.Cut(strings.TrimSuffix(p, ".json"), name+".")
		out = append(out, fields{"name": kind, "payload": json.RawMessage(b)})
	}
	return out, nil
}
