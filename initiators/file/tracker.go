package file

import "sync"

// position is how far a file is done: everything before Offset.
type position struct {
	offset  int64
	number  int64 // of the last record before it
	refused int64 // of the records up to it
}

// tracker knows which records of a file were sent and are not done. Those that are done out of order wait for those before them.
type tracker struct {
	mu    sync.Mutex
	low   position
	base  uint64 // of the first entry
	open  []tracked
	first int // of open: those before it are done
}

type tracked struct {
	end     int64
	number  int64
	done    bool
	refused bool
}

// add takes a record that will be sent, and returns its place.
func (t *tracker) add(end, number int64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = append(t.open, tracked{end: end, number: number})
	return t.base + uint64(len(t.open)-1)
}

// done takes a record that the target took, or refused.
func (t *tracker) done(seq uint64, refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &t.open[seq-t.base]
	e.done, e.refused = true, refused
	for t.first < len(t.open) && t.open[t.first].done {
		e := t.open[t.first]
		t.low.offset, t.low.number = e.end, e.number
		if e.refused {
			t.low.refused++
		}
		t.first++
	}
	if t.first > len(t.open)/2 {
		t.base += uint64(t.first)
		t.open = append(t.open[:0], t.open[t.first:]...)
		t.first = 0
	}
}

// position is how far all is done, and whether nothing is on its way.
func (t *tracker) position() (low position, idle bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.low, t.first == len(t.open)
}

// start is where the first record begins that may come again.
func (t *tracker) start() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.low.offset
}
