package scheduler_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// hangAtDead delivers but to one destination, which hangs.
func hangAtDead(ctx context.Context, d *scheduler.Delivery) error {
	if d.Target.URI == "memory://dead" {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// One destination that hangs keeps nobody waiting: neither for places nor for what the server hands out.
func TestDeadDestinationDelaysNobody(t *testing.T) {
	t.Parallel()
	m := newMemory(hangAtDead)
	cfg := config(m)
	cfg.Workers, cfg.PerDestination, cfg.Drain = 64, 8, 100*time.Millisecond
	s := launch(t, bustest.Server(t), cfg)
	at := time.Now().Add(5 * time.Second)
	specs := func(yield func(scheduler.Spec) bool) {
		for i := range 1500 {
			if !yield(scheduler.Spec{At: at, Target: toMemory("dead")}) {
				return
			}
			if i%15 == 0 && !yield(scheduler.Spec{At: at.Add(time.Duration(2*i) * time.Millisecond), Target: toMemory("alive")}) {
				return
			}
		}
	}
	for _, err := range s.CreateMany(t.Context(), specs) {
		if err != nil {
			t.Fatal(err)
		}
	}
	alive := func() (late []time.Duration) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i, d := range m.seen {
			if d.Target.URI == "memory://alive" {
				late = append(late, m.at[i].Sub(d.Due))
			}
		}
		return late
	}
	bustest.Eventually(t, "all that can be delivered", func() bool { return len(alive()) == 100 })
	late := alive()
	slices.Sort(late)
	t.Logf("late: median %s, p90 %s, most %s; %+v", late[50], late[90], late[99], s.Stats())
	if late[99] > 8*time.Second { // an attempt at the dead one lasts 15 s
		t.Errorf("late: median %s, most %s", late[50], late[99])
	}
	if st := s.Stats(); st.Deferred < 500 || st.InFlight > 8 {
		t.Errorf("stats %+v", st)
	}
}

// However few places there are, a destination that hangs leaves some to others.
func TestDeadDestinationLeavesPlaces(t *testing.T) {
	t.Parallel()
	m := newMemory(hangAtDead)
	cfg := config(m)
	cfg.Workers, cfg.Drain = 4, 100*time.Millisecond
	s := launch(t, bustest.Server(t), cfg)
	for i := range 8 {
		set(t, s, scheduler.Spec{ID: fmt.Sprint("dead", i), Target: toMemory("dead")})
	}
	bustest.Eventually(t, "the dead one is called", func() bool { return s.Stats().InFlight == 2 })
	set(t, s, scheduler.Spec{ID: "alive", Target: toMemory("alive")})
	begin := time.Now()
	bustest.Eventually(t, "the other one is, too", func() bool { return m.count() == 3 })
	if took := time.Since(begin); took > 10*time.Second { // an attempt at the dead one lasts 15 s
		t.Errorf("it took %s", took)
	}
}

// What a slow destination does not take at once waits without an attempt, and is delivered all the same.
func TestSlowDestination(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	m := newMemory(func(context.Context, *scheduler.Delivery) error {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old; old = most.Load() {
			if most.CompareAndSwap(old, n) {
				break
			}
		}
		time.Sleep(20 * time.Millisecond) // is slow
		return nil
	})
	cfg := config(m)
	cfg.PerDestination = 2
	s := launch(t, bustest.Server(t), cfg)
	for i := range 200 {
		set(t, s, scheduler.Spec{ID: fmt.Sprint("t", i)})
	}
	bustest.Eventually(t, "all deliveries", func() bool { return m.count() == 200 })
	for _, d := range m.all() {
		if d.Attempt != 1 {
			t.Errorf("attempt %d of %s", d.Attempt, d.TimerID)
		}
	}
	if n := most.Load(); n != 2 {
		t.Errorf("%d at once, want 2", n)
	}
	if st := s.Stats(); st.Deferred == 0 {
		t.Errorf("nothing was put off: %+v", st)
	}
}

// After five failures in a row a destination is left alone; what is put off is no attempt.
func TestBreaker(t *testing.T) {
	t.Parallel()
	m := newMemory(func(_ context.Context, d *scheduler.Delivery) error {
		if d.Target.URI == "memory://alive" {
			return nil
		}
		return &scheduler.DeliveryError{Unharmed: d.Target.URI == "memory://refuses", Err: bus.Errorf(bus.Unavailable, "down")}
	})
	s := launch(t, bustest.Server(t), config(m))
	for i := range 30 {
		once := scheduler.Retry{MaxAttempts: 1}
		set(t, s, scheduler.Spec{ID: fmt.Sprint("a", i), Target: toMemory("down"), Retry: once})
		set(t, s, scheduler.Spec{ID: fmt.Sprint("b", i), Target: toMemory("refuses"), Retry: once})
		set(t, s, scheduler.Spec{ID: fmt.Sprint("c", i), Target: toMemory("alive"), Retry: once})
		if i < 5 {
			bustest.Eventually(t, "the calls", func() bool { return m.count() == 3*(i+1) })
		}
	}
	calls := func() map[string]int {
		n := map[string]int{}
		for _, d := range m.all() {
			n[d.Target.URI]++
		}
		return n
	}
	bustest.Eventually(t, "the others", func() bool { return calls()["memory://refuses"] == 30 && calls()["memory://alive"] == 30 })
	bustest.Eventually(t, "what is put off", func() bool { return s.Stats().Deferred >= 25 })
	if n := calls()["memory://down"]; n < 5 || n > 10 { // on a busy machine it has had its first probes
		t.Errorf("%d calls of a destination that is down, want 5 or a few more", n)
	}
	bustest.Eventually(t, "it to be left alone", func() bool { return slices.Equal(s.Stats().Ejected, []string{"memory memory://down"}) })
	timer, err := s.Get(t.Context(), "a29")
	if err != nil || timer.State != scheduler.Retrying || len(timer.Attempts) > 1 || time.Until(timer.NextAttempt) > 40*time.Second {
		t.Errorf("%+v, %v", timer, err)
	}
}
