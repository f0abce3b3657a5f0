package scheduler

import "strings"

// queue holds what is known of many timers, by when they are due, in little memory: about 100 bytes each, and the id.
type queue struct {
	entries []entry
	free    []int32 // of entries, not in use
	heap    []int32 // of entries, a binary heap by due
	byID    map[string]int32
}

type entry struct {
	id  string
	due int64
	seq uint64
	pos int32 // in the heap
}

func newQueue() *queue { return &queue{byID: map[string]int32{}} }

func (q *queue) len() int { return len(q.heap) }

// put adds a timer, or moves it, unless the queue knows of something newer.
func (q *queue) put(id string, due int64, seq uint64) {
	if i, ok := q.byID[id]; ok {
		e := &q.entries[i]
		if seq < e.seq {
			return
		}
		e.due, e.seq = due, seq
		q.down(q.up(int(e.pos)))
		return
	}
	i := int32(len(q.entries))
	if n := len(q.free); n > 0 {
		i, q.free = q.free[n-1], q.free[:n-1]
	} else {
		q.entries = append(q.entries, entry{})
	}
	q.entries[i] = entry{id: id, due: due, seq: seq, pos: int32(len(q.heap))}
	q.heap = append(q.heap, i)
	q.byID[id] = i
	q.up(len(q.heap) - 1)
}

// guess puts a timer that may be due then, as of a sequence not before seq. Of what is known already the earlier time counts: there may be deliveries of
// earlier lives of the id besides, in any order.
func (q *queue) guess(id string, due int64, seq uint64) {
	i, ok := q.byID[id]
	if !ok {
		q.put(strings.Clone(id), due, seq)
		return
	}
	e := &q.entries[i]
	e.seq, e.due = max(e.seq, seq), min(e.due, due)
	q.down(q.up(int(e.pos)))
}

// remove takes a timer out, unless the queue knows of something newer than seq.
func (q *queue) remove(id string, seq uint64) {
	i, ok := q.byID[id]
	if !ok || q.entries[i].seq > seq {
		return
	}
	q.take(int(q.entries[i].pos))
}

// first is the timer that is due first.
func (q *queue) first() (entry, bool) {
	if len(q.heap) == 0 {
		return entry{}, false
	}
	return q.entries[q.heap[0]], true
}

// pop takes out the timer that is due first. There must be one.
func (q *queue) pop() entry {
	e := q.entries[q.heap[0]]
	q.take(0)
	return e
}

func (q *queue) take(pos int) {
	i, last := q.heap[pos], len(q.heap)-1
	q.swap(pos, last)
	q.heap = q.heap[:last]
	if pos < last {
		q.down(q.up(pos))
	}
	delete(q.byID, q.entries[i].id)
	q.entries[i] = entry{}
	q.free = append(q.free, i)
	if last == 0 { // nothing is left: give the memory back
		*q = *newQueue()
	}
}

func (q *queue) swap(a, b int) {
	q.heap[a], q.heap[b] = q.heap[b], q.heap[a]
	q.entries[q.heap[a]].pos, q.entries[q.heap[b]].pos = int32(a), int32(b)
}

func (q *queue) less(a, b int) bool { return q.entries[q.heap[a]].due < q.entries[q.heap[b]].due }

// up moves what is at pos towards the top, and returns where it is then.
func (q *queue) up(pos int) int {
	for pos > 0 {
		parent := (pos - 1) / 2
		if !q.less(pos, parent) {
			break
		}
		q.swap(pos, parent)
		pos = parent
	}
	return pos
}

func (q *queue) down(pos int) {
	for {
		child := 2*pos + 1
		if child >= len(q.heap) {
			return
		}
		if right := child + 1; right < len(q.heap) && q.less(right, child) {
			child = right
		}
		if !q.less(child, pos) {
			return
		}
		q.swap(pos, child)
		pos = child
	}
}
