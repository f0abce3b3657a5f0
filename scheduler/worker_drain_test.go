package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// A stop lets deliveries finish, and gives back what was not begun.
func TestDrain(t *testing.T) {
	t.Parallel()
	n := bustest.Server(t)
	release := make(chan struct{})
	began := make(chan struct{}, 100)
	slow := newMemory(func(ctx context.Context, _ *scheduler.Delivery) error {
		began <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	cfg := config(slow)
	cfg.PerDestination, cfg.Drain = 2, time.Minute
	first := launch(t, n, cfg)
	for i := range 10 {
		set(t, first, scheduler.Spec{ID: fmt.Sprint("t", i)})
	}
	<-began
	<-began
	var wg sync.WaitGroup
	wg.Go(first.stop)
	quick := newMemory(nil)
	second := launch(t, n, config(quick))
	bustest.Eventually(t, "the others", func() bool { return quick.count() == 8 })
	close(release)
	wg.Wait()
	for i := range 10 {
		gone(t, second, fmt.Sprint("t", i))
	}
	if n := slow.count() + quick.count(); n != 10 {
		t.Errorf("%d calls for 10 deliveries", n)
	}
}

// What is not finished in time goes to another process at once.
func TestDrainEnds(t *testing.T) {
	t.Parallel()
	n := bustest.Server(t)
	hanging := newMemory(func(ctx context.Context, _ *scheduler.Delivery) error {
		<-ctx.Done()
		return ctx.Err()
	})
	cfg := config(hanging)
	cfg.Drain = 50 * time.Millisecond
	first := launch(t, n, cfg)
	set(t, first, scheduler.Spec{ID: "t1"})
	bustest.Eventually(t, "the call", func() bool { return hanging.count() == 1 })
	first.stop()
	quick := newMemory(nil)
	launch(t, n, config(quick))
	bustest.Eventually(t, "the delivery by another process", func() bool { return quick.count() == 1 })
	if d := quick.all()[0]; d.Attempt != 1 {
		t.Errorf("attempt %d: one that was cut off is none", d.Attempt)
	}
	if n := first.Stats().Failed; n != 0 {
		t.Errorf("%d failed", n)
	}
}

// Servers may come and go.
func TestWorkersSurviveRestart(t *testing.T) {
	t.Parallel()
	n := bustest.Server(t)
	m := newMemory(nil)
	s := launch(t, n, config(m))
	set(t, s, scheduler.Spec{ID: "t1"})
	bustest.Eventually(t, "the first delivery", func() bool { return m.count() == 1 })
	n.Restart(t)
	bustest.Eventually(t, "another timer", func() bool {
		_, err := s.Create(t.Context(), scheduler.Spec{ID: "t2", After: time.Millisecond, Target: toMemory("a")})
		return err == nil || bus.CodeOf(err) == bus.AlreadyExists
	})
	bustest.Eventually(t, "its delivery", func() bool {
		return slices.ContainsFunc(m.all(), func(d scheduler.Delivery) bool { return d.TimerID == "t2" })
	})
	if err := s.conn.JetStream().DeleteConsumer(t.Context(), "SKYBUS_TMR_0", "default=dev"); err != nil {
		t.Fatal(err)
	}
	if err := s.conn.JetStream().DeleteConsumer(t.Context(), "SKYBUS_TMR_1", "default=dev"); err != nil {
		t.Fatal(err)
	}
	set(t, s, scheduler.Spec{ID: "t3"})
	bustest.Eventually(t, "the delivery by a new consumer", func() bool {
		return slices.ContainsFunc(m.all(), func(d scheduler.Delivery) bool { return d.TimerID == "t3" })
	})
}

// closable is a transport that has something to close.
type closable struct {
	*memory

	closed atomic.Int32
	before int // deliveries, when it was closed
}

func (c *closable) Close() error {
	c.closed.Add(1)
	c.before = c.count()
	return errors.New("it sticks")
}

// A transport is closed with the scheduler, once, after the last delivery.
func TestCloseClosesTransports(t *testing.T) {
	t.Parallel()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &closable{memory: newMemory(nil)}
	s, err := scheduler.Open(t.Context(), conn, scheduler.Config{Transports: map[string]scheduler.Transport{"memory": c}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	if _, err := s.Create(t.Context(), scheduler.Spec{After: time.Millisecond, Target: toMemory("a")}); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the delivery", func() bool { return c.count() == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), `close transport "memory": it sticks`) {
			t.Errorf("close: %v", err)
		}
	}
	if n := c.closed.Load(); n != 1 || c.before != 1 {
		t.Errorf("closed %d times, after %d deliveries", n, c.before)
	}
}
