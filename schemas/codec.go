package schemas

import (
	"bytes"
	"fmt"
	"time"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/segmentio/encoding/json"
)

// Encode writes a value as it stands on a topic and in an answer: compact JSON,
// without HTML escapes, on one line for every reader (see EscapeBreaks), with every
// time of one length (see TimeLayout).
func Encode(v any) ([]byte, error) {
	b, err := jsonv2.Marshal(v, encoding)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	return EscapeBreaks(b), nil
}

// Decode reads a value from a topic. It is a tolerant reader: members that it
// does not know are skipped, so that a newer writer does not stop an older
// reader. A value that is no JSON object is an error.
func Decode[T any](b []byte) (T, error) {
	var v T
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return v, fmt.Errorf("decoding %T: not a JSON object", v)
	}
	// The codec lets bytes through that are no UTF-8, and Postgres would stop the
	// sink that meets them.
	if !json.Valid(b) || !utf8.Valid(b) {
		return v, fmt.Errorf("decoding %T: not valid JSON", v)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("decoding %T: %w", v, err)
	}
	return v, nil
}

// A Header is one record header.
type Header struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Meta are the CloudEvents 1.0 attributes of a record in the binary mode of the
// Kafka protocol binding: each is a header ce_<name>, and the value is the data.
type Meta struct {
	ID          string
	Type        string
	Subject     string
	Time        time.Time
	Schema      string // a file name of the schemas, such as "booking-event"
	TraceParent string // W3C trace context; empty for none
}

// Source is the ce_source of every record.
const Source = "/krib"

// SchemaBase is what a schema's file name is appended to in ce_dataschema.
const SchemaBase = "https://schemas.krib.ai/v1/"

// Headers writes the attributes in a fixed order.
func (m Meta) Headers() []Header {
	h := []Header{
		{"ce_specversion", "1.0"},
		{"ce_id", m.ID},
		{"ce_type", m.Type},
		{"ce_source", Source},
		{"ce_subject", m.Subject},
		{"ce_time", FormatTime(m.Time)},
		{"ce_dataschema", SchemaBase + m.Schema + ".json"},
		{"content-type", "application/json"},
	}
	if m.TraceParent != "" {
		h = append(h, Header{"traceparent", m.TraceParent})
	}
	return h
}

// The schema names, one for each kind of value.
const (
	SchemaEvent        = "booking-event"
	SchemaSubscription = "webhook-subscription"
	SchemaDelivery     = "webhook-delivery"
	SchemaHold         = "webhook-hold"
	SchemaAttempt      = "webhook-attempt"
	SchemaFeed         = "host-notification"
	SchemaProgress     = "outbox-progress"
	SchemaPoison       = "poison"
)

// Meta describes the event's record on booking.events.
func (e *Event) Meta() Meta {
	return Meta{ID: string(e.ID), Type: string(e.Type), Subject: string(e.Booking.ID), Time: e.OccurredAt, Schema: SchemaEvent}
}

// Meta describes the subscription's record.
func (s *Subscription) Meta() Meta {
	return Meta{ID: fmt.Sprintf("%s-%d", s.ID, s.Version), Type: "webhook.subscription", Subject: string(s.ID), Time: s.UpdatedAt, Schema: SchemaSubscription}
}

// Meta describes the delivery's record. Its id is unique for each hop.
func (d *Delivery) Meta(now time.Time) Meta {
	return Meta{ID: fmt.Sprintf("%s-%d-%d-%d", d.ID, d.Run, d.Attempt, d.Hop), Type: "webhook.delivery", Subject: string(d.SubscriptionID), Time: now, Schema: SchemaDelivery}
}

// Meta describes the hold's record. A hold is a state and not an event, so its id
// tells of the moment.
func (h *Hold) Meta(now time.Time) Meta {
	return Meta{ID: fmt.Sprintf("%s-%d", h.Key(), now.UnixMicro()), Type: "webhook.hold", Subject: h.Key(), Time: now, Schema: SchemaHold}
}

// Meta describes the attempt's record.
func (a *Attempt) Meta() Meta {
	return Meta{ID: fmt.Sprintf("%s-%d-%d", a.DeliveryID, a.Run, a.Number), Type: "webhook.attempt", Subject: string(a.SubscriptionID), Time: a.StartedAt, Schema: SchemaAttempt}
}

// Meta describes the feed record.
func (f *FeedRecord) Meta() Meta {
	// An event's own records are told apart by a suffix: source and id together
	// must be unique.
	id := string(f.EventID)
	switch {
	case f.Notification != nil:
		id = string(f.Notification.ID)
	case f.Update != nil:
		id = fmt.Sprintf("%s-%s-%d", f.Update.NotificationID, f.Update.Action, f.At.UnixMicro())
	case id == "":
		id = fmt.Sprintf("%s-%d", f.Kind, f.At.UnixMicro())
	default:
		id += "-feed"
	}
	return Meta{ID: id, Type: string(f.Kind), Subject: string(f.HostID), Time: f.At, Schema: SchemaFeed}
}
