//go:build unix

package integration_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/auth"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/scheduler"
)

// stubborn is a transport that fails once, or always, as the timer's id says.
type stubborn struct{}

func (stubborn) Check(context.Context, scheduler.Target) error { return nil }

func (stubborn) Deliver(_ context.Context, d *scheduler.Delivery) error {
	if d.TimerID == "never" || d.TimerID == "second" && d.Attempt == 1 {
		return &scheduler.DeliveryError{Unharmed: true, Err: errors.New("no")}
	}
	return nil
}

// TestSchedulerUnderRole fires and delivers with nothing but the rights of a scheduler, which makes no streams: what is tried again, what
// waits for an earlier occurrence, and what is given up.
func TestSchedulerUnderRole(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	admin, conn := s.admin(t, "shop.prod"), s.part(t, auth.Scheduler)
	if _, err := kv.OpenLeases(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	cfg := scheduler.Config{Transports: map[string]scheduler.Transport{"stubborn": stubborn{}}}
	open := func(conn *bus.Conn) *scheduler.Scheduler {
		sched, err := scheduler.Open(t.Context(), conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sched.Close() })
		return sched
	}
	owner, sched := open(admin), open(conn)
	runUntilCleanup(t, sched.Run)
	for _, spec := range []scheduler.Spec{
		{ID: "first"},
		{ID: "second"},
		{ID: "never"},
		{ID: "again", Repeat: &scheduler.Repeat{Every: 100 * time.Millisecond, Max: 3, Overlap: scheduler.BufferOne}},
	} {
		spec.Target = scheduler.Target{Transport: "stubborn", URI: "stubborn:x"}
		spec.Retry = scheduler.Retry{MaxAttempts: 2, First: 10 * time.Millisecond}
		if spec.Repeat == nil {
			spec.After = time.Millisecond
		}
		if _, err := sched.Create(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Eventually(t, "all to be over", func() bool {
		st := sched.Stats()
		return st.Delivered >= 3 && st.Failed == 3 && st.Dead == 1
	})
	for l, err := range owner.DeadLetters().List(t.Context(), scheduler.DeadFilter{}) {
		if err != nil || l.Timer.ID != "never" || l.Attempts != 2 || !strings.Contains(l.Error, "no") {
			t.Errorf("%+v, %v", l, err)
		}
	}
	harmless(t, conn)
}

// lockedLog is a log that is read while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// TestDeadLettersUnderRole delivers where an older release has made the shards alone: that there is no place for dead letters is said at once, with
// what to do, and what is given up is kept until that was done.
func TestDeadLettersUnderRole(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	admin, conn := s.admin(t, "shop.prod"), s.part(t, auth.Scheduler)
	if _, err := kv.OpenLeases(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	log := &lockedLog{}
	open := func(conn *bus.Conn) *scheduler.Scheduler {
		sched, err := scheduler.Open(t.Context(), conn, scheduler.Config{
			Transports: map[string]scheduler.Transport{"stubborn": stubborn{}}, Logger: slog.New(slog.NewTextHandler(log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sched.Close() })
		return sched
	}
	owner := open(admin)
	if err := admin.JetStream().DeleteStream(t.Context(), "SKYBUS_DLQ"); err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, open(conn).Run)
	bustest.Eventually(t, "it says what is missing", func() bool {
		return log.has("there is no stream SKYBUS_DLQ") && log.has("`skybus scheduler`, started once as a user who may create streams")
	})
	runUntilCleanup(t, owner.Run) // as it says
	bustest.Eventually(t, "the stream", func() bool {
		_, err := admin.JetStream().Stream(t.Context(), "SKYBUS_DLQ")
		return err == nil
	})
	if _, err := owner.Create(t.Context(), scheduler.Spec{
		ID: "never", After: time.Millisecond, Target: scheduler.Target{Transport: "stubborn", URI: "stubborn:x"}, Retry: scheduler.Retry{MaxAttempts: 1},
	}); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "a letter", func() bool {
		n := 0
		for _, err := range owner.DeadLetters().List(t.Context(), scheduler.DeadFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n == 1
	})
}
