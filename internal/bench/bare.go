package bench

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A bareFan is what this machine does for the same frames without Krib: a loop that
// writes them to as many sockets, on a thread of its own.
type bareFan struct {
	out, in []net.Conn
	frame   []byte
	begun   atomic.Pointer[time.Time] // of the round that is being read
	read    chan error
	took    times
	wg      sync.WaitGroup
}

// fanBare writes the frame to n sockets, rounds times, each as soon as every socket
// has been read. It answers how many writes a second of the thread's processor time
// made, and how long each frame took from the beginning of its round.
func fanBare(n, rounds int, frame []byte) (perCPU float64, took []time.Duration, err error) {
	f := &bareFan{frame: frame, read: make(chan error, n)}
	defer f.close()
	if err := f.connect(n); err != nil {
		return 0, nil, err
	}
	for _, c := range f.in {
		f.wg.Go(func() { f.listen(c, rounds) })
	}
	var used time.Duration
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before := threadTime()
		err := f.write(rounds)
		used = threadTime() - before
		done <- err
	}()
	if err := <-done; err != nil {
		return 0, nil, err
	}
	return float64(n*rounds) / max(used, time.Microsecond).Seconds(), f.took.all, nil
}

func (f *bareFan) connect(n int) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer func() { _ = ln.Close() }()
	for range n {
		in, err := net.Dial("tcp", ln.Addr().String()) //nolint:noctx // to ourselves
		if err != nil {
			return fmt.Errorf("connecting: %w", err)
		}
		f.in = append(f.in, in)
		out, err := ln.Accept()
		if err != nil {
			return fmt.Errorf("accepting: %w", err)
		}
		f.out = append(f.out, out)
	}
	return nil
}

func (f *bareFan) listen(c net.Conn, rounds int) {
	buf := make([]byte, len(f.frame))
	for range rounds {
		_, err := io.ReadFull(c, buf)
		f.took.add(time.Since(*f.begun.Load()))
		if f.read <- err; err != nil {
			return
		}
	}
}

func (f *bareFan) write(rounds int) error {
	for range rounds {
		now := time.Now()
		f.begun.Store(&now)
		for _, c := range f.out {
			if _, err := c.Write(f.frame); err != nil {
				return fmt.Errorf("writing a bare frame: %w", err)
			}
		}
		for range f.out {
			if err := <-f.read; err != nil {
				return fmt.Errorf("reading a bare frame: %w", err)
			}
		}
	}
	return nil
}

func (f *bareFan) close() {
	for _, c := range append(f.in, f.out...) {
		_ = c.Close()
	}
	f.wg.Wait()
}
