package scheduler

import (
	"context"
	"iter"

	"github.com/skybus-io/skybus/bus"
)

// EventFilter chooses events. The zero value chooses all.
type EventFilter struct {
	ID    string // of one timer
	Kinds []EventKind
}

// Watch yields the events from now on, until ctx ends or the loop is left. Events are a hint for speed: those that come while the connection is
// down, or faster than the loop takes them, are missed, and an error of the code data_loss says so and does not end the sequence.
func (s *Scheduler) Watch(ctx context.Context, f EventFilter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		yield(Event{}, bus.Errorf(bus.Unimplemented, "scheduler: watch"))
	}
}
