package push_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/push"
)

const host = schemas.HostID("host_a")

func TestAFrameIsNotSentBeforeTheSinkHasCommittedItsRow(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	c := r.dial(t, host, "", "")
	start := c.want("connected").id
	ids := w.notify(host, 1, 10)
	for held := false; !held; { // want fails on the frame
		e := c.want("heartbeat")
		if e.id != start {
			t.Fatalf("heartbeat %s passed a record that is not released; the stream began at %s", e.id, start)
		}
		held = e.data["lag_ms"].(float64) > 0
	}
	w.flow(r)
	c.wantIDs(ids)
}

func TestStateThenStreamHasNoGapAndNothingTwice(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	w.notify(host, 3, 10)
	w.commit() // the hub is not woken: it hears of it later than the client
	state := w.cursor(host)
	c := r.dial(t, host, state, "")
	if e := c.want("connected"); e.id != state || e.data["recovered"] != true {
		t.Errorf("got %q, want the state's cursor %s, recovered", e.raw, state)
	}
	ids := w.notify(host, 2, 10)
	w.flow(r)
	c.wantIDs(ids)
}

func TestAConnectionWithoutACursorStartsAtTheHead(t *testing.T) {
	w := newWorld(t)
	w.notify(host, 2, 10)
	w.commit()
	r := w.start(nil, nil)
	c := r.dial(t, host, "", "")
	e := c.want("connected")
	if e.id != w.cursor(host) || e.data["cursor"] != e.id || e.data["head"] != e.id || e.data["recovered"] != false {
		t.Errorf("got %q, want the head %s", e.raw, w.cursor(host))
	}
	if n, err := strconv.Atoi(e.retry); err != nil || n < 2000 || n > 6001 {
		t.Errorf("retry is %q", e.retry)
	}
	if got := c.resp.Header; got.Get("Content-Type") != "text/event-stream" || got.Get("Cache-Control") != "no-store, no-transform" || got.Get("X-Accel-Buffering") != "no" {
		t.Errorf("headers are %v", got)
	}
	ids := w.notify(host, 1, 10)
	w.flow(r)
	c.wantIDs(ids)
}

func TestResumeFromMemory(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	at := w.cursor(host)
	ids := w.notify(host, 5, 10)
	w.flow(r)
	r.dial(t, host, at, "").want("connected") // waits for nothing
	c := r.dial(t, host, at, "")
	c.want("connected")
	c.wantIDs(ids[:2])
	again := r.dial(t, host, c.last, "")
	if e := again.want("connected"); e.data["recovered"] != true || e.id != c.last {
		t.Errorf("got %q, want a resume at %s", e.raw, c.last)
	}
	again.wantIDs(ids[2:])
	for _, q := range []struct{ header, query string }{
		{"", "&last_event_id=" + c.last},
		{"", "&lastEventId=" + c.last},
		{"", "&last_event_id=" + at + "&lastEventId=" + c.last},
		{"", "&lastEventId=" + c.last + "&last_event_id=" + at},
		{"", "&lastEventId=" + at + "&lastEventId=" + c.last},
		{"", "&last_event_id=" + at + "&last_event_id=" + c.last},
		{"", "&lastEventId=&last_event_id=" + c.last},
		{c.last, "&lastEventId=" + at},
		{c.last, "&last_event_id=nonsense"},
	} {
		query := r.dial(t, host, q.header, q.query)
		query.want("connected")
		query.wantIDs(ids[2:])
	}
	wrong := r.dial(t, host, "", "&lastEventId=nonsense&last_event_id="+c.last)
	wrong.want("connected")
	if e := wrong.want("resync"); e.data["reason"] != "invalid" {
		t.Errorf("a newest position that is no cursor: %q", e.raw)
	}
}

func TestResumeFromKafka(t *testing.T) {
	w := newWorld(t)
	small := func(o *push.Options) { o.RingBytes = 2000 }
	r := w.start(small, nil)
	at := w.cursor(host)
	ids := w.notify(host, 40, 10)
	other := w.notify(host, 10, 10)
	ids = append(ids, other...)
	w.flow(r)
	live := r.dial(t, host, at, "")
	live.want("connected")
	live.wantIDs(ids)

	c := r.dial(t, host, at, "")
	if e := c.want("connected"); e.data["missed"] != float64(50) || e.data["recovered"] != true {
		t.Errorf("got %q, want 50 missed", e.raw)
	}
	c.wantIDs(ids)
	if r.metric(t, "krib_push_resumes_total", "kafka") == 0 {
		t.Error("nothing was read from Kafka")
	}
	more := w.notify(host, 1, 10)
	w.flow(r)
	c.wantIDs(more)
}

func TestResumeOnAnotherReplica(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	at := w.cursor(host)
	ids := w.notify(host, 5, 10)
	w.flow(r)
	c := r.dial(t, host, at, "")
	c.want("connected")
	c.wantIDs(ids[:3])
	at = c.last
	r.stop()
	ids = append(ids, w.notify(host, 2, 10)...)
	w.commit()
	c = w.start(nil, nil).dial(t, host, at, "")
	c.want("connected")
	c.wantIDs(ids[3:])
}

func TestACursorThatCannotBeResumedGetsAResyncAndTheStream(t *testing.T) {
	w := newWorld(t)
	w.notify(host, 10, 10)
	w.commit()
	r := w.start(func(o *push.Options) { o.CatchUp = 9 }, nil)
	p := w.feed.Partition(host)
	for reason, at := range map[string]string{
		"epoch":     "0123456789-" + strconv.Itoa(int(p)) + "-3",
		"partition": w.feed.At((p+1)%3, 0).String(),
		"invalid":   "no cursor",
		"too_far":   w.feed.At(p, 0).String(),
	} {
		wantResync(t, w, r, at, reason)
	}
	wantResync(t, w, r, w.feed.At(p, 1_000_000).String(), "invalid") // nobody gave it

	if _, err := w.adm.DeleteRecords(t.Context(), w.offsets(p, 5)); err != nil {
		t.Fatal(err)
	}
	wantResync(t, w, r, w.feed.At(p, 2).String(), "retention")
	c := r.dial(t, host, w.feed.At(p, 5).String(), "")
	if e := c.want("connected"); e.data["recovered"] != true {
		t.Errorf("got %q for the first position that the log has", e.raw)
	}
}

func wantResync(t *testing.T, w *world, r *replica, at, reason string) {
	t.Helper()
	c := r.dial(t, host, at, "")
	head := w.cursor(host)
	e := c.want("connected")
	if e.id == head || e.data["recovered"] != false || e.data["head"] != head {
		t.Errorf("connected after %q is %q; its id must not be the head", at, e.raw)
	}
	if e.id != at && reason != "invalid" {
		t.Errorf("connected has id %s, want the cursor asked for, %s", e.id, at)
	}
	e = c.want("resync")
	if e.data["reason"] != reason || e.data["cursor"] != head || e.id != head {
		t.Errorf("resync after %q is %q, want %s at %s", at, e.raw, reason, head)
	}
	ids := w.notify(host, 1, 10)
	w.flow(r)
	c.wantIDs(ids)
}

func TestAHeartbeatStandsBehindEveryFrameBelowIt(t *testing.T) {
	w := newWorld(t)
	r := w.start(func(o *push.Options) { o.Heartbeat = time.Millisecond }, nil)
	c := r.dial(t, host, w.cursor(host), "")
	c.want("connected")
	go func() {
		for range 50 {
			w.notify(host, 4, 10)
			w.flow(r)
		}
	}()
	at := int64(0)
	for frames, beats := 0, 0; frames < 200 || beats == 0; {
		e, ok := c.next()
		if !ok {
			t.Fatal(c.err)
		}
		next := e.cursor(t).Next
		if e.name == "heartbeat" {
			beats++
			if next < at {
				t.Fatalf("heartbeat at %d after %d", next, at)
			}
		} else {
			frames++
			if next <= at {
				t.Fatalf("frame %d after position %d was given", next-1, at)
			}
		}
		at = next
	}
}

func TestRecordsOfOthersAdvanceAQuietHost(t *testing.T) {
	w := newWorld(t)
	hosts := w.neighbours(2)
	r := w.start(nil, nil)
	c := r.dial(t, hosts[0], "", "")
	c.want("connected")
	w.notify(hosts[1], 7, 10)
	w.flow(r)
	for c.want("heartbeat").id != w.cursor(hosts[0]) {
		continue
	}
}

func TestAnAnnouncementReachesEveryHostOnOneLine(t *testing.T) {
	w := newWorld(t)
	hosts := w.neighbours(3)
	r := w.start(nil, nil)
	var cs []*client
	for _, h := range hosts {
		cs = append(cs, r.dial(t, h, w.cursor(h), ""))
		cs[len(cs)-1].want("connected")
	}
	rec := schemas.FeedRecord{
		Kind: schemas.FeedAnnouncement, At: time.Now(),
		Announcement: []byte("{\r\n \"title\": \"a\\nb\",\n\t\"type\": \"notification\",\n \"links\": [1,\n2]}"),
	}
	kr, err := kafka.Encode(topic, "", rec.Meta(), rec)
	if err != nil {
		t.Fatal(err)
	}
	w.send(kafka.ToPartition(kr, 0))
	w.flow(r)
	for _, c := range cs {
		e := c.want("system_announcement")
		if e.data["type"] != "system_announcement" || e.data["title"] != "a\nb" || e.data["timestamp"] == nil || len(e.data["links"].([]any)) != 2 {
			t.Errorf("got %q", e.raw)
		}
	}
}

func TestARecordThatCannotBeDecodedIsPassed(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	c := r.dial(t, host, w.cursor(host), "")
	c.want("connected")
	w.send(&kgo.Record{Topic: topic, Key: []byte(host), Value: []byte("no json")})
	w.send(&kgo.Record{Topic: topic, Key: []byte(host), Value: []byte(`{"kind":"of tomorrow","host_id":"host_a"}`)})
	ids := w.notify(host, 1, 10)
	w.flow(r)
	c.wantIDs(ids)
	if got := r.metric(t, "krib_push_undecodable_records_total", ""); got != 2 {
		t.Errorf("%v records were counted as undecodable, want 2", got)
	}
}

func TestASlowReaderIsLetGoAndResumesWithNothingLost(t *testing.T) {
	w := newWorld(t)
	hosts := w.neighbours(2)
	r := w.start(func(o *push.Options) { o.QueueBytes = 16 << 10 }, nil)
	at := w.cursor(hosts[0])
	slow, fast := r.dial(t, hosts[0], at, ""), r.dial(t, hosts[1], at, "")
	slow.want("connected")
	fast.want("connected")
	var ids []string
	for range 8 {
		ids = append(ids, w.notify(hosts[0], 50, 4000)...)
	}
	mark := w.notify(hosts[1], 1, 10)
	w.flow(r)
	fast.wantIDs(mark) // by now every frame was offered to the slow one

	var got []string
	for reconnects := 0; len(got) < len(ids); reconnects++ {
		for e, ok := slow.next(); ok; e, ok = slow.next() {
			if e.name == "notification" {
				got = append(got, e.ntf())
			}
			if e.name == "disconnect" && e.data["code"] != "slow_consumer" {
				t.Errorf("got %q", e.raw)
			}
			if len(got) == len(ids) {
				break
			}
		}
		if reconnects > 100 {
			t.Fatalf("after %d connections %d of %d", reconnects, len(got), len(ids))
		}
		slow = r.dial(t, hosts[0], slow.last, "")
	}
	if !slices.Equal(got, ids) {
		t.Errorf("got %d notifications, not the %d that were sent, each once and in order", len(got), len(ids))
	}
	if r.metric(t, "krib_push_disconnects_total", "slow_consumer") == 0 {
		t.Error("the slow reader was never let go")
	}
}

func TestOverTheBoundsAClientIsAskedToComeBackAndNotRefused(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*push.Options){
		"connections": func(o *push.Options) { o.MaxConnections = 1 },
		"host":        func(o *push.Options) { o.MaxPerHost = 1 },
		"address":     func(o *push.Options) { o.MaxPerAddress = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := w.start(change, nil)
			first := r.dial(t, host, "", "")
			at := first.want("connected").id
			c := r.dial(t, host, at, "")
			e := c.want("disconnect")
			if n, err := strconv.Atoi(e.retry); err != nil || n < 15000 || n > 30001 || e.data["code"] != "overloaded" || e.data["terminal"] != false || e.id != at {
				t.Errorf("got %q", e.raw)
			}
			c.wantEOF()
			if c.resp.StatusCode != http.StatusOK {
				t.Errorf("status is %d", c.resp.StatusCode)
			}
			first.quit()
			testenv.Eventually(t, "the slot of a client that has left is free", func() bool {
				c := r.dial(t, host, "", "")
				defer c.quit()
				e, _ := c.next()
				return e.name == "connected"
			})
		})
	}
}

func TestDrainEndsEveryStreamCleanlyAfterWhatIsQueued(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	var cs []*client
	for range 5 {
		cs = append(cs, r.dial(t, host, w.cursor(host), ""))
		cs[len(cs)-1].want("connected")
	}
	ids := w.notify(host, 3, 10)
	w.flow(r)
	cs[0].wantIDs(ids)
	go r.stop()
	for i, c := range cs {
		if i > 0 {
			c.wantIDs(ids)
		}
		before := c.last
		e := c.want("disconnect")
		if e.data["code"] != "drain" || e.data["terminal"] != false || e.id != c.last || e.cursor(t).Next < w.cursorOf(before).Next {
			t.Errorf("got %q after %s", e.raw, before)
		}
		c.wantEOF()
	}
	r.stop()
	if r.hub.Ready() == nil {
		t.Error("a hub that has drained is ready")
	}
}

// A client that takes nothing keeps nobody from stopping: the server does not know of
// its connection, and it is cut off.
func TestDrainCutsOffWhoTakesNothing(t *testing.T) {
	w := newWorld(t)
	r := w.start(func(o *push.Options) { o.QueueBytes = 64 << 20 }, nil)
	conn, err := net.Dial("tcp", r.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /?host=%s HTTP/1.1\r\nHost: krib\r\n\r\n", host); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "it is there", func() bool { return r.metric(t, "krib_push_connections", "") == 1 })
	for range 16 { // more than the buffers on the way hold
		w.notify(host, 1, 900_000)
	}
	w.flow(r)
	testenv.Eventually(t, "a write waits for it", func() bool { return r.metric(t, "krib_push_queue_bytes", "") > 1<<20 })
	r.stop()
	testenv.Eventually(t, "it is gone", func() bool { return r.metric(t, "krib_push_connections", "") == 0 })
	if n := r.metric(t, "krib_push_disconnects_total", "gone"); n != 1 {
		t.Errorf("%v ended as gone, want the one that was cut off: by itself its write would have stalled", n)
	}
}

// What recovers the panics of requests is not there for a stream that took its
// connection over.
func TestAStreamThatPanicsIsLoggedAndEndsAlone(t *testing.T) {
	w := newWorld(t)
	var log testenv.Output
	r := w.start(func(o *push.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) },
		func(rw http.ResponseWriter, req *http.Request) http.ResponseWriter {
			if req.URL.Query().Get("panics") != "" {
				return panics{rw}
			}
			return rw
		})
	if e, ok := r.dial(t, host, w.cursor(host), "&panics=1").next(); ok {
		t.Errorf("got %q", e.raw)
	}
	testenv.Eventually(t, "it is logged", func() bool {
		return strings.Contains(log.String(), "a stream panicked") && strings.Contains(log.String(), "hub_test.go")
	})
	c := r.dial(t, host, w.cursor(host), "")
	c.want("connected")
	ids := w.notify(host, 1, 10)
	w.flow(r)
	c.wantIDs(ids)
}

// panics is a connection whose second write does, the one behind the head.
type panics struct{ http.ResponseWriter }

func (p panics) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, b, err := http.NewResponseController(p.ResponseWriter).Hijack()
	return &panicsConn{Conn: conn}, b, err
}

type panicsConn struct {
	net.Conn
	writes int
}

func (c *panicsConn) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 2 {
		panic("as a bug does")
	}
	return c.Conn.Write(b)
}

func TestTheStreamEndsBeforeItsCredentials(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	c := r.dial(t, host, "", "&for=200ms")
	c.want("connected")
	if e := c.want("disconnect"); e.data["code"] != "token_expired" || e.data["terminal"] != false {
		t.Errorf("got %q", e.raw)
	}
	c.wantEOF()
}

func TestHeadAnswersTheHeadersOnly(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	resp, err := r.srv.Client().Head(r.srv.URL + "/?host=" + string(host))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
}

func TestALogThatLosesThePositionTellsEverybodyAndGoesOn(t *testing.T) {
	w := newWorld(t)
	r := w.start(func(o *push.Options) { o.RingBytes = 500 }, nil)
	c := r.dial(t, host, "", "")
	c.want("connected")
	w.notify(host, 5, 500) // more than may be held: the partition pauses
	for c.want("heartbeat").data["lag_ms"].(float64) == 0 {
		continue
	}
	w.notify(host, 5, 500)
	ends, err := w.adm.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.adm.DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	w.flow(r)
	for {
		e, ok := c.next()
		if !ok {
			t.Fatal(c.err)
		}
		if e.name == "resync" {
			if e.data["reason"] != "retention" || e.id != w.cursor(host) {
				t.Errorf("got %q", e.raw)
			}
			break
		}
	}
	ids := w.notify(host, 1, 10)
	w.flow(r)
	c.wantIDs(ids)
}

func TestIDsOfEveryFrameNeedNoPreflight(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	c := r.dial(t, host, "<script>", "")
	for range 4 {
		e, ok := c.next()
		if !ok {
			t.Fatal(c.err)
		}
		if e.id == "" || len(e.id) > 128 || strings.Trim(e.id, "0123456789abcdef-") != "" {
			t.Errorf("the id of %q", e.raw)
		}
	}
}
