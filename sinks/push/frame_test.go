package push

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// blocks is the event stream's grammar once more, as the standard writes it: any
// of CR, LF and CRLF ends a line, an empty line ends a block.
func blocks(b []byte) []map[string]string {
	text := strings.ReplaceAll(strings.ReplaceAll(string(b), "\r\n", "\n"), "\r", "\n")
	var out []map[string]string
	block := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			out, block = append(out, block), map[string]string{}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		block[name] += strings.TrimPrefix(value, " ")
	}
	if len(block) > 0 {
		out = append(out, block)
	}
	return out
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{
		`{"kind":"system_announcement","at":"2026-01-01T00:00:00Z","announcement":{"a":"b\nid: 1"}}`,
		"{\"kind\":\"system_announcement\",\"at\":\"2026-01-01T00:00:00Z\",\"announcement\":{\r\"id: 7\":\r\n[1,\n\n2]}}",
		`{"kind":"notification","host_id":"h","at":"2026-01-01T00:00:00Z","notification":{"title":"\r\n\nevent: x\u2028\u0000","message":"  "}}`,
		`{"kind":"notification_update","host_id":"h","at":"2026-01-01T00:00:00Z","update":{"notification_id":"n","action":"read\nid: 9"}}`,
		`{"kind":"booking_update","host_id":"h\n","at":"2026-01-01T00:00:00Z","booking":{"guest_name":"\ud800"}}`,
		`{"kind":"notification","host_id":"h","at":"0001-01-01T00:00:00Z"}`,
		`{"kind":"system_announcement","announcement":null}`,
		`[]`,
	} {
		f.Add([]byte(s), int64(3))
	}
	p := place{"0123456789", 4}
	f.Fuzz(func(t *testing.T, value []byte, offset int64) {
		if offset < 0 || offset == 1<<63-1 {
			return
		}
		e, err := encode(p, offset, value)
		if err != nil {
			return
		}
		got := blocks(e.bytes)
		if len(got) != 1 || len(got[0]) != 3 || got[0]["id"] != p.at(offset+1).String() {
			t.Fatalf("%q became the blocks %q", value, got)
		}
		if bytes.ContainsAny(e.bytes, "\r\x00") || bytes.Count(e.bytes, []byte("\n")) != 4 {
			t.Fatalf("%q became %q", value, e.bytes)
		}
		var data struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal([]byte(got[0]["data"]), &data); err != nil || data.Type != got[0]["event"] {
			t.Fatalf("%q became %q: %v", value, e.bytes, err)
		}
	})
}

func TestAFrameHasTheContractsShape(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	rec := schemas.FeedRecord{Kind: schemas.FeedUpdate, HostID: "h", At: at, Update: &schemas.NotificationUpdate{NotificationID: "ntf_1", Action: schemas.MarkedRead, At: at}}
	b, err := schemas.Encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	e, err := encode(place{"0123456789", 2}, 41, b)
	if err != nil {
		t.Fatal(err)
	}
	want := "id: 0123456789-2-42\nevent: notification_update\n" +
		`data: {"type":"notification_update","data":{"notification_id":"ntf_1","action":"read","at":"2026-03-01T09:30:00.000000Z"},"timestamp":"2026-03-01T09:30:00.000000Z"}` + "\n\n"
	if got := string(e.bytes); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestANotificationHasEveryMemberOfTheList(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	bare := schemas.Notification{ID: "ntf_1", HostID: "h", Type: schemas.Urgent, Title: "t", Message: "m", Priority: schemas.Low, CreatedAt: at, UpdatedAt: at}
	full := bare
	full.BookingID, full.PropertyID, full.ActionURL, full.ExpiresAt, full.ReadAt, full.IsRead = "b", "p", "/x", &at, &at, true
	const common = `"id":"ntf_1","host_id":"h","type":"urgent","title":"t","message":"m","priority":"low","action_required":false,` +
		`"created_at":"2026-03-01T09:30:00.000000Z","updated_at":"2026-03-01T09:30:00.000000Z",`
	for n, want := range map[*schemas.Notification]string{
		&bare: common + `"is_read":false,"booking_id":null,"property_id":null,"action_url":null,"expires_at":null,"read_at":null`,
		&full: common + `"is_read":true,"booking_id":"b","property_id":"p","action_url":"/x","expires_at":"2026-03-01T09:30:00.000000Z","read_at":"2026-03-01T09:30:00.000000Z"`,
	} {
		b, err := schemas.Encode(schemas.FeedRecord{Kind: schemas.FeedNotification, HostID: "h", At: at, Notification: n})
		if err != nil {
			t.Fatal(err)
		}
		e, err := encode(place{"0123456789", 2}, 41, b)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Data map[string]any }
		if err := json.Unmarshal([]byte(blocks(e.bytes)[0]["data"]), &got); err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		if err := json.Unmarshal([]byte("{"+want+"}"), &members); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(members, got.Data); d != "" {
			t.Error(d)
		}
	}
}

func TestALineEndInAFieldIsRefused(t *testing.T) {
	for _, bad := range []string{"\n", "\r", "\x00"} {
		for _, f := range [][3]string{{bad, "e", "d"}, {"i", bad, "d"}, {"i", "e", bad}} {
			if _, err := sse.Append(nil, 0, f[0], f[1], []byte(f[2])); err == nil {
				t.Errorf("%q passed", f)
			}
		}
	}
}
