package scheduler

import (
	"time"

	"github.com/skybus-io/skybus/bus"
)

// Next is when a timer made now would fire, its jitter left out, at most n times.
func Next(spec Spec, now time.Time, n int) ([]time.Time, error) {
	return nil, bus.Errorf(bus.Unimplemented, "scheduler: next")
}
