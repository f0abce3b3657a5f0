package scheduler_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

func open(t *testing.T, cfg scheduler.Config) (*bus.Conn, *scheduler.Scheduler) {
	t.Helper()
	if cfg.AllowNetworks == nil {
		cfg.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	n := bustest.Server(t)
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := scheduler.Open(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return conn, s
}

func TestFires(t *testing.T) {
	t.Parallel()
	conn, s := open(t, scheduler.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	fired := make(chan *nats.Msg, 10)
	sub, err := conn.NATS().ChanSubscribe("default.dev.ev.timer.fired.*", fired)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	time.Sleep(200 * time.Millisecond)
	for i := range 3 {
		tm, err := s.Create(t.Context(), scheduler.Spec{After: 300 * time.Millisecond, Target: scheduler.Target{URI: "http://127.0.0.1:9999/"}, Payload: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		m := <-fired
		t.Log(i, time.Since(tm.Due), string(m.Data))
	}
}
