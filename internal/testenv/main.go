package testenv

import (
	"fmt"
	"os"
	"testing"
)

// Main runs the tests, stops the servers that they shared and ends the process.
// Without it a run still leaves no process behind: the servers die with this one.
func Main(m *testing.M) {
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

const (
	databaseURL  = "DATABASE_URL"
	kafkaBrokers = "KRIB_TEST_KAFKA_BROKERS"
)
