package schemas

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/go-json-experiment/json/v1"
)

// TimeLayout is how Krib writes each time, of 27 characters: RFC 3339 in UTC with
// microseconds, which is what Postgres keeps. So times sort as texts, and parsers
// that know one form only (Python's strptime) read them. What is finer is cut off:
// rounded up, a time could be of the next day.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// FormatTime writes a time.
func FormatTime(t time.Time) string { return t.UTC().Format(TimeLayout) }

// encoding is that of [Encode]: the rules of encoding/json, without HTML escapes,
// and times in their one form wherever they stand.
var encoding = json.JoinOptions(v1.DefaultOptionsV1(), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false),
	json.WithMarshalers(json.MarshalToFunc(func(e *jsontext.Encoder, t time.Time) error {
		t = t.UTC()
		if y := t.Year(); y < 0 || y > 9999 { // RFC 3339 has four digits; a zone may lead out of them
			return fmt.Errorf("the year %d cannot be written", y)
		}
		b := append(e.AvailableBuffer(), '"')
		b = t.AppendFormat(b, TimeLayout)
		return e.WriteValue(append(b, '"')) //nolint:wrapcheck // Encode does
	})))
