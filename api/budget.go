package api

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/krib-ai/krib/schemas"
)

// defaultBudget is how many bytes of bodies a process reads and decodes at a time. A
// large body costs about five times its bytes in all, a small one up to ten times.
const defaultBudget = 32 << 20

// callerShare is the part of the budget that one caller may have.
const callerShare = 8

// bodyWait is how long a request waits for its part of the budget.
const bodyWait = 5 * time.Second

// A budget bounds the bytes of the bodies that requests hold. No caller has more than
// its share, so that one that sends slowly, or much, leaves room for the others.
type budget struct {
	all   *semaphore.Weighted
	share int64

	mu      sync.Mutex
	callers map[string]*holding // that hold or wait
}

type holding struct {
	*semaphore.Weighted
	requests int
}

func newBudget(bytes int64) *budget {
	return &budget{all: semaphore.NewWeighted(bytes), share: bytes / callerShare, callers: map[string]*holding{}}
}

// take waits for room for a body. What it returns gives the room back.
func (g *budget) take(ctx context.Context, caller string, bytes int64) (giveBack func(), err error) {
	bytes = min(bytes, g.share)
	ctx, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	h := g.enter(caller)
	if err := h.Acquire(ctx, bytes); err != nil {
		g.leave(caller, h)
		return nil, schemas.Errorf(schemas.Unavailable, "bodies_busy", "too many bodies of this caller are being read at once; send fewer at a time")
	}
	if err := g.all.Acquire(ctx, bytes); err != nil {
		h.Release(bytes)
		g.leave(caller, h)
		return nil, schemas.Errorf(schemas.Unavailable, "bodies_busy", "too many bodies are being read at once; try again")
	}
	return func() {
		g.all.Release(bytes)
		h.Release(bytes)
		g.leave(caller, h)
	}, nil
}

func (g *budget) enter(caller string) *holding {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.callers[caller]
	if h == nil {
		h = &holding{Weighted: semaphore.NewWeighted(g.share)}
		g.callers[caller] = h
	}
	h.requests++
	return h
}

func (g *budget) leave(caller string, h *holding) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h.requests--; h.requests == 0 {
		delete(g.callers, caller)
	}
}
