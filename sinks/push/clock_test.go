package push

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/sse"
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
		h.Serve(p, r, "host", until, schemas.FeedFilter{})
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
	c, _ := h.admit("host", "addr", func() {})
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
		join := func(host schemas.HostID, from, upto int64, exact bool) *reading {
			r, joined := rs.join(host, stretch{p, from, upto}, exact)
			if !joined {
				t.Errorf("%s has to wait", host)
			}
			return r
		}
		a, b, c := join("a", 10, 20, false), join("b", 12, 20, false), join("c", 5, 20, false)
		if a != b || a == c || join("d", 12, 20, true) == a || join("e", 10, 21, false) == a {
			t.Error("readings are shared that should not be, or not that should")
		}
		synctest.Wait()
		if len(began) != 4 {
			t.Errorf("%d readings began, want 4", len(began))
		}
		rs.leave(c) // its only client: it is cancelled, and nobody joins it any more
		<-c.done
		if c.err == nil || join("c", 6, 20, false) == c {
			t.Error("a reading without clients went on")
		}
		rs.close()
		if r := join("f", 1, 2, false); !errors.Is(r.err, errClosed) {
			t.Error("a reading began after close")
		}
	})
}

func TestAHostHasOneReadingOfItsOwnAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, gate := make(chan int64, 10), make(chan struct{})
		h := settled(t, nil)
		h.reads = newReads(func(ctx context.Context, _ *partition, from, _ int64) ([]*entry, error) {
			began <- from
			select {
			case <-gate:
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		ctx, leave := context.WithCancel(t.Context())
		var done []<-chan struct{}
		resume := func(host schemas.HostID, from int64) *page {
			p := &page{header: http.Header{}}
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
			r.Header.Set("Last-Event-ID", h.parts[0].at(from).String())
			end := make(chan struct{})
			go func() {
				defer close(end)
				h.Serve(p, r, host, time.Time{}, schemas.FeedFilter{})
			}()
			done = append(done, end)
			synctest.Wait()
			return p
		}
		greedy := []*page{resume("greedy", 6), resume("greedy", 5), resume("greedy", 4), resume("greedy", 3), resume("greedy", 2)}
		other := resume("other", 1)
		if len(began) != 2 || <-began != 6 || <-began != 1 {
			t.Fatal("a host with many cursors has more than one reading, or keeps another host from its own")
		}
		close(gate)
		synctest.Wait()
		for _, p := range append(greedy, other) { // the others took their turns
			if p.count("event: connected") != 1 || p.count("event: disconnect") != 0 {
				t.Errorf("got %s", p.body.String())
			}
		}
		leave()
		for _, end := range done {
			<-end
		}
		if len(h.reads.busy) != 0 {
			t.Errorf("%d hosts are remembered", len(h.reads.busy))
		}
	})
}

func TestCredentialsEndAlsoWhileHistoryIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		h.reads = newReads(func(ctx context.Context, _ *partition, _, _ int64) ([]*entry, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		p := &page{header: http.Header{}}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header.Set("Last-Event-ID", h.parts[0].at(3).String())
		start := time.Now()
		h.Serve(p, r, "host", start.Add(time.Second), schemas.FeedFilter{})
		if got := time.Since(start); got > time.Second || p.count(`"code":"token_expired"`) != 1 {
			t.Errorf("ended after %v with %s", got, p.body.String())
		}
		h.reads.close()
	})
}

func TestCredentialsEndAlsoWhileHistoryIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := settled(t, nil)
		gate := make(chan struct{})
		h.reads = newReads(func(context.Context, *partition, int64, int64) ([]*entry, error) {
			var es []*entry
			for next := int64(1); next <= 7; next++ {
				es = append(es, &entry{frame: frame{[]byte(strings.Repeat("x", chunk)), next}})
			}
			return es, nil
		})
		p := &slowPage{page: page{header: http.Header{}}, gate: gate}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header.Set("Last-Event-ID", h.parts[0].at(0).String())
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.Serve(p, r, "host", time.Now().Add(time.Minute), schemas.FeedFilter{})
		}()
		sleep(t.Context(), 2*time.Minute) // the first piece is taken this slowly
		close(gate)
		<-done
		if p.count(`"code":"token_expired"`) != 1 || p.count(strings.Repeat("x", chunk)) != 1 {
			t.Errorf("%d pieces were written after the credentials had ended", p.count(strings.Repeat("x", chunk)))
		}
	})
}

// slowPage takes the first piece of history when its gate opens.
type slowPage struct {
	page
	gate chan struct{}
}

func (p *slowPage) Write(b []byte) (int, error) {
	if len(b) == chunk {
		<-p.gate
	}
	return p.page.Write(b)
}

// stalledPage is a client that takes nothing after the headers: a flush runs into
// its deadline, and the server ends the request's context with it.
type stalledPage struct {
	page
	flushed int
	leave   context.CancelFunc
}

func (p *stalledPage) FlushError() error {
	if p.flushed++; p.flushed == 1 {
		return nil
	}
	p.leave()
	return os.ErrDeadlineExceeded
}

func TestAReaderThatTakesNothingCountsAsStalled(t *testing.T) {
	for name, from := range map[string]int64{"live": 7, "while history is read": 3} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewRegistry()
				h := settled(t, func(o *Options) { o.Registry = reg })
				h.reads = newReads(func(ctx context.Context, _ *partition, _, _ int64) ([]*entry, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})
				ctx, leave := context.WithCancel(t.Context())
				p := &stalledPage{page: page{header: http.Header{}}, leave: leave}
				r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
				r.Header.Set("Last-Event-ID", h.parts[0].at(from).String())
				h.Serve(p, r, "host", time.Time{}, schemas.FeedFilter{})
				if got := endings(t, reg); len(got) != 1 || got["stalled"] != 1 {
					t.Errorf("connections ended by %v", got)
				}
				if p.count("event: disconnect") != 0 {
					t.Errorf("something was written behind a write that failed: %s", p.body.String())
				}
				h.reads.close()
			})
		})
	}
}

func endings(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "krib_push_disconnects_total" && m.GetCounter().GetValue() > 0 {
				out[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return out
}

func TestAFrameThatWasNotFlushedIsNotThePosition(t *testing.T) {
	p := &stalledPage{page: page{header: http.Header{}}, flushed: 1, leave: func() {}}
	s := &stream{Writer: sse.NewWriter(p), sent: func(int) { t.Error("it counts as sent") }, safe: "before"}
	if err := s.write(place{"e", 0}, []frame{{[]byte("x"), 9}}); !errors.Is(err, sse.ErrWrite) || s.safe != "before" {
		t.Errorf("got %v, safe is %s", err, s.safe)
	}
}

func TestWithoutBoundsOfTheirOwnHostsAndAddressesShareTheHubs(t *testing.T) {
	h := settled(t, func(o *Options) { o.MaxConnections = 300 })
	for range 300 {
		c, refused := h.admit("host", "addr", func() {})
		if refused != nil {
			t.Fatal(refused.reason)
		}
		defer h.release(c)
	}
	if _, refused := h.admit("another", "another", func() {}); refused == nil {
		t.Error("the hub has no bound")
	}
}
