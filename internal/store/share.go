package store

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/krib-ai/krib/schemas"
)

const (
	// shareWait is how long a transaction waits for its caller's turn. It is well below
	// what a request may take: a queue that is longer only grows.
	shareWait = 10 * time.Second
	// shareQueue is how many transactions of a caller may wait. More would hold memory
	// for answers that come too late.
	shareQueue = 100
)

// A share bounds how many connections of a pool each caller holds, so that one
// caller's queries cannot keep the others waiting for a connection. Turns of a caller
// come in the order of its transactions.
type share struct {
	each int64

	mu sync.Mutex
	of map[string]*turns
}

// turns are a caller's; users are those that hold a turn or wait for one.
type turns struct {
	free  *semaphore.Weighted
	users int
}

// take waits for one of the caller's turns. Call give when it is over.
func (s *share) take(ctx context.Context, caller string) (give func(), err error) {
	t, ok := s.enter(caller)
	if !ok {
		return nil, errTooManyAtOnce()
	}
	wait, cancel := context.WithTimeout(ctx, shareWait)
	defer cancel()
	if t.free.Acquire(wait, 1) != nil {
		s.leave(caller, t)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errTooManyAtOnce()
	}
	return func() {
		t.free.Release(1)
		s.leave(caller, t)
	}, nil
}

func (s *share) enter(caller string) (t *turns, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t = s.of[caller]
	if t == nil {
		t = &turns{free: semaphore.NewWeighted(s.each)}
		s.of[caller] = t
	}
	if t.users >= int(s.each)+shareQueue {
		return nil, false
	}
	t.users++
	return t, true
}

// leave forgets a caller without transactions.
func (s *share) leave(caller string, t *turns) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(s.of, caller)
	}
}

func errTooManyAtOnce() error {
	return schemas.Errorf(schemas.TooMany, "too_many_at_once", "too many requests of this caller are being served at once; send fewer at a time")
}
