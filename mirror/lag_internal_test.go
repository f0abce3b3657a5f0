package mirror

import (
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// A process that hears the first commit of a repaired backend before its record must not take the old beginning for what is applied, nor keep to it.
func TestProgressHeardBesideTheRecord(t *testing.T) {
	t.Parallel()
	n := newNodeState(4)
	old := Backend{Name: "a", From: 1000, Generation: 1}
	repaired := Backend{Name: "a", From: 499, Generation: 2}
	n.renew(old)
	n.take(&progress{Generation: 1, Term: "t", Read: 2000}, 10)
	n.take(&progress{Generation: 2, Term: "t", Read: 600, Marks: [][2]uint64{{1, 520}}}, 11)
	if got := n.floor.Load(); got != 520 {
		t.Errorf("floor is %d before its record is heard, want no more than 520, what the sender has committed", got)
	}
	n.renew(repaired)
	if got := n.marks[0].Load(); got != 600 {
		t.Errorf("mark is %d once its record is heard, want 600", got)
	}
	if n.take(&progress{Generation: 1, Term: "t", Read: 3000}, 12); n.floor.Load() != 499 {
		t.Errorf("floor is %d by a commit of the time before, want 499", n.floor.Load())
	}
}

// The sender says how far a backend is behind also while nothing of what it lacks is in memory.
func TestLagWhileNothingIsInMemory(t *testing.T) {
	t.Parallel()
	s := &sender{m: &Mirror{cfg: Config{Window: 10, WindowBytes: 1 << 20}}}
	s.tail = newTail(s, 0)
	a := &applier{s: s, node: &node{Backend: Backend{Name: "a"}, nodeState: newNodeState(1)}, lanes: make([]lane, 1), unread: unread{alone: true, n: 90_000}}
	a.lanes[0].mark = 5 // what was read before is applied
	a.offer(&write{seq: 5, lane: 0, at: time.Now().Add(-time.Hour)})
	p, _ := a.snapshot("t")
	if p.Waiting == 0 || p.Lag < time.Hour.Milliseconds()-1000 {
		t.Errorf("%d writes wait and the lag is %d ms, want about an hour", p.Waiting, p.Lag)
	}
}

// What a backend lacked of a stream that is gone is no lag any more, however few writes the present one has.
func TestLagEndsWithItsStream(t *testing.T) {
	t.Parallel()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m, err := Open(t.Context(), conn, Config{Observe: true}) // it has no pulse of its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	b := Backend{Name: "a", URL: "http://127.0.0.1:1", Active: true}
	store := func(n int, opts ...SetOption) {
		t.Helper()
		for range n {
			if _, err := conn.JetStream().Publish(t.Context(), m.space.write(0), nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := m.Set(t.Context(), b, opts...); err != nil {
			t.Fatal(err)
		}
	}
	store(5)
	store(1)
	m.beat(t.Context())
	if n := m.node("a"); n.reads.missing.Load() != 6 || n.lagged(time.Now().Add(time.Minute).UnixNano()) < time.Minute/2 {
		t.Fatalf("lacks write %d and has a lag of %v", n.reads.missing.Load(), n.lagged(time.Now().Add(time.Minute).UnixNano()))
	}
	if err := conn.JetStream().DeleteStream(t.Context(), streamWrites); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.OpenStream(t.Context(), streamConfigs()[1]); err != nil {
		t.Fatal(err)
	}
	store(1, From(2))
	m.beat(t.Context())
	if lag := m.node("a").lagged(time.Now().Add(time.Minute).UnixNano()); lag != 0 {
		t.Errorf("a backend that has all of the new stream has a lag of %v", lag)
	}
}
