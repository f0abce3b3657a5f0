// Package schedulertest moves time for tests of programs that set timers. What is due fires through the real path: the streams, the
// owners and workers of a running scheduler, and its transports. Hours take milliseconds.
//
//	func TestReminder(t *testing.T) {
//		conn := bustest... // a connection to a server of the test's own
//		timers := schedulertest.Run(t, conn, scheduler.Config{Transports: map[string]scheduler.Transport{"mail": outbox}})
//		remind(timers.Scheduler, "ada") // creates a timer for tomorrow
//		timers.Advance(24 * time.Hour)
//		// outbox has it
//	}
package schedulertest

import (
	"context"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

// patience bounds an Advance: something hangs that takes longer.
const patience = time.Minute

// Timers is a running scheduler whose time the test moves.
type Timers struct {
	*scheduler.Scheduler

	t testing.TB
}

// Run opens a scheduler with cfg and runs it until the test ends. There must be no other one in conn's namespace. Whoever creates
// timers has to do it by this one, or over its HTTP API: others would count from the server's time.
func Run(t testing.TB, conn *bus.Conn, cfg scheduler.Config) *Timers {
	t.Helper()
	cfg.VirtualTime = true
	s, err := scheduler.Open(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // the cleanup waits for it
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("schedulertest: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("schedulertest: %v", err)
		}
	})
	return &Timers{s, t}
}

// Advance moves time ahead by d and returns when everything that is due by then was fired and delivered, retries included: each in its
// turn, so that a timer of every minute fires sixty times in an hour. With 0 it waits for what is due now.
func (s *Timers) Advance(d time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.Scheduler.Advance(ctx, d); err != nil {
		s.t.Fatalf("schedulertest: %v", err)
	}
}
