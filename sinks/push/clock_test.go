package push

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/krib-ai/krib/schemas"
)

var discard = slog.New(slog.DiscardHandler)

// settled is a hub whose positions are known and which reads nothing: the clock
// of a bubble stands still while a goroutine waits for a real broker.
func settled(t *testing.T, change func(*Options)) *Hub {
	t.Helper()
	o := Options{
		Feed: schemas.Feed{TopicID: "t", Partitions: 1}, Logger: discard,
		Released: func(context.Context) (map[int32]int64, error) { return map[int32]int64{0: 7}, nil },
	}
	if change != nil {
		change(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.parts[0].begin(7, 7, 7, time.Now())
	close(h.started)
	return h
}

// page is an answer that can be looked at while it is written.
type page struct {
	header http.Header
	mu     sync.Mutex
	body   strings.Builder
	block  chan struct{} // writes wait for it, when it is not nil
}

func (p *page) Header() http.Header { return p.header }
func (p *page) WriteHeader(int)     {}
func (p *page) Flush()              {}
func (p *page) Write(b []byte) (int, error) {
	if p.block != nil {
		<-p.block
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.body.Write(b)
}

func (p *page) count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.body.String(), what)
}

func serve(ctx context.Context, h *Hub, p *page, until time.Time) <-chan struct{} {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Serve(p, r, "host", until)
	}()
	return done
}

func TestHeartbeatsKeepTheirRhythm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		ctx, leave := context.WithCancel(t.Context())
		p := &page{header: http.Header{}}
		done := serve(ctx, h, p, time.Time{})
		if !sleep(ctx, 5*time.Second+10*time.Millisecond) {
			t.Fatal("ended")
		}
		synctest.Wait()
		if got := p.count("event: heartbeat"); got != 1 && got != 2 { // the first comes within one interval
			t.Errorf("%d heartbeats after one interval", got)
		}
		before := p.count("event: heartbeat")
		sleep(ctx, 50*time.Second)
		synctest.Wait()
		if got := p.count("event: heartbeat") - before; got != 10 {
			t.Errorf("%d heartbeats in ten intervals", got)
		}
		leave()
		<-done
		if h.open() != 0 || h.queued.Load() != 0 {
			t.Errorf("%d slots and %d bytes are left", h.open(), h.queued.Load())
		}
	})
}

func TestTheStreamEndsALittleBeforeItsCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, life := range []time.Duration{0, time.Second, time.Minute, time.Hour} {
			h := settled(t, nil)
			p := &page{header: http.Header{}}
			start := time.Now()
			<-serve(t.Context(), h, p, start.Add(life))
			took := time.Since(start)
			if took > life || took < life-min(life/10, 5*time.Second) || p.count(`"code":"token_expired"`) != 1 {
				t.Errorf("credentials of %v ended the stream after %v: %s", life, took, p.body.String())
			}
		}
	})
}

func TestDrainSpreadsTheGoodbyes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, func(o *Options) { o.Drain = 3 * time.Second })
		start := time.Now()
		var ends []<-chan struct{}
		for range 30 {
			ends = append(ends, serve(t.Context(), h, &page{header: http.Header{}}, time.Time{}))
		}
		synctest.Wait()
		go h.drain()
		for _, end := range ends {
			<-end
		}
		took := time.Since(start)
		if took < 2*time.Second || took > 3*time.Second {
			t.Errorf("thirty connections were gone after %v", took)
		}
		p := &page{header: http.Header{}}
		<-serve(t.Context(), h, p, time.Time{})
		if p.count(`"code":"drain"`) != 1 || p.count("event: connected") != 0 {
			t.Errorf("who came late got %s", p.body.String())
		}
		synctest.Wait()
	})
}

func TestDrainDoesNotWaitForWhoDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		stuck := &page{header: http.Header{}, block: make(chan struct{})}
		done := serve(t.Context(), h, stuck, time.Time{})
		synctest.Wait()
		start := time.Now()
		h.drain()
		if got := time.Since(start); got > 6*time.Second {
			t.Errorf("drain took %v", got)
		}
		close(stuck.block)
		<-done
	})
}

func TestWhoComesBeforeTheFirstPositionsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		h.started = make(chan struct{})
		ctx, leave := context.WithCancel(t.Context())
		early, late := &page{header: http.Header{}}, &page{header: http.Header{}}
		<-serve(ctx, h, early, time.Time{}) // until its patience ends
		if early.count(`"code":"overloaded"`) != 1 || early.count("event: connected") != 0 {
			t.Errorf("got %s", early.body.String())
		}
		done := serve(ctx, h, late, time.Time{})
		synctest.Wait()
		close(h.started)
		synctest.Wait()
		if late.count("event: connected") != 1 {
			t.Errorf("got %s", late.body.String())
		}
		leave()
		<-done
	})
}

func TestAQueueEndsTheConnectionInsteadOfDroppingAFrame(t *testing.T) {
	h := settled(t, nil)
	c, _ := h.admit("host", "addr")
	defer h.release(c)
	c.bound = 10
	c.push(frame{make([]byte, 50), 1}) // larger than the bound, and alone
	if c.ended() != nil {
		t.Error("a large frame was refused an empty queue; it would be refused for ever")
	}
	fs, _ := c.take()
	c.push(frame{make([]byte, 1), 2}) // the large one is still being written
	if end := c.ended(); len(fs) != 1 || end == nil || end.code != codeSlow {
		t.Errorf("took %d frames, ended with %v", len(fs), end)
	}
	c.push(frame{make([]byte, 1), 3})
	if fs, _ := c.take(); len(fs) != 0 {
		t.Error("a frame was queued behind a hole")
	}
}

func TestReadersShareAReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, gate := make(chan int64, 10), make(chan struct{})
		rs := newReads(func(ctx context.Context, _ *partition, from, _ int64) ([]*entry, error) {
			began <- from
			select {
			case <-gate:
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		p := &partition{}
		a, b, c := rs.join(p, 10, 20, false), rs.join(p, 12, 20, false), rs.join(p, 5, 20, false)
		if a != b || a == c || rs.join(p, 12, 20, true) == a || rs.join(p, 10, 21, false) == a {
			t.Error("readings are shared that should not be, or not that should")
		}
		synctest.Wait()
		if len(began) != 4 {
			t.Errorf("%d readings began, want 4", len(began))
		}
		rs.leave(c) // its only client: it is cancelled, and nobody joins it any more
		<-c.done
		if c.err == nil || rs.join(p, 6, 20, false) == c {
			t.Error("a reading without clients went on")
		}
		rs.close()
		if r := rs.join(p, 1, 2, false); !errors.Is(r.err, errClosed) {
			t.Error("a reading began after close")
		}
	})
}
