// Package export reads topics for people and their tools: record by record as
// lines of JSON, or as a Parquet file with typed columns, on request without the
// personal data that the schemas mark with x-pii.
//
// It reads committed records only, is in no group and writes nothing to Kafka. What
// it holds at a time is bounded, whatever the topic holds: what the client has
// fetched, and a row group.
package export

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
)

// Options of Read. Kafka and Topic are required.
type Options struct {
	Kafka kafka.Config
	Topic string
	// Since and Until bound the records by when they came onto the topic. Since
	// belongs to the window and Until does not; the zero time is no bound.
	Since, Until time.Time
	// Key narrows it to the records of one key; empty for all.
	Key string
	// Follow goes on behind the end of the topic, until the context ends.
	Follow bool
	// Redactor takes personal data out; nil leaves everything as it is.
	Redactor *Redactor
}

// A Record is a record of a topic as it is handed out, and its line of JSON.
type Record struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Timestamp time.Time         `json:"timestamp"` // when it came onto the topic
	Key       string            `json:"key"`
	Headers   map[string]string `json:"headers"`
	// Value is null for a tombstone, for what is not JSON, and where redaction had to
	// leave it out.
	Value json.RawMessage `json:"value"`
	// Raw is a value that is not JSON; in base64 on a line.
	Raw []byte `json:"value_base64,omitempty"`
}

// A Summary says what Read has done.
type Summary struct {
	Records int
	// Withheld are records whose value redaction had to leave out: it is not JSON, or
	// no known schema describes it.
	Withheld int
}

// Read hands out what is committed on the topic up to the ends that it had when
// Read began, in the order of offsets in each partition. It waits for transactions
// that were open then. An error of each ends it.
func Read(ctx context.Context, o Options, each func(*Record) error) (Summary, error) {
	var done Summary
	scan, err := kafka.NewScanner(o.Kafka)
	if err != nil {
		return done, err
	}
	defer scan.Close()
	ends, err := scan.Ends(ctx, o.Topic)
	if err != nil {
		return done, err
	}
	if o.Follow {
		for p := range ends[o.Topic] {
			ends[o.Topic][p] = math.MaxInt64
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var refused error
	err = scan.Read(ctx, o.Since, ends, func(r *kgo.Record) {
		if refused != nil || !o.wants(r) {
			return
		}
		out, withheld := o.recordOf(r)
		if refused = each(out); refused != nil {
			stop()
			return
		}
		done.Records++
		if withheld {
			done.Withheld++
		}
	})
	if refused != nil {
		return done, refused
	}
	if err != nil {
		return done, fmt.Errorf("reading %s: %w", o.Topic, err)
	}
	return done, nil
}

// wants looks at the time of each record: behind the first of a window there may be
// older ones, for writers have clocks of their own.
func (o *Options) wants(r *kgo.Record) bool {
	return (o.Key == "" || o.Key == string(r.Key)) && !r.Timestamp.Before(o.Since) && (o.Until.IsZero() || r.Timestamp.Before(o.Until))
}

func (o *Options) recordOf(r *kgo.Record) (out *Record, withheld bool) {
	out = &Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC(), Key: string(r.Key), Headers: map[string]string{}}
	for _, h := range r.Headers {
		if o.Redactor == nil || o.Redactor.knows(h.Key) {
			out.Headers[h.Key] = string(h.Value)
		}
	}
	switch {
	case r.Value == nil:
	case !json.Valid(r.Value) || !utf8.Valid(r.Value):
		if o.Redactor != nil {
			return out, true
		}
		out.Raw = r.Value
	case o.Redactor != nil:
		value, ok := o.Redactor.Value(kafka.HeaderOf(r, "ce_dataschema"), r.Value)
		out.Value = value
		return out, !ok
	default:
		out.Value = r.Value
	}
	return out, false
}
