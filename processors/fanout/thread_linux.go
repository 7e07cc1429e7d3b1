package fanout

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the time for which the calling thread has run on a processor.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return time.Since(started) // a kernel without the clock
	}
	return time.Duration(t.Nano())
}
