package scheduler

import (
	"context"
	"iter"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// Filter chooses timers: those that meet all that is set. The zero value chooses all.
type Filter struct {
	Prefix    string            // of the id
	States    []State           // one of them
	DueFrom   time.Time         // due then or later
	DueBefore time.Time         // due before
	Labels    map[string]string // each of them
	// Cursor goes on after the timer with this [Timer.Cursor].
	Cursor string
}

// Get is the timer as it is stored, not_found where it is not. Of a recurring timer that is being delivered it is the next occurrence,
// with the attempts of the delivery.
func (s *Scheduler) Get(ctx context.Context, id string) (Timer, error) {
	return Timer{}, bus.Errorf(bus.Unimplemented, "scheduler: get")
}

// List is the timers that f chooses, roughly in the order of their last change. It reads them as the loop goes on: what changes
// meanwhile may come twice, or late; what is there all the time and does not change comes exactly once. A recurring timer whose occurrence is being
// delivered comes once for itself and once for each such occurrence, in the state firing or retrying. An error ends the sequence.
func (s *Scheduler) List(ctx context.Context, f Filter) iter.Seq2[Timer, error] {
	return func(yield func(Timer, error) bool) {
		yield(Timer{}, bus.Errorf(bus.Unimplemented, "scheduler: list"))
	}
}

// Cursor is where List goes on after t, for pages: see [Filter].
func (t *Timer) Cursor() string { return "" }
