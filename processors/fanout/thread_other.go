//go:build !linux

package fanout

import "time"

// threadTime is the time that has passed: Go has no clock of a thread here.
func threadTime() time.Duration { return time.Since(started) }
