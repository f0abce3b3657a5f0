package scheduler

import (
	"context"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// Without an owner the server tells workers of a recurring timer that is overdue, and they fire it.
func TestWorkersFireWhatIsOverdue(t *testing.T) {
	t.Parallel()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	delivered := make(chan *Delivery, 100)
	s, err := Open(t.Context(), conn, Config{Grace: minGrace, Transports: map[string]Transport{"probe": channelTransport(delivered)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.runWorkers(ctx) }() // and no owner
	if _, err := s.Create(t.Context(), Spec{
		ID: "a", After: time.Millisecond, Target: Target{Transport: "probe", URI: "probe:x"}, Repeat: &Repeat{Every: time.Minute},
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case d := <-delivered:
		if d.TimerID != "a" || d.Occurrence != 1 || d.Fired.Before(d.Due) {
			t.Errorf("delivered %+v", d)
		}
	case <-time.After(30 * time.Second):
		t.Error("nothing was delivered")
	}
	bustest.Eventually(t, "the next occurrence", func() bool {
		tm, err := s.Get(t.Context(), "a")
		return err == nil && tm.Occurrence == 2
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type channelTransport chan *Delivery

func (channelTransport) Check(context.Context, Target) error { return nil }

func (c channelTransport) Deliver(_ context.Context, d *Delivery) error {
	c <- d
	return nil
}
