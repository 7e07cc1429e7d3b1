package push_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/embedded"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/push"
)

func TestABrokerThatGoesAndComesBackLosesNobody(t *testing.T) {
	dir := t.TempDir()
	k, err := embedded.StartKafka(t.Context(), embedded.KafkaOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	addr := k.Addrs()[0]
	w := newWorldOn(t, []string{addr})
	r := w.start(nil, nil)
	c := r.dial(t, host, "", "")
	c.want("connected")
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c.want("heartbeat")
	}
	r.dial(t, host, c.last, "").want("connected") // what is in memory needs no broker
	if k, err = embedded.StartKafka(t.Context(), embedded.KafkaOptions{Dir: dir, Addr: addr}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	ids := w.notify(host, 3, 10)
	w.flow(r)
	c.wantIDs(ids)
}

func TestALostNotificationOfTheSinkIsCoveredByThePoll(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	c := r.dial(t, host, "", "")
	c.want("connected")
	ids := w.notify(host, 1, 10)
	w.commit() // and nobody wakes the hub
	c.wantIDs(ids)
}

func TestAbortedRecordsAreHolesAndNotEnds(t *testing.T) {
	w := newWorld(t)
	start := w.cursor(host)
	ids := w.notify(host, 2, 10)
	w.transact(kgo.TryAbort, w.record(host, "ntf_aborted", "m"))
	w.commit()
	r := w.start(nil, nil) // it begins behind an abort marker, and is ready
	c := r.dial(t, host, start, "")
	c.want("connected")
	c.wantIDs(ids)
	w.transact(kgo.TryAbort, w.record(host, "ntf_aborted", "m"))
	ids = w.notify(host, 1, 10)
	w.flow(r)
	c.wantIDs(ids)
}

func TestAHubWhoseSinkIsFarBehindHoldsAndDropsNothing(t *testing.T) {
	w := newWorld(t)
	start := w.cursor(host)
	var ids []string
	for range 20 {
		ids = append(ids, w.notify(host, 50, 500)...)
	}
	r := w.start(func(o *push.Options) { o.RingBytes = 20_000 }, nil)
	c := r.dial(t, host, start, "")
	c.want("connected")
	p := w.feed.Partition(host)
	ends, err := w.adm.ListCommittedOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, p)
	for at := int64(0); at < end.Offset; at += 100 { // the sink catches up in steps
		w.mu.Lock()
		w.sink[p] = min(at+100, end.Offset)
		w.mu.Unlock()
		r.hub.Wake()
		n := 0
		for n < len(ids) && w.cursorOf(c.last).Next < at+90 {
			c.wantIDs(ids[n : n+1])
			n++
		}
		ids = ids[n:]
	}
	c.wantIDs(ids)
}

func TestATopicThatWasCreatedAnewEndsTheHub(t *testing.T) {
	w := newWorld(t)
	o := push.Options{Kafka: w.conf, Released: w.released, Feed: schemas.Feed{TopicID: "another", Partitions: 3}, Logger: w.conf.Logger}
	h, err := push.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Run(t.Context()); err == nil {
		t.Error("the hub gave out cursors of a topic that is gone")
	}
}

func TestTheStreamOverHTTP2(t *testing.T) {
	w := newWorld(t)
	r := w.start(nil, nil)
	srv := httptest.NewUnstartedServer(r.srv.Config.Handler)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/?host="+string(host), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Fatalf("got %s", resp.Proto)
	}
	c := &client{t: t, resp: resp, r: bufio.NewReader(resp.Body), quit: cancel}
	c.want("connected")
	ids := w.notify(host, 3, 10)
	w.flow(r)
	c.wantIDs(ids)
	go r.stop()
	if e := c.want("disconnect"); e.data["code"] != "drain" {
		t.Errorf("got %q", e.raw)
	}
	c.wantEOF()
}

func TestAHubThatHasStoppedLeavesNoGoroutine(t *testing.T) {
	w := newWorld(t)
	r := w.start(func(o *push.Options) { o.RingBytes = 500 }, nil)
	at := w.cursor(host)
	ids := w.notify(host, 5, 10)
	w.flow(r)
	c := r.dial(t, host, at, "")
	c.want("connected")
	c.wantIDs(ids)
	r.dial(t, host, at, "").want("connected") // from Kafka
	r.stop()
	testenv.Eventually(t, "what the hub started has ended", func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "krib/sinks/push.")
	})
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	w := newWorldOptions()
	for name, change := range map[string]func(*push.Options){
		"no sink":       func(o *push.Options) { o.Released = nil },
		"no partitions": func(o *push.Options) { o.Feed.Partitions = 0 },
		"no logger":     func(o *push.Options) { o.Logger = nil },
		"negative":      func(o *push.Options) { o.Heartbeat = -1 },
	} {
		o := w
		change(&o)
		if _, err := push.New(o); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

func newWorldOptions() push.Options {
	w := &world{}
	return push.Options{Kafka: kafka.Config{}, Released: w.released, Feed: schemas.Feed{TopicID: "t", Partitions: 3}, Logger: testLog}
}
