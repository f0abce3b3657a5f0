//go:build unix

package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/internal/supervise"
	"github.com/skybus-io/skybus/micro/registry"
)

// startSleepers runs two copies of a program that registers nothing.
func startSleepers(t *testing.T) *supervise.Supervisor {
	t.Helper()
	sup, err := supervise.New(supervise.Config{Command: []string{"sleep", "60"}, Count: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- sup.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	bustest.Eventually(t, "both run", func() bool { return len(sup.Running()) == 2 })
	return sup
}

// TestWatchTellsOnce of copies that register no service.
func TestWatchTellsOnce(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	w := &copyWatch{
		sup: startSleepers(t), log: slog.New(slog.NewTextHandler(&log, nil)), patience: time.Hour,
		registered: map[string]bool{"sleep.1": true},
	}
	w.tellUnregistered(t.Context(), "too early")
	w.patience = 0
	w.tellUnregistered(t.Context(), "no server")
	w.tellUnregistered(t.Context(), "still none")
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `msg="watched by its exit only" instance=sleep.2 reason="no server"`) {
		t.Errorf("logged %q", got)
	}
}

// TestOwnerOf takes no record for a copy's that another process may have left, whatever its id was.
func TestOwnerOf(t *testing.T) {
	t.Parallel()
	running := startSleepers(t).Running()
	first := running[0]
	for what, c := range map[string]struct {
		pid     int
		started time.Time
		owned   bool
	}{
		"its own":                 {first.PID, time.Now(), true},
		"of the same id, earlier": {first.PID, first.Started.Add(-time.Minute), false},
		"this process":            {os.Getpid(), time.Now(), false},
		"without an id":           {0, time.Now(), false},
		"nonsense":                {-first.PID, time.Now(), false},
	} {
		owner, ok := ownerOf(running, &registry.Instance{Record: registry.Record{PID: c.pid, Started: c.started}})
		if ok != c.owned || ok && owner != first {
			t.Errorf("%s: %+v, %v, want %v", what, owner, ok, c.owned)
		}
	}
}
