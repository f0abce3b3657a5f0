package scheduler

import (
	"time"

	"github.com/skybus-io/skybus/bus"
)

// occurrence is one time that a recurring timer is due.
type occurrence struct {
	n       int64     // counted from 1
	nominal time.Time // without its jitter
	due     time.Time // with it
}

// check tells whether r can be used, by an error with the code invalid_argument and the detail "field".
func (r *Repeat) check() error { return bus.Errorf(bus.Unimplemented, "scheduler: recurring timers") }

// first is the first occurrence of a timer that is made now. With a start (Spec.At or After) it is the first at or after that.
// False means that there is none.
func (r *Repeat) first(now, start time.Time) (occurrence, bool) { return occurrence{}, false }

// after is the occurrence that follows o. False means that o was the last.
func (r *Repeat) after(o occurrence) (occurrence, bool) { return occurrence{}, false }

// step is what to do with a recurring timer that is due.
type step struct {
	fire    []occurrence // in order; not overlapping policies, which the caller applies
	skipped int64        // occurrences that do not happen
	next    occurrence
	done    bool // there is no next one
}

// step tells what to do when now, at or after o.due, is the time: o and what follows it up to now is due; what is more than late ago
// counts as missed.
func (r *Repeat) step(o occurrence, now time.Time, late time.Duration) step { return step{done: true} }
