package scheduler

import (
	"math/rand/v2"
	"strconv"
	"testing"
)

// The queue against a map, by random changes.
func TestQueue(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	q, want := newQueue(), map[string]entry{}
	for seq := uint64(1); seq < 20000; seq++ {
		id := strconv.Itoa(r.IntN(300))
		switch r.IntN(4) {
		case 0, 1:
			due := r.Int64N(1000)
			q.put(id, due, seq)
			want[id] = entry{id: id, due: due, seq: seq}
		case 2:
			q.remove(id, seq)
			delete(want, id)
		case 3:
			if e, ok := want[id]; ok { // too old to count
				q.put(id, -1, e.seq-1)
				q.remove(id, e.seq-1)
			}
			if e, ok := q.first(); ok && r.IntN(2) == 0 {
				if q.pop() != e {
					t.Fatal("pop takes out another than the first")
				}
				delete(want, e.id)
			}
		}
		checkQueue(t, q, want)
	}
	for last := int64(-1); q.len() > 0; {
		e := q.pop()
		if e.due < last {
			t.Fatalf("%d after %d", e.due, last)
		}
		last = e.due
	}
}

func checkQueue(t *testing.T, q *queue, want map[string]entry) {
	t.Helper()
	if q.len() != len(want) || len(q.byID) != len(want) || len(q.entries) != len(want)+len(q.free) {
		t.Fatalf("%d in the queue, %d by id, %d free of %d; want %d", q.len(), len(q.byID), len(q.free), len(q.entries), len(want))
	}
	if e, ok := q.first(); ok {
		for _, w := range want {
			if w.due < e.due {
				t.Fatalf("first is due at %d, %q at %d", e.due, w.id, w.due)
			}
		}
		if w := want[e.id]; w.due != e.due || w.seq != e.seq {
			t.Fatalf("first is %+v, want %+v", e, w)
		}
	}
}

// Of several guesses of one timer the earliest counts, in whatever order they come: to look too early costs nothing but that.
func TestQueueGuesses(t *testing.T) {
	t.Parallel()
	for _, dues := range [][]entry{{{due: 10, seq: 1}, {due: 70, seq: 1}}, {{due: 70, seq: 1}, {due: 10, seq: 1}}, {{due: 10, seq: 1}, {due: 70, seq: 500}}} {
		q := newQueue()
		for _, e := range dues {
			q.guess("a", e.due, e.seq)
		}
		if e, ok := q.first(); !ok || e.due != 10 {
			t.Errorf("after %+v it is due at %d", dues, e.due)
		}
	}
}
