package push

import "sort"

// A fifo holds entries in offset order and knows their size.
type fifo struct {
	entries []*entry
	bytes   int64
}

func (f *fifo) push(e *entry) {
	f.entries = append(f.entries, e)
	f.bytes += e.size()
}

func (f *fifo) empty() bool { return len(f.entries) == 0 }

func (f *fifo) first() *entry { return f.entries[0] }

func (f *fifo) pop() *entry {
	e := f.entries[0]
	f.entries[0] = nil // the array lives on until append grows into another one
	f.entries = f.entries[1:]
	f.bytes -= e.size()
	return e
}

func (f *fifo) clear() { *f = fifo{} }

// from are the entries at or above the offset; they share the fifo's array.
func (f *fifo) from(offset int64) []*entry {
	i := sort.Search(len(f.entries), func(i int) bool { return f.entries[i].offset() >= offset })
	return f.entries[i:]
}
