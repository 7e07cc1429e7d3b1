package kafka

import (
	"sync/atomic"
	"time"
)

// A PauseReason is why a partition's fetching is paused. kgo holds one bit for
// each partition, so the reasons are kept here: one of two that ends must not
// end the other.
type PauseReason uint8

// The reasons to pause.
const (
	PauseSpan PauseReason = 1 << iota // the uncommitted span is at its bound
	PauseLane                         // its only lane with work is full
)

// pauses are how long the pauses that have ended took, by reason.
type pauses [PauseLane + 1]atomic.Int64

// Pause stops fetching for a reason. Records that were fetched already still
// come.
func (p *Partition) Pause(why PauseReason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pauseLocked(why)
}

// Resume takes one reason away; fetching goes on when none is left.
func (p *Partition) Resume(why PauseReason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resumeLocked(why)
}

func (p *Partition) pauseLocked(why PauseReason) {
	if p.closed {
		return
	}
	if p.paused == 0 {
		p.cl.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Number}})
	}
	if p.paused&why == 0 {
		p.pausedAt[why] = time.Now()
	}
	p.paused |= why
}

func (p *Partition) resumeLocked(why PauseReason) {
	if p.closed || p.paused&why == 0 {
		return
	}
	p.paused &^= why
	p.endLocked(why)
	if p.paused == 0 {
		p.cl.ResumeFetchPartitions(map[string][]int32{p.Topic: {p.Number}})
	}
}

func (p *Partition) endLocked(why PauseReason) {
	p.pauses[why].Add(int64(time.Since(p.pausedAt[why])))
	delete(p.pausedAt, why)
}

// PausedFor is how long partitions have been paused for a reason, all added up, with
// those that are paused now.
func (p *Parallel) PausedFor(why PauseReason) time.Duration {
	sum := time.Duration(p.paused[why].Load())
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.parts {
		part.mu.Lock()
		if at, ok := part.pausedAt[why]; ok {
			sum += time.Since(at)
		}
		part.mu.Unlock()
	}
	return sum
}
