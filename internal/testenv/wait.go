package testenv

import (
	"testing"
	"time"
)

// patience is how long a test waits for something real before it fails.
const patience = 30 * time.Second

// Eventually asks ok every 10 ms until it is true, and fails the test after 30 s.
// It is for real brokers, which tell nobody when they have done something; where
// there is a channel or a fake clock, wait on that.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("after %v still not true: %s", patience, what)
		}
	}
}
