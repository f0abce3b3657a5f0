package scheduler

import (
	"time"

	"github.com/skybus-io/skybus/bus"
)

// occurrence is one time that a recurring timer is due.
type occurrence struct {
	n       int64     // counted from 1; those that do not happen count
	nominal time.Time // without its jitter
	due     time.Time // with it: before the next one's nominal
}

// timetable tells when a Repeat is due. It does not change.
type timetable struct{}

// check tells whether r can be used, by an error with the code invalid_argument and the detail "field".
func (r *Repeat) check() error { return bus.Errorf(bus.Unimplemented, "scheduler: recurring timers") }

// timetable is that of r, which must have passed check here or elsewhere. An error means that this process does not know the time zone.
// The jitter comes from seed: record.Gen.
func (r *Repeat) timetable(seed string, zones *zones) (*timetable, error) {
	return nil, bus.Errorf(bus.Unimplemented, "scheduler: recurring timers")
}

// first is the first occurrence of a timer that is made now. With a start (Spec.At or After) it is the first at or after that.
// False means that there is none.
func (t *timetable) first(now, start time.Time) (occurrence, bool) { return occurrence{}, false }

// after is the occurrence that follows o. False means that o was the last.
func (t *timetable) after(o occurrence) (occurrence, bool) { return occurrence{}, false }

// resume is the first of o and those that follow it whose due is after now, and how many come before it. False means that there is none.
func (t *timetable) resume(o occurrence, now time.Time) (next occurrence, skipped int64, ok bool) {
	return occurrence{}, 0, false
}

// step is what to do with a recurring timer that is due.
type step struct {
	fire    []occurrence // in order; not overlapping policies, which the caller applies
	skipped int64        // occurrences that do not happen, by Repeat.Missed
	next    occurrence
	done    bool // there is no next one
}

// step tells what to do when now, at or after o.due, is the time: o and what follows it up to now is due; what is more than late ago
// counts as missed.
func (t *timetable) step(o occurrence, now time.Time, late time.Duration) step {
	return step{done: true}
}
