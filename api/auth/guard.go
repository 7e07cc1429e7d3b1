package auth

import (
	"sync"
	"time"

	"github.com/krib-ai/krib/schemas"
)

const (
	// failBurst and failRate bound the unknown credentials of one address that Postgres
	// is asked about, at once and a second. Several misconfigured programs behind one
	// NAT stay below; guessing at this rate finds one of 2^128 keys never.
	failBurst, failRate = 50, 5
	// maxAddresses bounds the memory of a guard. Beyond it addresses share one allowance.
	maxAddresses = 10_000
	// strangers is how many look-ups of unknown credentials may run at once. It leaves
	// most of the pool to callers that are known, whatever the number of addresses.
	strangers   = 3
	maxRefusals = 10_000
)

// A guard keeps callers with unknown credentials from costing those with good ones:
// it bounds the queries that each address and all together may cause. It is safe for
// concurrent use.
type guard struct {
	slots chan struct{}

	mu       sync.Mutex
	addrs    map[string]allowance
	swept    time.Time            // when addresses were last looked through for those to forget
	refusals map[string]time.Time // until when a credential is refused without a query
}

// An allowance is a token bucket.
type allowance struct {
	left float64
	at   time.Time
}

func newGuard() *guard {
	return &guard{slots: make(chan struct{}, strangers), addrs: map[string]allowance{}, refusals: map[string]time.Time{}}
}

// take uses up one look-up of the address, or is TooMany.
func (g *guard) take(addr string, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	addr, a := g.allowance(addr, now)
	if a.left < 1 {
		g.addrs[addr] = a
		e := schemas.Errorf(schemas.TooMany, "too_many_failures", "too many unknown credentials came from your address; valid ones that were used lately are not affected")
		e.RetryAfter = time.Duration((1 - a.left) / failRate * float64(time.Second))
		return e
	}
	a.left--
	g.addrs[addr] = a
	return nil
}

// giveBack undoes a take: the credential was good, or it could not be looked up.
func (g *guard) giveBack(addr string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	addr, a := g.allowance(addr, now)
	a.left = min(a.left+1, failBurst)
	g.addrs[addr] = a
}

// allowance is what an address has now, and the name under which it is kept.
func (g *guard) allowance(addr string, now time.Time) (string, allowance) {
	a, ok := g.addrs[addr]
	if !ok && len(g.addrs) >= maxAddresses {
		g.sweep(now)
		if len(g.addrs) >= maxAddresses {
			addr = "others"
			a, ok = g.addrs[addr]
		}
	}
	if !ok {
		return addr, allowance{left: failBurst, at: now}
	}
	return addr, a.grown(now)
}

// sweep forgets the addresses whose allowance is whole again. Each stranger would pay
// for a look at all of them, so it does so once a second.
func (g *guard) sweep(now time.Time) {
	if d := now.Sub(g.swept); d >= 0 && d < time.Second {
		return
	}
	g.swept = now
	for other, b := range g.addrs {
		if b.grown(now).left >= failBurst {
			delete(g.addrs, other)
		}
	}
}

func (a allowance) grown(now time.Time) allowance {
	if d := now.Sub(a.at); d > 0 {
		a.left, a.at = min(a.left+d.Seconds()*failRate, failBurst), now
	}
	return a
}

// refused reports whether a credential was unknown a moment ago.
func (g *guard) refused(id string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := g.refusals[id]
	return ok && now.Before(until)
}

func (g *guard) refuse(id string, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.refusals) >= maxRefusals {
		clear(g.refusals)
	}
	g.refusals[id] = until
}
