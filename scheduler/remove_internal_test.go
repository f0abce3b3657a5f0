package scheduler

import (
	"errors"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// What is removed without a trace is so once, and only where nobody may have begun to fire it.
func TestErase(t *testing.T) {
	t.Parallel()
	c, _ := workbench(t)
	s := c.s
	pending := func(id string) (*shard, *stored) {
		t.Helper()
		if _, err := s.Create(t.Context(), Spec{ID: id, After: time.Hour, Target: Target{URI: "nats://default.dev.pub.x"}}); err != nil {
			t.Fatal(err)
		}
		m, err := s.pending(t.Context(), s.shard(id), id)
		if err != nil {
			t.Fatal(err)
		}
		return s.shard(id), m
	}
	sh, m := pending("a")
	if err := s.erase(t.Context(), sh, m, maxTime()); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), "a"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("after that: %v", err)
	}
	if err := s.erase(t.Context(), sh, m, maxTime()); !errors.Is(err, errConflict) {
		t.Errorf("once more: %v", err)
	}
	sh, m = pending("b")
	if _, err := s.Pause(t.Context(), "b", 0); err != nil {
		t.Fatal(err)
	}
	if err := s.erase(t.Context(), sh, m, maxTime()); !errors.Is(err, errConflict) {
		t.Errorf("after a change: %v", err)
	}
	sh, m = pending("c")
	if err := s.erase(t.Context(), sh, m, time.Now()); reason(err) != "uncertain" {
		t.Errorf("when it may have been fired: %v", err)
	}
}
