//go:build unix

package integration_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/auth"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/webhook"
)

// TestTimers sets timers as a client may, and fires and delivers them as a scheduler may: each with the rights of its role and no others.
func TestTimers(t *testing.T) {
	t.Parallel()
	twice(t, testTimers)
}

func testTimers(t *testing.T, s *secured) {
	t.Helper()
	sink := newSink(t)
	admin := openTimersOn(t, s.admin(t, "shop.prod")) // makes the streams and the bucket of secrets, as `skybus up` does
	if _, err := admin.Secrets().Put(t.Context(), "hooks", webhook.NewSecret(), 0); err != nil {
		t.Fatal(err)
	}
	runs := s.login(t, auth.UserConfig{Role: auth.Scheduler, App: "shop", Env: "prod"}, "shop.prod")
	stop := runTimers(t, openTimersOn(t, runs))
	sets := s.login(t, auth.UserConfig{Role: auth.Client, App: "shop", Env: "prod", Timers: true}, "shop.prod")
	client := openTimersOn(t, sets)
	heard := hearDeliveries(t, client)
	setTimers(t, client, sink)
	for _, id := range []string{"once", "often", "by-hand", "paused"} {
		eventually(t, patience, id+" is delivered", func() bool { return len(sink.arrived(id)) > 0 })
	}
	for tm, err := range client.List(t.Context(), scheduler.Filter{}) {
		if err != nil || tm.ID == "" {
			t.Errorf("listed %+v, %v", tm, err)
		}
	}
	select {
	case <-heard:
	case <-time.After(patience):
		t.Error("no event was heard")
	}
	stop()
	harmless(t, runs, sets)
	if s.account == nil {
		return
	}
	// A client that was not given timers may not set any.
	_, err := scheduler.Open(t.Context(), s.client(t), scheduler.Config{})
	if bus.CodeOf(err) != bus.PermissionDenied {
		t.Errorf("opened by who may not: %v", err)
	}
}

// hearDeliveries tells of events until the test ends.
func hearDeliveries(t *testing.T, s *scheduler.Scheduler) <-chan scheduler.EventKind {
	t.Helper()
	heard := make(chan scheduler.EventKind, 1000)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		for e, err := range s.Watch(ctx, scheduler.EventFilter{Kinds: []scheduler.EventKind{scheduler.Delivered}}) {
			if err != nil {
				t.Error(err)
				return
			}
			heard <- e.Kind
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return heard
}

// setTimers does with timers all that a client may.
func setTimers(t *testing.T, client *scheduler.Scheduler, sink *sink) {
	t.Helper()
	for _, spec := range []scheduler.Spec{
		{ID: "once", After: 50 * time.Millisecond},
		{ID: "often", After: 50 * time.Millisecond, Repeat: &scheduler.Repeat{Every: 200 * time.Millisecond}},
		{ID: "by-hand", After: time.Hour},
		{ID: "paused", After: 50 * time.Millisecond, Paused: true},
		{ID: "cancelled", After: time.Hour},
		{ID: "published", After: 50 * time.Millisecond, Target: scheduler.Target{Transport: "nats", URI: "shop.prod.pub.a"}},
	} {
		if spec.Target.URI == "" {
			spec.Target = sink.target()
		}
		if _, err := client.Create(t.Context(), spec); err != nil {
			t.Fatalf("create %q: %v", spec.ID, err)
		}
	}
	_, err1 := client.FireNow(t.Context(), "by-hand", 0)
	_, err2 := client.Resume(t.Context(), "paused", 0)
	err3 := client.Cancel(t.Context(), "cancelled", 0)
	_, err4 := client.Update(t.Context(), "often", 0, scheduler.Spec{Target: sink.target(), Repeat: &scheduler.Repeat{Every: 300 * time.Millisecond}})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
}

func openTimersOn(t *testing.T, conn *bus.Conn) *scheduler.Scheduler {
	t.Helper()
	s, err := scheduler.Open(t.Context(), conn, scheduler.Config{AllowNetworks: loopback()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func runTimers(t *testing.T, s *scheduler.Scheduler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // stop waits for it
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
