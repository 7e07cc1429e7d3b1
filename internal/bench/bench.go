// Package bench measures a whole installation on the machine it runs on: it
// starts the program as a child process on a folder of its own, loads it from
// outside through the API and the topics, and receives its webhooks.
//
// Beside each figure stands a raw limit, measured in the same run: what this
// machine does for the same work without Krib. So a figure from one machine says
// something on another one too.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// The measurements by name, in the order in which they are made.
const (
	Create  = "create"
	Drain   = "drain"
	Latency = "latency"
	Hang    = "hang"
	Stream  = "stream"
	Memory  = "memory"
)

// Names lists the measurements.
func Names() []string { return []string{Create, Drain, Latency, Hang, Stream, Memory} }

// Options say what to measure, and of which program. Program and Env are
// required.
type Options struct {
	// Program is the path of krib; Env is what it is started with.
	Program string
	Env     []string
	// GivenKafka and GivenPostgres say that Env names servers which are not the
	// child's: what they use is not counted as Krib's.
	GivenKafka, GivenPostgres bool
	// Dir is where the child's folder is made; empty for the system's own place.
	Dir string
	// Only are the names of the measurements to make; none for all.
	Only []string
	// Runs is how often each measurement is made. Default 5.
	Runs int
	// Duration is how long each phase of create, latency, hang and stream lasts. Default 10
	// seconds.
	Duration time.Duration
	// Events is the backlog to drain at fan-out 1; at fan-out 10 it is a tenth of
	// it. Default 20,000.
	Events int
	// Homes is how many properties the bookings spread over. Default 4,000.
	Homes int
	// Streams is how many streams there are at most. Default 10,000; as many as the
	// process may open, where that is less.
	Streams int
	// Progress hears what is being done; nil for nobody.
	Progress io.Writer
}

func (o Options) withDefaults() Options {
	o.Runs = cmp.Or(o.Runs, 5)
	o.Duration = cmp.Or(o.Duration, 10*time.Second)
	o.Events = cmp.Or(o.Events, 20_000)
	o.Homes = cmp.Or(o.Homes, 4_000)
	o.Streams = min(cmp.Or(o.Streams, 10_000), mayOpen())
	if len(o.Only) == 0 {
		o.Only = Names()
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o
}

// Check finds what makes no sense in the options.
func (o Options) Check() error {
	for _, n := range o.Only {
		if !slices.Contains(Names(), n) {
			return fmt.Errorf("there is no measurement %q; there are %s", n, strings.Join(Names(), ", "))
		}
	}
	if o.Runs < 0 || o.Duration < 0 || o.Events < 0 || o.Homes < 0 || o.Streams < 0 {
		return errors.New("a benchmark needs numbers above zero")
	}
	return nil
}

// A bench is a started installation and what loads it.
type bench struct {
	o      Options
	child  *child
	meter  meter
	jobs   *store.DB
	api    *api
	hooks  *receiver
	homes  *homes
	kafka  kafka.Config
	memory *memory
	idle   []float64      // KiB of an idle stream, for each run
	sample *schemas.Event // what the backlogs are made of
}

// Run measures. The program and its folder are gone when it returns, also after
// an error and when ctx ends; the report then has what was measured before.
func Run(ctx context.Context, o Options) (*Report, error) {
	load := loadAverage()
	o = o.withDefaults()
	r := &Report{At: time.Now().UTC().Truncate(time.Second), Runs: o.Runs}
	if err := o.Check(); err != nil {
		return r, err
	}
	mem := newMemory(&o)
	if slices.Contains(o.Only, Memory) {
		// The last of the fresh starts is the one that everything else is measured on.
		if err := mem.freshStarts(ctx, &o, o.Runs-1); err != nil {
			return r, err
		}
	}
	var idle []float64
	if slices.Contains(o.Only, Stream) {
		var err error
		if idle, err = idleStreams(ctx, &o, o.Runs); err != nil {
			return r, err
		}
	}
	b, err := open(ctx, o)
	if err != nil {
		return r, err
	}
	b.memory, b.idle = mem, idle
	if r.Machine, err = b.machine(ctx, load); err == nil {
		err = b.measure(ctx, r)
	}
	return r, errors.Join(err, b.close(ctx))
}

// open starts the program and connects everything to it.
func open(ctx context.Context, o Options) (b *bench, err error) {
	b = &bench{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close(ctx))
			b = nil
		}
	}()
	if b.child, err = startChild(ctx, &o); err != nil {
		return b, err
	}
	b.meter = b.child.meter()
	dev := &b.child.dev
	b.kafka = kafka.Config{Brokers: dev.KafkaBrokers, Logger: slog.New(slog.DiscardHandler)}
	b.api = newAPI(dev.APIURL, dev.APIKey)
	if b.hooks, err = listen(ctx); err != nil {
		return b, err
	}
	if b.jobs, err = store.Open(ctx, dev.DatabaseURL, store.RoleJobs, 2); err != nil {
		return b, err
	}
	return b, nil
}

func (b *bench) close(ctx context.Context) error {
	if b.hooks != nil {
		b.hooks.close()
	}
	if b.jobs != nil {
		b.jobs.Close()
	}
	if b.child == nil {
		return nil
	}
	return b.child.stop(ctx)
}

func (b *bench) measure(ctx context.Context, r *Report) (err error) {
	if err := b.rest(ctx); err != nil {
		return err
	}
	if err := b.memory.idle(b.meter); err != nil {
		return err
	}
	if slices.ContainsFunc(b.o.Only, func(n string) bool { return n != Memory }) {
		if b.homes, err = b.plant(ctx); err != nil {
			return err
		}
		if err := b.rest(ctx); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		name string
		run  func(context.Context, *Measurement) error
		mark func(*Measurement)
	}{
		{Create, b.create, markCreate},
		{Drain, b.drain, markDrain},
		{Latency, b.latency, markLatency},
		{Hang, b.hang, markHang},
		{Stream, b.streams, b.markStreams},
	} {
		if !slices.Contains(b.o.Only, m.name) {
			continue
		}
		out := &Measurement{Name: m.name}
		if err := b.repeat(ctx, out, m.run); err != nil {
			return fmt.Errorf("measuring %s: %w", m.name, err)
		}
		m.mark(out)
		r.Measurements = append(r.Measurements, out)
	}
	if slices.Contains(b.o.Only, Memory) {
		r.Measurements = append(r.Measurements, b.memory.report(&b.o))
	}
	return nil
}

// repeat makes one measurement as often as was asked for. Each run begins where
// the one before, or the start, has come to rest.
func (b *bench) repeat(ctx context.Context, m *Measurement, run func(context.Context, *Measurement) error) error {
	for i := range b.o.Runs {
		b.say("%s: run %d of %d", m.Name, i+1, b.o.Runs)
		if err := run(ctx, m); err != nil {
			return err
		}
		if err := b.rest(ctx); err != nil {
			return err
		}
		if err := b.memory.loaded(b.meter); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.o.Progress, format+"\n", args...) }
