package retry

import (
	"container/heap"
	"sync"
	"time"

	"github.com/krib-ai/krib/internal/kafka"
)

// A hold keeps the records of one partition until each is due.
//
// The jitter belongs to the subscription, so records are not due in the order of
// their offsets, and the earliest is found by a heap. Both the timer's end and a
// new record may find something due at the same moment; they move it under the
// lock, so that records that are due together leave in their order.
type hold struct {
	move func(*kafka.Item, time.Time)

	mu      sync.Mutex
	items   dueHeap
	timer   *time.Timer
	stopped bool
}

func newHold(move func(*kafka.Item, time.Time)) *hold { return &hold{move: move} }

func (h *hold) add(it *kafka.Item, due time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	heap.Push(&h.items, held{it, due})
	if h.items[0].item == it {
		h.wind()
	}
}

// wind sets the timer on the earliest record.
func (h *hold) wind() {
	wait := max(0, time.Until(h.items[0].due))
	if h.timer == nil {
		h.timer = time.AfterFunc(wait, h.ring)
		return
	}
	h.timer.Reset(wait)
}

// ring moves what is due. A timer that was reset may still ring for its former
// time; then nothing is due and it is only wound again.
func (h *hold) ring() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	for len(h.items) > 0 && !h.items[0].due.After(time.Now()) {
		x := heap.Pop(&h.items).(held) // the heap holds nothing else
		h.move(x.item, x.due)
	}
	if len(h.items) > 0 {
		h.wind()
	}
}

// stop forgets everything: the partition has left, and its next owner holds it.
func (h *hold) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped, h.items = true, nil
	if h.timer != nil {
		h.timer.Stop()
	}
}

func (h *hold) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.items)
}

type held struct {
	item *kafka.Item
	due  time.Time
}

// dueHeap orders by due time, and by offset where that is equal.
type dueHeap []held

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(a, b int) bool {
	if !h[a].due.Equal(h[b].due) {
		return h[a].due.Before(h[b].due)
	}
	return h[a].item.Record.Offset < h[b].item.Record.Offset
}
func (h dueHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(held)) } // as above
func (h *dueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = held{}
	*h = old[:len(old)-1]
	return x
}
