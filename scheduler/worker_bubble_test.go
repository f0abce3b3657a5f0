package scheduler_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// A process that dies between the call and its acknowledgement: another one makes the call again, after half a minute, with the same id.
func TestRedelivery(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		n := bustest.Server(t)
		forever := make(chan struct{})
		dying := newMemory(func(context.Context, *scheduler.Delivery) error { <-forever; return nil })
		conn, err := bus.Connect(t.Context(), bus.Config{InProcess: n})
		if err != nil {
			t.Fatal(err)
		}
		first, err := scheduler.Open(t.Context(), conn, config(dying))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- first.Run(t.Context()) }()
		if _, err := first.Create(t.Context(), scheduler.Spec{ID: "t1", After: time.Second, Target: toMemory("a")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if dying.count() != 1 {
			t.Fatalf("%d calls", dying.count())
		}
		conn.NATS().Close()

		began := time.Now()
		other := newMemory(nil)
		second := launch(t, n, config(other))
		time.Sleep(time.Minute)
		if other.count() != 1 {
			t.Fatalf("%d calls by the other process", other.count())
		}
		a, b := dying.all()[0], other.all()[0]
		if a.ID != b.ID || b.Attempt != 1 {
			t.Errorf("first %+v, then %+v", a, b)
		}
		if after := other.at[0].Sub(began); after > 30*time.Second {
			t.Errorf("after %s", after)
		}
		if _, err := second.Get(t.Context(), "t1"); bus.CodeOf(err) != bus.NotFound {
			t.Errorf("get: %v", err)
		}
		close(forever)
		if err := <-ended; bus.CodeOf(err) != bus.Unavailable {
			t.Errorf("run without a connection: %v", err)
		}
	})
}

// A delivery that takes long stays with the process that has it.
func TestLongDelivery(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		n := bustest.Server(t)
		long := newMemory(func(ctx context.Context, _ *scheduler.Delivery) error {
			select {
			case <-time.After(5 * time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		s := launch(t, n, config(long))
		other := launch(t, n, config(long))
		set(t, s, scheduler.Spec{ID: "t1", Target: scheduler.Target{Timeout: 10 * time.Minute}})
		time.Sleep(6 * time.Minute)
		if long.count() != 1 || s.Stats().Delivered+other.Stats().Delivered != 1 {
			t.Errorf("%d calls; %+v, %+v", long.count(), s.Stats(), other.Stats())
		}
	})
}

// A destination that fails is tried less and less, gets one probe when its ejection is over, and then all that waits.
func TestBreakerProbes(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		var well atomic.Bool
		m := newMemory(func(context.Context, *scheduler.Delivery) error {
			if well.Load() {
				return nil
			}
			return bus.Errorf(bus.Unavailable, "down")
		})
		s := launch(t, bustest.Server(t), config(m))
		for range 50 {
			set(t, s, scheduler.Spec{After: time.Second})
		}
		time.Sleep(20 * time.Second)
		if n := m.count(); n < 5 || n > 50 {
			t.Errorf("%d calls before the ejection", n)
		}
		before := m.count()
		time.Sleep(5 * time.Minute)
		if n := m.count() - before; n < 5 || n > 20 {
			t.Errorf("%d probes in five minutes", n)
		}
		well.Store(true)
		time.Sleep(5 * time.Minute)
		if st := s.Stats(); st.Delivered != 50 || st.Dead != 0 || len(st.Ejected) != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// What is put off has its age, too.
func TestPutOffUntilTooOld(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		m := newMemory(func(context.Context, *scheduler.Delivery) error { return bus.Errorf(bus.Unavailable, "down") })
		s := launch(t, bustest.Server(t), config(m))
		for range 10 {
			set(t, s, scheduler.Spec{After: time.Second, Retry: scheduler.Retry{MaxAge: 10 * time.Second}})
		}
		time.Sleep(2 * time.Minute)
		if st := s.Stats(); st.Dead != 10 {
			t.Errorf("stats %+v", st)
		}
	})
}

// Occurrences that are to wait for the earlier one do.
func TestBufferOne(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		var now, most atomic.Int32
		m := newMemory(func(_ context.Context, d *scheduler.Delivery) error {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			if d.Occurrence == 1 && d.Attempt == 1 {
				return bus.Errorf(bus.Unavailable, "down")
			}
			time.Sleep(8 * time.Second)
			return nil
		})
		s := launch(t, bustest.Server(t), config(m))
		for n := 1; n <= 2; n++ {
			record := fmt.Sprintf(`{"g":"G","n":%d,"t":{"transport":"memory","uri":"memory://a"},"r":{"first":3000000000},"p":{"every":5000000000,"overlap":"buffer_one"}}`, n)
			storeRaw(t, s, dueSubject("t1"), nats.Header{"Skybus-Fired-Ns": {"1"}}, body(t, record, time.Now(), ""))
		}
		time.Sleep(3 * time.Minute) // fake time: all are done
		all := m.all()
		if len(all) != 3 || most.Load() != 1 {
			t.Fatalf("%d calls, %d at once", len(all), most.Load())
		}
		for i := 1; i < len(all); i++ {
			if all[i].Occurrence < all[i-1].Occurrence {
				t.Errorf("occurrence %d after %d", all[i].Occurrence, all[i-1].Occurrence)
			}
		}
	})
}

// An occurrence waits for the earlier one also where the timer was updated meanwhile.
func TestBufferOneAfterUpdate(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		var now, most atomic.Int32
		m := newMemory(func(context.Context, *scheduler.Delivery) error {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(30 * time.Second) // fake time: a delivery takes so long
			return nil
		})
		s := launch(t, bustest.Server(t), config(m))
		spec := scheduler.Spec{ID: "t1", Target: toMemory("a"), Repeat: &scheduler.Repeat{Every: 5 * time.Second, Max: 2, Overlap: scheduler.BufferOne}}
		set(t, s, spec)
		time.Sleep(6 * time.Second) // the first is being delivered
		if _, err := s.Update(t.Context(), "t1", 0, spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute) // fake time: all are done
		all := m.all()
		if len(all) != 2 || all[0].Occurrence != 1 || all[1].Occurrence != 2 || most.Load() != 1 {
			t.Errorf("%d at once of %+v", most.Load(), all)
		}
	})
}

// A destination that is slow, but well, gets what was put off as fast as it takes it.
func TestSlowDestinationIsKeptBusy(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		m := newMemory(func(context.Context, *scheduler.Delivery) error { time.Sleep(20 * time.Millisecond); return nil })
		cfg := config(m)
		cfg.PerDestination = 2
		s := launch(t, bustest.Server(t), cfg)
		at := time.Now().Add(5 * time.Second)
		const n = 2000
		for _, err := range s.CreateMany(t.Context(), func(yield func(scheduler.Spec) bool) {
			for range n {
				if !yield(scheduler.Spec{At: at, Target: toMemory("a")}) {
					return
				}
			}
		}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Until(at) + 30*time.Second) // 20 s are what it takes
		if m.count() != n {
			t.Errorf("%d of %d were delivered; %+v", m.count(), n, s.Stats())
		}
	})
}

// A destination that was away for a second, as one that is started again, has all its timers within seconds.
func TestBreakerIsShortAtFirst(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		var away atomic.Bool
		m := newMemory(func(context.Context, *scheduler.Delivery) error {
			if away.Load() {
				return bus.Errorf(bus.Unavailable, "down")
			}
			return nil
		})
		s := launch(t, bustest.Server(t), config(m))
		for i := range 200 {
			set(t, s, scheduler.Spec{After: time.Duration(i+1) * 20 * time.Millisecond, Retry: scheduler.Retry{First: 100 * time.Millisecond, Last: time.Second}})
		}
		time.Sleep(time.Second)
		away.Store(true)
		time.Sleep(time.Second)
		away.Store(false)
		time.Sleep(8 * time.Second) // the last is due after two of them
		if st := s.Stats(); st.Delivered != 200 || len(st.Ejected) != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}
