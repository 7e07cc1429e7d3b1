package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/sse"
)

const (
	// fanRate is how many frames a second all streams together get: below what a
	// core can do, so that latencies are not those of an overload.
	fanRate = 15_000
	// oneRate is how many events a second one stream gets.
	oneRate = 20
	// bareFrames is how many frames the raw limit writes.
	bareFrames = 20_000
)

// audiences are how many streams there are, one time after the other.
func (o *Options) audiences() []int {
	var out []int
	for _, n := range []int{100, 1000, 10_000} {
		if n < o.Streams {
			out = append(out, n)
		}
	}
	return append(out, o.Streams)
}

func toStreams(n int, what string) string {
	return fmt.Sprintf("%s streams: %s", number(float64(n)), what)
}

const (
	perCPU  = "frames for a second of Krib's processor time"
	fanLate = "publish to socket, p99"
	resting = "resident for an idle stream"
	oneLate = "one stream: publish to socket, p50"
)

// streams measures what the event stream costs, with few and many who listen.
func (b *bench) streams(ctx context.Context, m *Measurement) error {
	m.Title = "one event to many streams"
	frame, err := benchFrame()
	if err != nil {
		return err
	}
	m.add(toStreams(b.o.Streams, resting), "KiB", b.idle[0])
	b.idle = b.idle[1:] // one of each run
	if err := b.oneStream(ctx, m, frame); err != nil {
		return fmt.Errorf("with one stream: %w", err)
	}
	alone, err := b.eventsAlone(ctx, m)
	if err != nil {
		return fmt.Errorf("without streams: %w", err)
	}
	for _, n := range b.o.audiences() {
		if err := b.streamsOf(ctx, m, n, alone, frame); err != nil {
			return fmt.Errorf("with %d streams: %w", n, err)
		}
	}
	m.note("Notifications are sent over HTTP with exponential gaps, so that all streams together get %s frames a second. Publish is the moment at which "+
		"the request should have been sent, so the request, the commit, the relay, the broker, the sink's commit and the stream are in it; the socket is "+
		"where the client has read the frame. Heartbeats every 5 s are counted among the frames. Processor time is that of Krib's process, the embedded "+
		"broker's and that of the requests in it; \"beyond the events\" is without what as many events cost when nobody listens.", number(fanRate))
	m.note("The raw limit is a loop that writes a frame of the same size to as many sockets on a thread of its own, whose processor time is counted; its "+
		"latencies are from the beginning of a round over all sockets. It has %s sockets at most: both ends are in one process.", number(float64(mayOpen()/2)))
	return nil
}

func (b *bench) markStreams(m *Measurement) {
	for _, n := range b.o.audiences() {
		rate, late := m.median(toStreams(n, perCPU)), m.median(toStreams(n, fanLate))
		m.mark(rate >= 25_000 && late < 100, fmt.Sprintf("%s, %s ms", number(rate), number(late)),
			toStreams(n, "25,000 frames for a second of processor time, at a p99 below 100 ms"))
	}
	size := m.median(toStreams(b.o.Streams, resting))
	m.mark(size <= 28, number(size)+" KiB", toStreams(b.o.Streams, "28 KiB for an idle one at most"))
	one := m.median(oneLate)
	m.mark(one < 10, number(one)+" ms", "one stream: p50 from publish to socket below 10 ms")
}

// idleStreams opens as many streams as there are at most to a program that has just
// started, n times, and answers what each stream takes: one that had streams before
// keeps their memory for the next ones.
func idleStreams(ctx context.Context, o *Options, n int) ([]float64, error) {
	out := make([]float64, n)
	for i := range n {
		fmt.Fprintf(o.Progress, "%s: start %d of %d\n", Stream, i+1, n)
		var err error
		if out[i], err = idleStream(ctx, o); err != nil {
			return nil, fmt.Errorf("measuring %s: %w", Stream, err)
		}
	}
	return out, nil
}

func idleStream(ctx context.Context, o *Options) (each float64, err error) {
	b, err := open(ctx, *o)
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := b.close(ctx); err == nil {
			err = e
		}
	}()
	if err := b.rest(ctx); err != nil {
		return 0, err
	}
	before, err := b.meter.memory()
	if err != nil {
		return 0, err
	}
	a, err := b.gather(ctx, o.Streams)
	if err != nil {
		return 0, err
	}
	defer a.close()
	if err := b.rest(ctx); err != nil {
		return 0, err
	}
	after, err := b.meter.memory()
	return float64(max(after.krib-before.krib, 1)) / 1024 / float64(o.Streams), err // a few may fit into what it had
}

// oneStream measures the way of an event when nothing else is to be done.
func (b *bench) oneStream(ctx context.Context, m *Measurement, frame []byte) error {
	a, err := b.gather(ctx, 1)
	if err != nil {
		return err
	}
	defer a.close()
	took, _, err := b.publish(ctx, a, oneRate)
	if err != nil {
		return err
	}
	_, raw, err := fanBare(1, len(took), frame)
	if err != nil {
		return err
	}
	m.add(oneLate, "ms", millis(quantile(took, 0.5))).beside("bare write", millis(quantile(raw, 0.5)))
	m.add("one stream: publish to socket, p99", "ms", millis(quantile(took, 0.99))).beside("bare write", millis(quantile(raw, 0.99)))
	return nil
}

// eventsAlone is what an event costs when nobody listens.
func (b *bench) eventsAlone(ctx context.Context, m *Measurement) (time.Duration, error) {
	nobody := &audience{}
	events := 0
	used, err := b.spend(ctx, func() (err error) {
		_, events, err = b.publish(ctx, nobody, fanRate/100)
		return err
	})
	if err != nil {
		return 0, err
	}
	each := used.krib / time.Duration(max(events, 1))
	m.add("no stream: processor time of Krib for an event", "ms", millis(each))
	return each, nil
}

// publish sends events at a rate, waits until everybody has them, and answers how
// long each took to each, and how many there were.
func (b *bench) publish(ctx context.Context, a *audience, rate float64) ([]time.Duration, int, error) {
	p, err := openLoop(ctx, rate, b.o.Duration, func(ctx context.Context, due time.Time) error {
		return b.api.notify(ctx, b.child.dev.HostID, a.next(due))
	})
	if err != nil {
		return nil, 0, err
	}
	took, err := a.await(ctx, p.done)
	return took, p.done, err
}

// streamsOf measures n streams, idle and then with events.
func (b *bench) streamsOf(ctx context.Context, m *Measurement, n int, alone time.Duration, frame []byte) error {
	if err := b.rest(ctx); err != nil {
		return err
	}
	a, err := b.gather(ctx, n)
	if err != nil {
		return err
	}
	defer a.close()
	if err := b.rest(ctx); err != nil {
		return err
	}
	if err := b.fan(ctx, m, a, alone); err != nil {
		return err
	}
	a.close() // the raw limit needs the files
	sockets := min(n, mayOpen()/2)
	rate, raw, err := fanBare(sockets, max(bareFrames/sockets, 2), frame)
	if err != nil {
		return err
	}
	const limit = "bare writes"
	m.figure(toStreams(n, perCPU)).beside(limit, rate)
	m.figure(toStreams(n, fanLate)).beside(limit, millis(quantile(raw, 0.99)))
	return nil
}

// fan measures what events cost and how long they take.
func (b *bench) fan(ctx context.Context, m *Measurement, a *audience, alone time.Duration) error {
	const counted = "krib_push_frames_total"
	n := len(a.conns)
	framesBefore, err := b.counter(ctx, counted)
	if err != nil {
		return err
	}
	usedBefore, err := b.meter.cpu()
	if err != nil {
		return err
	}
	took, events, err := b.publish(ctx, a, fanRate/float64(n))
	if err != nil {
		return err
	}
	usedAfter, err := b.meter.cpu()
	if err != nil {
		return err
	}
	framesAfter, err := b.counter(ctx, counted)
	if err != nil {
		return err
	}
	frames := framesAfter - framesBefore
	cpu := usedAfter.minus(usedBefore).krib
	m.add(toStreams(n, perCPU), "", frames/max(cpu, tick).Seconds())
	m.add(toStreams(n, "the same beyond the events"), "", frames/max(cpu-time.Duration(events)*alone, tick).Seconds())
	m.add(toStreams(n, "publish to socket, p50"), "ms", millis(quantile(took, 0.5)))
	m.add(toStreams(n, fanLate), "ms", millis(quantile(took, 0.99)))
	return nil
}

// benchFrame is as large as the frames of the notifications that are sent.
func benchFrame() ([]byte, error) {
	return sse.Append(nil, 0, "0123456789abcdef-10-1000000", "notification", []byte(strings.Repeat("x", 560)))
}
