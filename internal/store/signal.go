package store

import (
	"context"
	"log/slog"
	"time"
)

// A Signal says that something was committed: to this process at once, and to
// the others by a NOTIFY that many commits share. Losing one costs a listener at
// most its poll interval.
type Signal struct {
	channel string
	local   chan struct{}
	remote  chan struct{}
}

// NewSignal makes a Signal. Without Run it reaches this process only.
func NewSignal(channel string) *Signal {
	return &Signal{channel: channel, local: make(chan struct{}, 1), remote: make(chan struct{}, 1)}
}

// Wake never blocks.
func (s *Signal) Wake() {
	s.WakeHere()
	poke(s.remote)
}

// WakeHere wakes this process only: for a NOTIFY that came from elsewhere.
func (s *Signal) WakeHere() { poke(s.local) }

// Woken gets one value for one or many wakes; it has one reader.
func (s *Signal) Woken() <-chan struct{} { return s.local }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// notifyEvery bounds the NOTIFYs of a process: whoever is woken takes all that
// is there.
const notifyEvery = 10 * time.Millisecond

// Run tells the other processes until ctx ends.
func (s *Signal) Run(ctx context.Context, db *DB, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.remote:
		}
		if err := db.Notify(ctx, s.channel); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "a notification was not sent; polling finds what it was about", slog.String("channel", s.channel), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(notifyEvery):
		}
	}
}
