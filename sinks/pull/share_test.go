package pull

import (
	"fmt"
	"testing"

	"github.com/krib-ai/krib/schemas"
)

// Each agent takes all it can get, with as many keys as it likes.
func TestFewAgentsCannotTakeAllReaders(t *testing.T) {
	for _, greedy := range []int{1, 3, 10, 50} {
		a := &admission{max: 1000, maxPerKey: 20, readers: map[*reader]struct{}{}, keys: map[schemas.KeyID]int{}, agents: map[schemas.AgentID]int{}}
		for i := range 1000 {
			for g := range greedy {
				a.admit(schemas.KeyID(fmt.Sprintf("key_%d_%d", g, i/20)), schemas.AgentID(fmt.Sprint(g)))
			}
		}
		if free := a.max - len(a.readers); free < 1000/(greedy+1) {
			t.Errorf("%d agents leave room for %d readers of others", greedy, free)
		}
		if _, refused := a.admit("key_new", "new"); refused != nil {
			t.Errorf("beside %d agents, one without readers gets none: %s", greedy, refused.reason)
		}
		for r := range a.readers {
			a.release(r)
		}
		if len(a.agents) != 0 || len(a.keys) != 0 {
			t.Errorf("%d agents and %d keys are remembered", len(a.agents), len(a.keys))
		}
	}
}
