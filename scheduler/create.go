package scheduler

import (
	"context"
	"iter"

	"github.com/skybus-io/skybus/bus"
)

// Create stores a timer. Once it returns the timer is stored as durably as the servers are configured.
//
// The error has the code invalid_argument for a spec that can never work, with its field in the detail "field"; permission_denied for a target
// that is not allowed, with the setting that allows it; already_exists where a timer with the id, or the key, is pending, with its id in the
// detail "id"; resource_exhausted where the server has no room; unavailable where nothing was stored and it may be tried again. After
// deadline_exceeded or canceled nobody knows.
func (s *Scheduler) Create(ctx context.Context, spec Spec) (Timer, error) {
	return Timer{}, bus.Errorf(bus.Unimplemented, "scheduler: create")
}

// CreateMany stores timers and yields what came of each, in the order of specs, while it stores the next ones: thousands are under
// way at once. An error is that of one spec, as Create's, and does not end the sequence. When ctx ends the rest of specs is not taken.
func (s *Scheduler) CreateMany(ctx context.Context, specs iter.Seq[Spec]) iter.Seq2[Timer, error] {
	return func(yield func(Timer, error) bool) {
		yield(Timer{}, bus.Errorf(bus.Unimplemented, "scheduler: create many"))
	}
}
