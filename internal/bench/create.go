package bench

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/krib-ai/krib/internal/seal"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
)

const (
	clients = 32
	// pool is as large as the API's own.
	pool = 16

	accepted = "accepted over HTTP"
)

// create measures how many bookings are accepted, over HTTP and without it, and
// what Postgres commits when a transaction is one row.
func (b *bench) create(ctx context.Context, m *Measurement) error {
	m.Title = "bookings accepted"
	var http *pace
	used, err := b.spend(ctx, func() (err error) {
		http, err = b.createOverHTTP(ctx)
		return err
	})
	if err != nil {
		return err
	}
	command, err := b.createWithoutHTTP(ctx)
	if err != nil {
		return err
	}
	if err := b.rest(ctx); err != nil {
		return err
	}
	var raw *pace
	usedRaw, err := b.spend(ctx, func() (err error) {
		raw, err = b.commits(ctx)
		return err
	})
	if err != nil {
		return err
	}
	const limit = "Postgres: one-row commits"
	m.add(accepted, "/s", http.perSecond()).beside(limit, raw.perSecond())
	m.add("the same command without HTTP", "/s", command.perSecond()).beside(limit, raw.perSecond())
	for _, q := range []float64{0.50, 0.99} {
		name := fmt.Sprintf("answer over HTTP, p%.0f", 100*q)
		m.add(name, "ms", millis(quantile(http.all, q))).beside(limit, millis(quantile(raw.all, q)))
	}
	if f := b.addUse(m, "", "bookings", used, http.done); f != nil {
		f.beside(limit, usedRaw.postgres.Seconds()*1000/float64(raw.done))
	}
	m.note("%d clients in a closed loop in each, keep-alive; no two bookings are of one stay. The command and the raw limit have a pool of %d "+
		"connections, as the API has; what is accepted is published, fanned out and put into the host's inbox "+
		"meanwhile, on the same processors, and that is in the processor time too.", clients, pool)
	return nil
}

func markCreate(m *Measurement) {
	v := m.median(accepted)
	m.mark(v >= 2000, number(v)+" /s", "2,000 accepted a second over HTTP")
}

func (b *bench) createOverHTTP(ctx context.Context) (*pace, error) {
	return closedLoop(ctx, clients, b.o.Duration, func(ctx context.Context) error {
		n, err := b.homes.take()
		if err != nil {
			return err
		}
		_, err = b.api.book(ctx, n)
		return err
	})
}

// createWithoutHTTP calls the command that the handler calls, in this process and
// in the API's role.
func (b *bench) createWithoutHTTP(ctx context.Context) (*pace, error) {
	db, err := store.Open(ctx, b.child.dev.DatabaseURL, store.RoleAPI, pool)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	ring, err := seal.DeriveRing("nothing is sealed with it")
	if err != nil {
		return nil, err
	}
	wake := store.NewSignal(store.ChannelOutbox)
	signals, stop := context.WithCancel(ctx)
	defer stop()
	go func() { _ = wake.Run(signals, db, slog.New(slog.DiscardHandler)) }() // never fails
	p := producers.New(producers.Options{DB: db, Ring: ring, Wake: wake.Wake})
	return closedLoop(ctx, clients, b.o.Duration, func(ctx context.Context) error {
		n, err := b.homes.take()
		if err != nil {
			return err
		}
		_, err = p.CreateBooking(ctx, store.Scope{Agent: benchAgent, Platform: true}, nil, n)
		return err
	})
}
