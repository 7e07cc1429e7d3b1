package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/processors/deliver"
)

// warmUp is how long a rate is held before it is measured: lanes open their
// connections and polls find their size.
const warmUp = time.Second

func rates() []int { return []int{100, 300, 1000} }

func fromEvent(rate, percent int) string {
	return fmt.Sprintf("%d/s: event to POST, p%d", rate, percent)
}

// latency measures how long a delivery takes after its event, at rates that do
// not depend on how long that is.
func (b *bench) latency(ctx context.Context, m *Measurement) error {
	m.Title = "from the event to its POST"
	return b.subscribed(ctx, 1, func(hooks []*hook) error {
		for _, rate := range rates() {
			if err := b.latencyAt(ctx, m, hooks[0], rate); err != nil {
				return fmt.Errorf("at %d/s: %w", rate, err)
			}
		}
		m.note("One subscription; bookings over HTTP with exponential gaps, each phase %s after a second of the same load. "+
			"\"Event to POST\" is from the event's own time, which is the beginning of its command, before the commit; \"due to POST\" is from the moment "+
			"at which the request should have been sent. The raw limit is a bare signed POST to the same receiver at the same rate, from its due moment.", b.o.Duration)
		return nil
	})
}

func markLatency(m *Measurement) {
	v := m.median(fromEvent(300, 99))
	m.mark(v < 50, number(v)+" ms", "p99 from the event to its POST below 50 ms at 300/s")
}

func (b *bench) latencyAt(ctx context.Context, m *Measurement, h *hook, rate int) error {
	t, err := b.stream(ctx, []*hook{h}, rate)
	if err != nil {
		return err
	}
	if err := b.rest(ctx); err != nil {
		return err
	}
	raw, err := bareStream(ctx, h, rate, b.o.Duration)
	if err != nil {
		return err
	}
	const limit = "bare signed POST"
	for _, percent := range []int{50, 99} {
		q := float64(percent) / 100
		m.add(fromEvent(rate, percent), "ms", millis(quantile(t.event, q))).beside(limit, millis(quantile(raw, q)))
		m.add(fmt.Sprintf("%d/s: due to POST, p%d", rate, percent), "ms", millis(quantile(t.due, q))).beside(limit, millis(quantile(raw, q)))
	}
	m.add(fmt.Sprintf("%d/s: accepted", rate), "/s", t.pace.perSecond())
	return nil
}

// travel is how long the deliveries of one stream took.
type travel struct {
	pace       *pace
	event, due []time.Duration
	byHook     map[*hook][]time.Duration // event, of each endpoint
}

// of is how long those of some endpoints took after their events.
func (t *travel) of(hooks []*hook) []time.Duration {
	var out []time.Duration
	for _, h := range hooks {
		out = append(out, t.byHook[h]...)
	}
	return out
}

// stream books at a rate, first to warm up and then to measure, and waits for
// every delivery of both.
func (b *bench) stream(ctx context.Context, hooks []*hook, rate int) (*travel, error) {
	if _, err := b.streamFor(ctx, hooks, rate, min(warmUp, b.o.Duration)); err != nil {
		return nil, err
	}
	return b.streamFor(ctx, hooks, rate, b.o.Duration)
}

func (b *bench) streamFor(ctx context.Context, hooks []*hook, rate int, d time.Duration) (*travel, error) {
	var mu sync.Mutex
	due := map[string]time.Time{} // by booking
	p, err := openLoop(ctx, float64(rate), d, func(ctx context.Context, at time.Time) error {
		n, err := b.homes.take()
		if err != nil {
			return err
		}
		id, err := b.api.book(ctx, n)
		mu.Lock()
		defer mu.Unlock()
		due[string(id)] = at
		return err
	})
	if err != nil {
		return nil, err
	}
	t := &travel{pace: p, byHook: map[*hook][]time.Duration{}}
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for _, h := range hooks {
		if err := h.await(ctx, p.done); err != nil {
			return nil, err
		}
		for _, a := range h.clear() {
			t.event = append(t.event, a.at.Sub(a.event))
			t.byHook[h] = append(t.byHook[h], a.at.Sub(a.event))
			t.due = append(t.due, a.at.Sub(due[a.booking]))
		}
	}
	return t, nil
}

// bareStream is how long bare POSTs take at a rate, from the moment that each was
// due to its arrival.
func bareStream(ctx context.Context, h *hook, rate int, d time.Duration) ([]time.Duration, error) {
	p := h.bare(conns)
	defer p.close()
	if _, err := openLoop(ctx, float64(rate), d, p.post); err != nil {
		return nil, err
	}
	var out []time.Duration
	for _, a := range h.clear() {
		out = append(out, a.at.Sub(a.event))
	}
	return out, nil
}

const (
	hangHooks = 10
	hangRate  = 50
	hangFloor = 5.0 // milliseconds within which two p99 are the same
)

// hanging is how many of the endpoints hang, one time and the next.
func hanging() []int { return []int{1, hangHooks / 2} }

func whileHanging(n, percent int) string {
	if n == 1 {
		return fmt.Sprintf("p%d of the nine while the tenth hangs", percent)
	}
	return fmt.Sprintf("p%d of %d while the other %d hang", percent, hangHooks-n, n)
}

func lagWhileHanging(n int) string {
	return fmt.Sprintf("most deliveries uncommitted while %d of %d hang", n, hangHooks)
}

func pausedWhileHanging(n int) string {
	return fmt.Sprintf("partitions not fetched for their span while %d of %d hang", n, hangHooks)
}

// hang measures what endpoints that never answer do to the others.
func (b *bench) hang(ctx context.Context, m *Measurement) error {
	m.Title = "of ten endpoints, one hangs, then five"
	return b.subscribed(ctx, hangHooks, func(hooks []*hook) error {
		well, err := b.stream(ctx, hooks[:hangHooks-1], hangRate)
		if err != nil {
			return fmt.Errorf("with ten healthy endpoints: %w", err)
		}
		defer func() {
			for _, h := range hooks {
				h.hangs.Store(false)
			}
		}()
		for _, n := range hanging() {
			if err := b.rest(ctx); err != nil {
				return err
			}
			if err := b.hangOf(ctx, m, hooks, n, well); err != nil {
				return fmt.Errorf("with %d hanging: %w", n, err)
			}
		}
		m.note("%d bookings a second to %d subscriptions, from the event's own time. Those that hang never answer until Krib gives up, and go on hanging "+
			"in the second phase; the comparison is the same endpoints as are measured, in the same run.", hangRate, hangHooks)
		return nil
	})
}

// hangOf measures while the last n endpoints hang.
func (b *bench) hangOf(ctx context.Context, m *Measurement, hooks []*hook, n int, well *travel) error {
	healthy := hooks[:hangHooks-n]
	for _, h := range hooks[hangHooks-n:] {
		h.hangs.Store(true)
	}
	const paused = `krib_deliver_paused_seconds_total{reason="span"}`
	before, err := b.counter(ctx, paused)
	if err != nil {
		return err
	}
	most := b.watchLag(ctx, deliver.Group)
	ill, err := b.stream(ctx, healthy, hangRate)
	if lag, lagErr := most(); err == nil {
		m.add(lagWhileHanging(n), "", float64(lag))
		err = lagErr
	}
	if err != nil {
		return err
	}
	after, err := b.counter(ctx, paused)
	if err != nil {
		return err
	}
	m.add(pausedWhileHanging(n), "s", after-before)
	for _, percent := range []int{50, 99} {
		q := float64(percent) / 100
		m.add(whileHanging(n, percent), "ms", millis(quantile(ill.event, q))).beside("all ten healthy", millis(quantile(well.of(healthy), q)))
	}
	return nil
}

// watchLag asks every second how much a group has not committed, until the function
// that it returns is called, which says what the most was.
func (b *bench) watchLag(ctx context.Context, group string) (most func() (int64, error)) {
	ctx, stop := context.WithCancel(ctx)
	type answer struct {
		most int64
		err  error
	}
	ended := make(chan answer, 1)
	go func() {
		most, err := lagUntil(ctx, b.kafka, group)
		ended <- answer{most, err}
	}()
	return func() (int64, error) {
		stop()
		a := <-ended
		return a.most, a.err
	}
}

func lagUntil(ctx context.Context, conf kafka.Config, group string) (most int64, err error) {
	cl, err := kgo.NewClient(conf.Options("bench-lag")...)
	if err != nil {
		return 0, fmt.Errorf("making a client: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		lags, err := adm.Lag(ctx, group)
		if ctx.Err() != nil {
			return most, nil
		}
		if err == nil {
			err = lags.Error()
		}
		if err != nil {
			return most, fmt.Errorf("asking for the lag of %s: %w", group, err)
		}
		most = max(most, lags[group].Lag.Total())
		select {
		case <-ctx.Done():
			return most, nil
		case <-tick.C:
		}
	}
}

func markHang(m *Measurement) {
	for _, n := range hanging() {
		markHangOf(m, n)
	}
}

func markHangOf(m *Measurement, n int) {
	text := fmt.Sprintf("with %d of %d hanging, p99 grows by less than a fifth, or by less than 5 ms", n, hangHooks)
	f := m.figure(whileHanging(n, 99))
	if f == nil {
		m.mark(false, "not measured", text)
		return
	}
	ratio, more := median(ratios(f.Values, f.Raw)), median(f.Values)-median(f.Raw)
	m.mark(ratio < 1.2 || more < hangFloor, fmt.Sprintf("%s times, %s ms", number(ratio), number(more)), text)
}
