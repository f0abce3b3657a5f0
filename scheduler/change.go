package scheduler

import (
	"context"

	"github.com/skybus-io/skybus/bus"
)

// Update replaces a pending timer by spec, whose ID and Key must be empty or its own. rev is the revision it must have, 0 means any.
// After counts from now, not from the creation; a spec from [Scheduler.Get] keeps its time, which is in At.
//
// The error is not_found; aborted where the timer has another revision; failed_precondition with the detail "reason" already_due where
// it is due or being delivered; else as Create's. A recurring timer can be updated at any time.
func (s *Scheduler) Update(ctx context.Context, id string, rev uint64, spec Spec) (Timer, error) {
	return Timer{}, bus.Errorf(bus.Unimplemented, "scheduler: update")
}

// Cancel removes a pending timer, or what it still retries. Errors are those of Update. Once it has returned nil, no occurrence fires that
// was not due before, and no further attempt begins.
func (s *Scheduler) Cancel(ctx context.Context, id string, rev uint64) error {
	return bus.Errorf(bus.Unimplemented, "scheduler: cancel")
}

// FireNow makes a timer due now. One that fires once is gone with it; of a recurring one it is an occurrence beside the schedule. A paused
// one fires too.
// It returns the Delivery.ID.
func (s *Scheduler) FireNow(ctx context.Context, id string) (string, error) {
	return "", bus.Errorf(bus.Unimplemented, "scheduler: fire now")
}

// Pause keeps a timer from firing until Resume. To pause a paused one does nothing. Errors are those of Update.
func (s *Scheduler) Pause(ctx context.Context, id string) (Timer, error) {
	return Timer{}, bus.Errorf(bus.Unimplemented, "scheduler: pause")
}

// Resume ends a pause. A timer whose time has passed meanwhile is due at once; a recurring one goes on with its next occurrence
// after now: those of the pause do not happen.
func (s *Scheduler) Resume(ctx context.Context, id string) (Timer, error) {
	return Timer{}, bus.Errorf(bus.Unimplemented, "scheduler: resume")
}
