package scheduler_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// Between the read of a timer and the write of what it becomes its stream may lose its leader: then who fires it by hand, or has a dead letter delivered again,
// waits for the next one, like all who change timers.
func TestWriteWithoutLeader(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, p, _ := r.run(t, scheduler.Config{Shards: 1})
	p.answer = func(d *scheduler.Delivery) error {
		if d.TimerID == "dead" {
			return &scheduler.DeliveryError{Permanent: true, Err: bus.Errorf(bus.Internal, "no")}
		}
		return nil
	}
	create(t, s, scheduler.Spec{ID: "dead", After: time.Millisecond})
	eventually(t, "the dead letter", func() bool { return s.Stats().Dead == 1 })
	create(t, s, scheduler.Spec{ID: "once", After: time.Hour})
	create(t, s, scheduler.Spec{ID: "often", Repeat: &scheduler.Repeat{Every: time.Hour}})
	for what, do := range map[string]func() error{
		"fire":            func() error { return second(s.FireNow(t.Context(), "once", 0)) },
		"fire, recurring": func() error { return second(s.FireNow(t.Context(), "often", 0)) },
		"redrive": func() error {
			for l, err := range s.DeadLetters().List(t.Context(), scheduler.DeadFilter{}) {
				if err != nil {
					return err
				}
				return s.DeadLetters().Redrive(t.Context(), l.ID)
			}
			return nil
		},
	} {
		before := len(p.all())
		back := refuseFires(t, r)
		done := make(chan error, 1)
		go func() { done <- do() }()
		back()
		if err := bustest.Receive(t, what, done); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		p.wait(t, before+1)
	}
}

// refuseFires makes the stream of the timers take nothing that is due, as without a leader; back lets it, once it was refused something.
func refuseFires(t *testing.T, r *rig) (back func()) {
	t.Helper()
	js := r.conn.JetStream()
	stream, err := js.Stream(t.Context(), "SKYBUS_TMR_0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	all := cfg.Subjects
	cfg.Subjects = []string{"skybus.tmr.0.s.>", "skybus.tmr.0.r.>"}
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{}, 1)
	sub, err := r.conn.NATS().Subscribe("skybus.tmr.0.f.>", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`))
		select {
		case refused <- struct{}{}:
		default:
		}
	})
	if err == nil {
		err = r.conn.Flush(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		select {
		case <-refused:
		case <-time.After(patience):
			t.Fatal("nothing was to be stored")
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		cfg.Subjects = all
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
}
