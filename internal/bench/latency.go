package bench

import (
	"context"
	"fmt"
	"sync"
	"time"
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
	t := &travel{pace: p}
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for _, h := range hooks {
		if err := h.await(ctx, p.done); err != nil {
			return nil, err
		}
		for _, a := range h.clear() {
			t.event = append(t.event, a.at.Sub(a.event))
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

	whileHanging = "p99 of the nine while the tenth hangs"
	hangFloor    = 5.0 // milliseconds within which two p99 are the same
)

// hang measures what an endpoint that never answers does to the others.
func (b *bench) hang(ctx context.Context, m *Measurement) error {
	m.Title = "one of ten endpoints hangs"
	return b.subscribed(ctx, hangHooks, func(hooks []*hook) error {
		// The same nine in both phases: only what happens to them is compared.
		nine, tenth := hooks[:hangHooks-1], hooks[hangHooks-1]
		well, err := b.stream(ctx, nine, hangRate)
		if err != nil {
			return fmt.Errorf("with ten healthy endpoints: %w", err)
		}
		if err := b.rest(ctx); err != nil {
			return err
		}
		tenth.hangs.Store(true)
		defer tenth.hangs.Store(false)
		ill, err := b.stream(ctx, nine, hangRate)
		if err != nil {
			return fmt.Errorf("with a hanging endpoint: %w", err)
		}
		m.add("p50 of the nine while the tenth hangs", "ms", millis(quantile(ill.event, 0.50))).beside("all ten healthy", millis(quantile(well.event, 0.50)))
		m.add(whileHanging, "ms", millis(quantile(ill.event, 0.99))).beside("all ten healthy", millis(quantile(well.event, 0.99)))
		m.note("%d bookings a second to %d subscriptions, from the event's own time. The tenth never answers until Krib gives up; the comparison is the same nine, in the same run.",
			hangRate, hangHooks)
		return nil
	})
}

func markHang(m *Measurement) {
	const text = "p99 grows by less than a fifth, or by less than 5 ms"
	f := m.figure(whileHanging)
	if f == nil {
		m.mark(false, "not measured", text)
		return
	}
	ratio, more := median(ratios(f.Values, f.Raw)), median(f.Values)-median(f.Raw)
	m.mark(ratio < 1.2 || more < hangFloor, fmt.Sprintf("%s times, %s ms", number(ratio), number(more)), text)
}
