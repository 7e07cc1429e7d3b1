package push

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/krib-ai/krib/schemas"
)

func TestTheBitsOfKindsAreTheirPlaces(t *testing.T) {
	if bit(schemas.FeedKinds(), schemas.FeedNotification) != bitNotification || bit(schemas.FeedKinds(), schemas.FeedBooking) != bitBooking {
		t.Error("the order of the kinds has changed under the bits")
	}
	if len(schemas.FeedKinds()) > 8 || len(schemas.NotificationTypes()) > 8 {
		t.Error("there are more kinds or types than bits")
	}
}

// sample is one record of each kind, and of each type and priority.
func sample() []*schemas.FeedRecord {
	at := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	n := func(typ schemas.NotificationType, p schemas.Priority, property string) *schemas.FeedRecord {
		return &schemas.FeedRecord{Kind: schemas.FeedNotification, HostID: "host", At: at, Notification: &schemas.Notification{
			ID: schemas.NotificationID(string(typ) + " " + string(p) + " " + property), Type: typ, Priority: p, PropertyID: property,
		}}
	}
	booking := func(property schemas.PropertyID) *schemas.BookingUpdate {
		return &schemas.BookingUpdate{PropertyID: property, CheckIn: "2026-04-10", CheckOut: "2026-04-12"}
	}
	return []*schemas.FeedRecord{
		n(schemas.Urgent, schemas.High, "p1"), n(schemas.NewBooking, schemas.Medium, "p2"), n(schemas.GuestMessage, schemas.Low, ""),
		n("of tomorrow", "shrill", "p1"),
		{Kind: schemas.FeedUpdate, HostID: "host", At: at, Update: &schemas.NotificationUpdate{NotificationID: "n"}},
		{Kind: schemas.FeedBooking, HostID: "host", At: at, Booking: booking("p1")},
		{Kind: schemas.FeedBooking, HostID: "host", At: at, Booking: booking("p2")},
		{Kind: schemas.FeedAnnouncement, At: at, Announcement: []byte(`{}`)},
		{Kind: schemas.FeedCustom, HostID: "host", At: at, Custom: []byte(`{}`)},
	}
}

func TestAFilterLetsThroughWhatItNames(t *testing.T) {
	types := func(ts ...schemas.NotificationType) []schemas.NotificationType { return ts }
	kinds := func(ks ...schemas.FeedKind) []schemas.FeedKind { return ks }
	for _, c := range []struct {
		name string
		f    schemas.FeedFilter
		want string // of sample: x passes
	}{
		{"none", schemas.FeedFilter{}, "xxxxxxxxx"},
		{"one kind", schemas.FeedFilter{Kinds: kinds(schemas.FeedBooking)}, ".....xx.."},
		{"kinds", schemas.FeedFilter{Kinds: kinds(schemas.FeedUpdate, schemas.FeedCustom, schemas.FeedAnnouncement)}, "....x..xx"},
		{"a type", schemas.FeedFilter{Types: types(schemas.Urgent)}, "x...xxxxx"},
		{"types", schemas.FeedFilter{Types: types(schemas.NewBooking, schemas.GuestMessage)}, ".xx.xxxxx"},
		{"high", schemas.FeedFilter{MinPriority: schemas.High}, "x...xxxxx"},
		{"medium", schemas.FeedFilter{MinPriority: schemas.Medium}, "xx..xxxxx"},
		{"low is everything", schemas.FeedFilter{MinPriority: schemas.Low}, "xxxxxxxxx"},
		{"a property", schemas.FeedFilter{Property: "p1"}, "x..xxx.xx"},
		{"all of them", schemas.FeedFilter{
			Kinds: kinds(schemas.FeedNotification, schemas.FeedBooking), Types: types(schemas.Urgent), MinPriority: schemas.High, Property: "p1",
		}, "x....x..."},
	} {
		f := compile(c.f)
		var got strings.Builder
		for _, rec := range sample() {
			if l := labelOf(rec); f.lets(&l) {
				got.WriteByte('x')
			} else {
				got.WriteByte('.')
			}
		}
		if got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.String(), c.want)
		}
	}
}

// What is left out moves the position: a filtered client does not fall out of the
// topic's retention, and its resume begins where it should.
func TestWhatAFilterLeavesOutMovesThePosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		p := &page{header: http.Header{}}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header.Set("Last-Event-ID", h.parts[0].at(7).String())
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.Serve(p, r, "host", time.Now().Add(20*time.Second), schemas.FeedFilter{Kinds: []schemas.FeedKind{schemas.FeedBooking}})
		}()
		synctest.Wait()
		var es []*entry
		for i, rec := range sample() {
			b, err := schemas.Encode(rec)
			if err != nil {
				t.Fatal(err)
			}
			e, err := encode(h.parts[0].place, int64(7+i), b)
			if err != nil {
				t.Fatal(err)
			}
			es = append(es, e)
		}
		next := int64(7 + len(es))
		h.parts[0].add(es, next, next, time.Now())
		h.parts[0].advance(next, time.Now())
		sleep(t.Context(), 6*time.Second)
		synctest.Wait()
		if p.count("event: booking_update") != 2 || p.count("event: notification") != 0 || p.count("event: custom") != 0 {
			t.Errorf("got %s", p.body.String())
		}
		if p.count("id: "+h.parts[0].at(next).String()+"\nevent: heartbeat") == 0 {
			t.Errorf("the position stands still: %s", p.body.String())
		}
		<-done

		late := &page{header: http.Header{}} // the same from memory
		r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header.Set("Last-Event-ID", h.parts[0].at(7).String())
		h.Serve(late, r, "host", time.Now().Add(time.Second), schemas.FeedFilter{MinPriority: schemas.High, Kinds: []schemas.FeedKind{schemas.FeedNotification}})
		if late.count("event: notification\n") != 1 || late.count(`"missed":1`) != 1 || late.count("event: booking_update") != 0 {
			t.Errorf("a resume through a filter got %s", late.body.String())
		}
	})
}

func TestACustomEventCannotPassForAnother(t *testing.T) {
	rec := schemas.FeedRecord{
		Kind: schemas.FeedCustom, HostID: "host", EventID: "evt_1", At: time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC),
		Custom: []byte("{\n\"type\": \"notification\", \"host_id\": \"another\", \"source\": \"broadcast\", \"timestamp\": 1, \"event_id\": 2, \"door\": 4}"),
	}
	b, err := schemas.Encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	e, err := encode(place{"0123456789", 2}, 41, b)
	if err != nil {
		t.Fatal(err)
	}
	want := "id: 0123456789-2-42\nevent: custom\n" +
		`data: {"door":4,"event_id":"evt_1","host_id":"host","source":"manual","timestamp":"2026-03-01T09:30:00.000000Z","type":"custom"}` + "\n\n"
	if string(e.bytes) != want || e.host != "host" {
		t.Errorf("got  %q for %s\nwant %q", e.bytes, e.host, want)
	}
	rec.HostID = ""
	if b, err = schemas.Encode(rec); err != nil {
		t.Fatal(err)
	}
	if e, err := encode(place{"0123456789", 2}, 41, b); err == nil {
		t.Errorf("a custom event of no host became %q for everybody", e.bytes)
	}
}
