package auth

import (
	"fmt"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

func TestGuardLetsABurstThroughAndThenARate(t *testing.T) {
	now := time.Now()
	for _, addr := range []string{"203.0.113.9", "2001:db8:1:2::/64", ""} {
		g, passed := newGuard(), 0
		for i := range 2_000 { // 200 a second, for ten seconds
			if g.take(addr, now.Add(time.Duration(i)*5*time.Millisecond)) == nil {
				passed++
			}
		}
		if passed < failBurst+9*failRate || passed > failBurst+10*failRate {
			t.Errorf("%q: %d look-ups of 2000 passed in ten seconds", addr, passed)
		}
		if err := g.take("198.51.100.1", now); err != nil {
			t.Errorf("%q used up what another address has: %v", addr, err)
		}
	}
}

func TestGuardCountsNoLookUpThatSucceeded(t *testing.T) {
	g, now := newGuard(), time.Now()
	for range 10 * failBurst {
		if err := g.take("203.0.113.9", now); err != nil {
			t.Fatal(err)
		}
		g.giveBack("203.0.113.9", now)
	}
}

func TestGuardKeepsABoundedMemoryForAnyNumberOfAddresses(t *testing.T) {
	g, now := newGuard(), time.Now()
	refused := 0
	for i := range 3 * maxAddresses {
		if err := g.take(fmt.Sprint(i), now); schemas.KindOf(err) == schemas.TooMany {
			refused++
		}
		g.refuse(fmt.Sprint(i), now.Add(time.Second))
	}
	if len(g.addrs) > maxAddresses+1 || len(g.refusals) > maxRefusals {
		t.Errorf("%d addresses and %d refusals are kept", len(g.addrs), len(g.refusals))
	}
	if refused < maxAddresses {
		t.Errorf("%d were refused: those beyond the bound share no allowance", refused)
	}
	if g.take("new", now.Add(time.Minute)) != nil || len(g.addrs) > 1 {
		t.Errorf("%d addresses are kept a minute later", len(g.addrs))
	}
}
