package testenv

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// Logger writes everything, from debug up, into the test's own log. After the
// test it is silent: a goroutine that is late may still log, and testing would
// panic.
func Logger(tb testing.TB) *slog.Logger {
	tb.Helper()
	w := &testWriter{tb: tb}
	tb.Cleanup(w.end)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct {
	mu sync.Mutex
	tb testing.TB // nil after the test
}

// Write holds the lock while it logs, so that end waits for it.
func (w *testWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tb != nil {
		w.tb.Log(strings.TrimSuffix(string(line), "\n"))
	}
	return len(line), nil
}

func (w *testWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tb = nil
}
