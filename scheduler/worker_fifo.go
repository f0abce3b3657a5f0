package scheduler

import "time"

// fifo is first in, first out. The zero value is empty.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(v T) {
	if q.head > 32 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// oldest stays where it is. There must be one.
func (q *fifo[T]) oldest() T { return q.items[q.head] }

// pop is the oldest. There must be one.
func (q *fifo[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}

// popNewest is the newest. There must be one.
func (q *fifo[T]) popNewest() T {
	var zero T
	last := len(q.items) - 1
	v := q.items[last]
	q.items[last] = zero
	if q.items = q.items[:last]; q.head == last {
		q.items, q.head = q.items[:0], 0
	}
	return v
}

// parcels is a list of parcels, the one the server has heard of longest ago first.
type parcels struct {
	first, last *parcel
	n           int
}

func (l *parcels) add(x *parcel, now time.Time) {
	x.heard, x.before, x.after = now, l.last, nil
	if l.last == nil {
		l.first = x
	} else {
		l.last.after = x
	}
	l.last = x
	l.n++
}

func (l *parcels) remove(x *parcel) {
	if x.before == nil {
		l.first = x.after
	} else {
		x.before.after = x.after
	}
	if x.after == nil {
		l.last = x.before
	} else {
		x.after.before = x.before
	}
	x.before, x.after = nil, nil
	l.n--
}
