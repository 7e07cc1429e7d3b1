package schemas_test

import (
	stdjson "encoding/json"
	"os"
	"testing"

	segmentio "github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/schemas"
)

// copied and coded keep the compiler from leaving the work out.
var (
	copied []byte
	coded  schemas.Event
)

// aBookingEvent is a confirmed booking as it stands on booking.events: compact,
// about a kilobyte.
func aBookingEvent(b *testing.B) (schemas.Event, []byte) {
	b.Helper()
	golden, err := os.ReadFile("testdata/v1/booking-event.confirmed.json")
	if err != nil {
		b.Fatal(err)
	}
	e, err := schemas.Decode[schemas.Event](golden)
	if err != nil {
		b.Fatal(err)
	}
	value, err := schemas.Encode(&e)
	if err != nil {
		b.Fatal(err)
	}
	return e, value
}

// BenchmarkEncodeBookingEvent compares schemas.Encode with both codecs as they
// are, and with a copy of the encoded value, which nothing can beat.
func BenchmarkEncodeBookingEvent(b *testing.B) {
	e, value := aBookingEvent(b)
	ways := []struct {
		name string
		run  func() ([]byte, error)
	}{
		{"krib", func() ([]byte, error) { return schemas.Encode(&e) }},
		{"encoding-json", func() ([]byte, error) { return stdjson.Marshal(&e) }},
		{"segmentio", func() ([]byte, error) { return segmentio.Marshal(&e) }},
		{"copy", func() ([]byte, error) { return append([]byte(nil), value...), nil }},
	}
	for _, w := range ways {
		b.Run(w.name, func(b *testing.B) {
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if copied, err = w.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecodeBookingEvent compares schemas.Decode, which also refuses what is
// no UTF-8 and no object, with both codecs as they are, and with a copy.
func BenchmarkDecodeBookingEvent(b *testing.B) {
	_, value := aBookingEvent(b)
	ways := []struct {
		name string
		run  func() error
	}{
		{"krib", func() (err error) { coded, err = schemas.Decode[schemas.Event](value); return err }},
		{"encoding-json", func() error { coded = schemas.Event{}; return stdjson.Unmarshal(value, &coded) }},
		{"segmentio", func() error { coded = schemas.Event{}; return segmentio.Unmarshal(value, &coded) }},
		{"copy", func() error { copied = append([]byte(nil), value...); return nil }},
	}
	for _, w := range ways {
		b.Run(w.name, func(b *testing.B) {
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
