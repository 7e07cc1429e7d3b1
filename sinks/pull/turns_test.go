package pull

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAgentHasHalfOfTheReadingsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTurns()
		var greedy []func()
		for range historyReaders / 2 {
			leave, err := s.wait(t.Context(), "greedy")
			if err != nil {
				t.Fatal(err)
			}
			greedy = append(greedy, leave)
		}
		waited := make(chan error, 1)
		begun := time.Now()
		go func() {
			_, err := s.wait(t.Context(), "greedy")
			waited <- err
		}()
		leave, err := s.wait(t.Context(), "another")
		if err != nil || time.Since(begun) != 0 {
			t.Errorf("another agent waited %v: %v", time.Since(begun), err)
		}
		leave()
		if err := <-waited; err == nil || time.Since(begun) != turnTimeout {
			t.Errorf("one reading too many ended after %v with %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.wait(ctx, "greedy"); err == nil {
			t.Error("who has left got a turn")
		}
		for _, leave := range greedy {
			leave()
		}
		if len(s.agents) != 0 || len(s.slots) != 0 {
			t.Errorf("%d agents and %d turns are remembered", len(s.agents), len(s.slots))
		}
	})
}
