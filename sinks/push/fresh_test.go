package push

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// watch is the hub's own judging, once a second, without a broker to read.
func watch(t *testing.T, h *Hub, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		sleep(t.Context(), time.Second)
		h.judge(time.Now())
	}
}

func TestAReplicaThatFallsBehindIsNotReadyUntilItHasCaughtUpForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		p := h.parts[0]
		if err := h.Ready(); err != nil {
			t.Fatal(err)
		}
		p.advance(20, time.Now()) // the sink has read what the tail has not
		watch(t, h, 9*time.Second)
		if err := h.Ready(); err != nil {
			t.Errorf("a short blip made it unready: %v", err)
		}
		watch(t, h, 2*time.Second)
		if err := h.Ready(); !errors.Is(err, errBehind) {
			t.Errorf("behind for 11 seconds: %v", err)
		}
		p.add(nil, 20, 20, time.Now())
		watch(t, h, 2*time.Second)
		if err := h.Ready(); !errors.Is(err, errBehind) {
			t.Error("it was believed at once")
		}
		watch(t, h, 3*time.Second)
		if err := h.Ready(); err != nil {
			t.Errorf("caught up for 5 seconds: %v", err)
		}
	})
}

func TestAReplicaThatComesAndGoesStaysUnready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		p, at := h.parts[0], int64(20)
		p.advance(at, time.Now())
		watch(t, h, 11*time.Second)
		for range 10 { // up for two seconds, behind for two
			p.add(nil, at, at, time.Now())
			watch(t, h, 2*time.Second)
			at += 10
			p.advance(at, time.Now())
			watch(t, h, 2*time.Second)
			if h.Ready() == nil {
				t.Fatal("its readiness flaps")
			}
		}
	})
}

func TestATailCloseBehindABusyLogIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		p := h.parts[0]
		for pos := int64(10); pos < 5000; pos += 50 { // always some offsets short, and never for long
			p.add(nil, pos, pos+50, time.Now())
			p.advance(pos+50, time.Now())
			watch(t, h, time.Second)
		}
		if l := h.late(); h.Ready() != nil || l.offsets != 50 || l.tail > time.Second {
			t.Errorf("%v, %+v", h.Ready(), l)
		}
	})
}

func TestManyOffsetsBehindIsNotReadyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		h.parts[0].advance(8+tooMany, time.Now())
		h.judge(time.Now())
		if err := h.Ready(); !errors.Is(err, errBehind) {
			t.Errorf("got %v", err)
		}
		h.parts[0].add(nil, 8+tooMany-fewAgain, 8+tooMany+1, time.Now()) // still too many to be believed
		watch(t, h, 5*time.Second)
		if h.Ready() == nil {
			t.Error("it is believed too early")
		}
	})
}

// It is the sink that is late then, and clients see all that they may.
func TestATailThatWaitsForTheSinkIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		p := h.parts[0]
		p.attach(func(bool) {})
		big := &entry{frame: frame{make([]byte, h.opts.RingBytes+1), 8}, host: "host", at: time.Now()}
		p.add([]*entry{big}, 8, 500_000, time.Now())
		watch(t, h, time.Minute)
		if err := h.Ready(); err != nil {
			t.Errorf("got %v", err)
		}
		if l := h.late(); l.tail != 0 || l.due != 0 || l.sink < time.Minute {
			t.Errorf("got %+v", l)
		}
		p.add(nil, 9, 500, time.Now())
		p.advance(9, time.Now()) // it may go on, and has not been late until now
		watch(t, h, 2*time.Second)
		if l := h.late(); h.Ready() != nil || l.tail > 2*time.Second {
			t.Errorf("%v, %+v", h.Ready(), l)
		}
	})
}

// Nobody can reach the brokers and nothing is written: bookings go on.
func TestBrokersThatAreAwayMakeNoReplicaUnready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		watch(t, h, time.Hour)
		if err := h.Ready(); err != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestHeartbeatsSayHowLateTheStreamIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		p := &page{header: http.Header{}}
		done := serve(t.Context(), h, p, time.Now().Add(time.Minute))
		sleep(t.Context(), 6*time.Second)
		synctest.Wait()
		if p.count(`"lag_ms":0,"behind":false`) == 0 || p.count(`"behind":true`) != 0 || p.count(`"heartbeat_ms":5000`) != 1 {
			t.Errorf("got %s", p.body.String())
		}
		h.parts[0].advance(20, time.Now())
		sleep(t.Context(), 10*time.Second)
		synctest.Wait()
		if p.count(`"behind":true`) == 0 || p.count(`"lag_ms":0,"behind":true`) != 0 {
			t.Errorf("got %s", p.body.String())
		}
		if n, lag := h.Of("host"); n != 1 || lag != 10*time.Second {
			t.Errorf("the host has %d streams, %v late", n, lag)
		}
		if s := h.State(); s.Connections != 1 || s.Hosts != 1 || s.TailLag != 10*time.Second || s.LagOffsets != 13 || !s.Ready || s.Frames == 0 {
			t.Errorf("got %+v", s)
		}
		<-done
		if s := h.State(); s.Connections != 0 || s.Hosts != 0 || s.Disconnects["token_expired"] != 1 || len(s.Disconnects) != len(codes) || len(s.Resumes) != len(results) {
			t.Errorf("got %+v", s)
		}
	})
}

func TestAStreamThatCannotBeLetInNowIsRefusedSoftly(t *testing.T) {
	h := settled(t, nil)
	p := &page{header: http.Header{}}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	r.Header.Set("Last-Event-ID", h.parts[0].at(5).String())
	h.Refuse(p, r, "host", "not now")
	if p.header.Get("Content-Type") != "text/event-stream" || p.count("retry: ") != 1 || p.count(`"code":"overloaded","reason":"not now"`) != 1 ||
		p.count("id: "+h.parts[0].at(5).String()) != 1 {
		t.Errorf("got %s", p.body.String())
	}
}
