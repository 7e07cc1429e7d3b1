package testenv_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/krib-ai/krib/internal/testenv"
)

// spy is a test that remembers its log and ends when it is told.
type spy struct {
	testing.TB
	mu    sync.Mutex
	lines []string
	ends  []func()
}

func (s *spy) Helper()          {}
func (s *spy) Cleanup(f func()) { s.ends = append(s.ends, f) }

func (s *spy) Log(args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprint(args...))
}

func TestALoggerWritesIntoTheTestUntilItEnds(t *testing.T) {
	s := &spy{TB: t}
	log := testenv.Logger(s)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { log.Debug("during", slog.Int("n", 1)) })
	}
	wg.Wait()
	for _, end := range s.ends {
		end()
	}
	log.Info("after")

	if len(s.lines) != 8 {
		t.Fatalf("%d lines, want 8: %q", len(s.lines), s.lines)
	}
	if got := s.lines[0]; !strings.Contains(got, "level=DEBUG msg=during n=1") || strings.HasSuffix(got, "\n") {
		t.Errorf("logged %q", got)
	}
}

func TestALateGoroutineMayStillLog(t *testing.T) {
	var log *slog.Logger
	t.Run("test", func(t *testing.T) { log = testenv.Logger(t) })
	log.Info("late") // would panic in the ended test's own log
}
