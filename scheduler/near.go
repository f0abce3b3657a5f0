package scheduler

import "container/heap"

// nearQueue holds timers that are due soon, whole.
type nearQueue struct {
	timers nearHeap
	byID   map[string]*nearTimer
	bytes  int // about what they take
	size   int // of one, by the last ones put
}

type nearTimer struct {
	m   *stored
	pos int
}

// put adds a timer or replaces an older state of it, and tells whether it is the one due first.
func (q *nearQueue) put(m *stored) bool {
	if t, ok := q.byID[m.id]; ok {
		if t.m.seq >= m.seq {
			return false
		}
		q.bytes += m.size() - t.m.size()
		t.m = m
		heap.Fix(&q.timers, t.pos)
		return t.pos == 0
	}
	q.size += (m.size() - q.size) / 8
	t := &nearTimer{m: m}
	q.byID[m.id] = t
	q.bytes += m.size()
	heap.Push(&q.timers, t)
	return t.pos == 0
}

// typical is about what one timer takes.
func (q *nearQueue) typical() int { return max(q.size, nearOverhead) }

// remove takes a timer out, unless its state is newer than seq.
func (q *nearQueue) remove(id string, seq uint64) {
	if t, ok := q.byID[id]; ok && t.m.seq <= seq {
		heap.Remove(&q.timers, t.pos)
		q.forget(t)
	}
}

// first is the timer that is due first, nil for none.
func (q *nearQueue) first() *stored {
	if len(q.timers) == 0 {
		return nil
	}
	return q.timers[0].m
}

// pop takes out the one that is due first. There must be one.
func (q *nearQueue) pop() *stored {
	t, _ := heap.Pop(&q.timers).(*nearTimer)
	q.forget(t)
	return t.m
}

func (q *nearQueue) forget(t *nearTimer) {
	delete(q.byID, t.m.id)
	q.bytes -= t.m.size()
}

// size is about how many bytes a timer takes in memory.
func (m *stored) size() int {
	return 2*len(m.body) + nearOverhead
}

const nearOverhead = 1 << 10 // maps of headers and the like

// nearHeap is a heap by due, for container/heap.
type nearHeap []*nearTimer

// Len is how many there are.
func (h *nearHeap) Len() int { return len(*h) }

// Less tells whether a is due before b.
func (h *nearHeap) Less(a, b int) bool { return (*h)[a].m.due < (*h)[b].m.due }

// Swap changes places.
func (h *nearHeap) Swap(a, b int) {
	s := *h
	s[a], s[b] = s[b], s[a]
	s[a].pos, s[b].pos = a, b
}

// Push adds a *nearTimer.
func (h *nearHeap) Push(x any) {
	t, _ := x.(*nearTimer)
	t.pos = len(*h)
	*h = append(*h, t)
}

// Pop takes the last one out.
func (h *nearHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}
