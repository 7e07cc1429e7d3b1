package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A need is what a role cannot work without.
type need int

const (
	needsKafka need = 1 << iota
	needsPostgres
)

// needs are those of each role. The API goes on accepting without Kafka: the outbox
// keeps what it accepts. The roles between topics never touch the tables.
var needs = map[string]need{
	"relay": needsKafka | needsPostgres, "fanout": needsKafka, "deliver": needsKafka, "retry": needsKafka, "sinks": needsKafka | needsPostgres,
	"push": needsKafka | needsPostgres, "jobs": needsPostgres, "api": needsPostgres,
}

// readiness is whether each role of this process can do its work at the moment.
type readiness struct {
	roles    []string
	kafka    func() error
	postgres func(context.Context) error
	log      *slog.Logger
	drain    atomic.Bool
	started  atomic.Bool // every role was ready once
	checks   []roleCheck
}

type roleCheck struct {
	role string
	// what names the part in a reason; empty for the role itself.
	what string
	ask  func(context.Context) error
}

func (r *readiness) add(role, what string, ask func(context.Context) error) {
	r.checks = append(r.checks, roleCheck{role, what, ask})
}

// A report is the state of every role, in the order of start. api is why the API is not
// ready, or nil.
type report struct {
	roles  []string
	states map[string]error
	api    error
}

var errDraining = errors.New("draining")

// ask runs every check at once, within ctx.
func (r *readiness) ask(ctx context.Context) *report {
	found := make([]error, len(r.checks))
	var (
		postgres error
		wg       sync.WaitGroup
	)
	wg.Go(func() {
		if err := r.postgres(ctx); err != nil {
			postgres = fmt.Errorf("postgres: %w", err)
		}
	})
	for i, c := range r.checks {
		wg.Go(func() {
			err := c.ask(ctx)
			if err != nil && c.what != "" {
				err = fmt.Errorf("%s: %w", c.what, err)
			}
			found[i] = err
		})
	}
	wg.Wait()
	out := &report{states: map[string]error{}}
	kafka := r.kafka()
	for _, role := range allRoles {
		if !slices.Contains(r.roles, role) {
			continue
		}
		var own error
		for i, c := range r.checks {
			if c.role == role && own == nil {
				own = found[i]
			}
		}
		var away error
		switch {
		case r.drain.Load():
			away = errDraining
		case needs[role]&needsPostgres != 0 && postgres != nil:
			away = postgres
		case needs[role]&needsKafka != 0 && kafka != nil:
			away = kafka
		}
		out.roles = append(out.roles, role)
		if out.states[role] = away; away == nil {
			out.states[role] = own
		}
		if out.api == nil && (role == "api" || role == "push") { // streams come in through the API
			if out.api = own; role == "api" && away != nil {
				out.api = away
			}
		}
	}
	return out
}

// err is why the process is not ready: until its start is over, and without an API for
// ever, it is ready when every role is. With an API it then follows that, since a
// process that is not ready takes no bookings.
func (r *readiness) err(p *report) error {
	if slices.Contains(p.roles, "api") && r.started.Load() {
		return p.api
	}
	for _, role := range p.roles {
		if err := p.states[role]; err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
	}
	return nil
}

// text is a line for the process and one for each role.
func (p *report) text(err error) string {
	var b strings.Builder
	b.WriteString("ready\n")
	if err != nil {
		b.Reset()
		b.WriteString("not ready\n")
	}
	for _, role := range p.roles {
		state := "ok"
		if err := p.states[role]; err != nil {
			state = oneLine(err)
		}
		fmt.Fprintf(&b, "%s: %s\n", role, state)
	}
	return b.String()
}

// askWithin bounds what a probe waits for.
const askWithin = 2 * time.Second

func (r *readiness) report() (*report, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	p := r.ask(ctx)
	return p, r.err(p)
}

// now is whether the process is ready.
func (r *readiness) now() error {
	_, err := r.report()
	return err
}

// wait asks until every role is ready.
func (r *readiness) wait(ctx context.Context) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	said := time.Now()
	for {
		err := r.err(r.ask(ctx))
		if err == nil {
			r.started.Store(true)
			return nil
		}
		if time.Since(said) > sayAfter {
			said = time.Now()
			r.log.WarnContext(ctx, "not ready yet", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// sayAfter is how long a start may take before what it waits for is logged.
const sayAfter = 5 * time.Second
