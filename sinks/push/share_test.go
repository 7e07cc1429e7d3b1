package push

import (
	"fmt"
	"testing"

	"github.com/krib-ai/krib/schemas"
)

// Each host takes all it can get, with a bound of its own that ten times is all.
func TestFewHostsCannotTakeAllStreams(t *testing.T) {
	for _, greedy := range []int{7, 10, 40} {
		h := &Hub{conns: map[*conn]struct{}{}, hosts: map[schemas.HostID]int{}, addrs: map[string]int{}}
		h.opts.MaxConnections, h.opts.MaxPerHost = 1000, 100
		for range 1000 {
			for g := range greedy {
				h.admit(schemas.HostID(fmt.Sprint(g)), "203.0.113.9", func() {})
			}
		}
		if free := 1000 - len(h.conns); free < 1000/(greedy+1) {
			t.Errorf("%d hosts leave room for %d streams of others", greedy, free)
		}
		if _, refused := h.admit("new", "203.0.113.9", func() {}); refused != nil {
			t.Errorf("beside %d hosts, one without streams gets none: %s", greedy, refused.reason)
		}
	}
}

func TestHostWithoutABoundOfItsOwnMayHaveAllStreams(t *testing.T) {
	h := &Hub{conns: map[*conn]struct{}{}, hosts: map[schemas.HostID]int{}, addrs: map[string]int{}}
	h.opts.MaxConnections = 20
	for i := range 20 {
		if _, refused := h.admit("one", "203.0.113.9", func() {}); refused != nil {
			t.Fatalf("stream %d: %s", i, refused.reason)
		}
	}
}
