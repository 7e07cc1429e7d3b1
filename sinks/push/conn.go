package push

import (
	"sync"
	"sync/atomic"

	"github.com/krib-ai/krib/schemas"
)

// A conn is the queue between a partition, which must not wait, and the goroutine
// of one connection, which writes. The queue is bounded in bytes; a frame too many
// does not drop that frame, it ends the connection, and the client resumes.
type conn struct {
	host   schemas.HostID
	addr   string
	filter filter
	bound  int64
	total  *atomic.Int64 // what waits in all queues
	wake   chan struct{} // capacity 1: something changed since take
	abort  func()        // cuts it off

	from int64 // frames up to here are not for it; guarded by partition.mu

	mu      sync.Mutex
	queue   []frame
	queued  int64 // bytes in queue
	writing int64 // bytes that take has handed out and wrote has not seen
	end     *ending
}

// push queues a frame, or ends the connection where the bound is reached. A frame
// larger than the bound passes when nothing else waits: refused, it would be
// refused again after each resume.
func (c *conn) push(f frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := int64(len(f.bytes))
	switch waiting := c.queued + c.writing; {
	case c.end != nil:
		return // what comes after is for the next connection
	case waiting > 0 && waiting+n > c.bound:
		c.end = &ending{codeSlow, "the connection does not keep up; resume from the last id"}
		c.clear()
	default:
		c.add(f, n)
	}
	c.signal()
}

// pushAlways queues a control frame. There is at most one heartbeat each interval
// and one resync for each loss of the log, so they need no bound.
func (c *conn) pushAlways(f frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.add(f, int64(len(f.bytes)))
		c.signal()
	}
}

func (c *conn) add(f frame, n int64) {
	c.queue = append(c.queue, f)
	c.queued += n
	c.total.Add(n)
}

func (c *conn) clear() {
	c.total.Add(-c.queued)
	c.queue, c.queued = nil, 0
}

func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// finish ends the connection after what is queued. The first ending stands.
func (c *conn) finish(e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = &e
		c.signal()
	}
}

// ended is why the connection should end, or nil.
func (c *conn) ended() *ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// take hands everything queued to the writer, and why to end after it. The bytes
// count until wrote: they are in memory for as long as the write takes.
func (c *conn) take() ([]frame, *ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fs := c.queue
	c.queue = nil
	c.writing, c.queued = c.queued, 0
	return fs, c.end
}

func (c *conn) wrote() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total.Add(-c.writing)
	c.writing = 0
}

// drop forgets what waits, when the connection is gone.
func (c *conn) drop() {
	c.wrote()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = &ending{code: codeGone}
	}
	c.clear()
}
