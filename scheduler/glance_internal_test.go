package scheduler

import (
	"strconv"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// openIn opens a scheduler of one shard in a namespace.
func openIn(t *testing.T, n *bustest.Node, env string) *Scheduler {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: n, Namespace: "default." + env})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, conn)
	s, err := Open(t.Context(), conn, Config{Shards: 1, AllowNetworks: loopback()})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	return s
}

// An owner reads all that is stored in pages, other namespaces' timers and deliveries among it, and keeps what is its own.
func TestBodies(t *testing.T) {
	t.Parallel()
	n := bustest.Server(t)
	s, other := openIn(t, n, "dev"), openIn(t, n, "test")
	target := Target{URI: "http://127.0.0.1:9999/"}
	specs := func(n int, prefix string) func(func(Spec) bool) {
		return func(yield func(Spec) bool) {
			for i := range n {
				if !yield(Spec{ID: prefix + strconv.Itoa(i), After: time.Hour, Target: target}) {
					return
				}
			}
		}
	}
	const mine = 2*pageBodies + 7
	for _, err := range s.CreateMany(t.Context(), specs(mine, "t-")) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range other.CreateMany(t.Context(), specs(100, "t-")) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.FireNow(t.Context(), "t-1", 0); err != nil { // it is due, and no timer any more
		t.Fatal(err)
	}
	if _, err := s.Pause(t.Context(), "t-2", 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Cancel(t.Context(), "t-3", 0); err != nil {
		t.Fatal(err)
	}
	sh := s.shards[0]
	o := s.newOwner(sh)
	read, last := 0, uint64(0)
	next, err := s.bodies(t.Context(), sh, 0, func(body []byte, seq uint64) {
		read++
		if seq < last {
			t.Fatalf("sequence %d after %d", seq, last)
		}
		last = seq
		o.glance(body, seq)
	})
	if err != nil || read < mine-2+100 || next <= uint64(mine+100) || last == 1 {
		t.Fatalf("read %d, next is %d: %v", read, next, err)
	}
	if got := o.far.len(); got != mine-2 { // with what is due, until it is fetched
		t.Errorf("%d timers are known, want %d", got, mine-2)
	}
	if err := o.fetch(t.Context(), []entry{o.far.pop()}, []string{sh.subject(kindPending, "t-1")}); err != nil || o.far.len() != mine-3 {
		t.Errorf("%d timers are known after it was fetched, want %d: %v", o.far.len(), mine-3, err)
	}
	if again, err := s.bodies(t.Context(), sh, next, func([]byte, uint64) { t.Error("there is more") }); err != nil || again != next {
		t.Errorf("after the end: %d, %v", again, err)
	}
}

// What an owner has guessed is true once it was fetched.
func TestGuess(t *testing.T) {
	t.Parallel()
	q := newQueue()
	q.put("a", 100, 10)
	q.guess("a", 50, 5) // another state, perhaps a newer one
	if e, _ := q.first(); e != (entry{id: "a", due: 50, seq: 10}) {
		t.Errorf("%+v", e)
	}
	q.guess("a", 70, 5)
	if e, _ := q.first(); e.due != 50 {
		t.Errorf("%+v", e)
	}
	q.guess("a", 70, 11)
	if e, _ := q.first(); e != (entry{id: "a", due: 50, seq: 11}) { // a delivery of an earlier life of the id, perhaps
		t.Errorf("%+v", e)
	}
	q.guess("b", 40, 1)
	if e, _ := q.first(); e.id != "b" || q.len() != 2 {
		t.Errorf("%+v", e)
	}
}
