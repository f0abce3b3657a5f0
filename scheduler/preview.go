package scheduler

import (
	"time"

	"github.com/skybus-io/skybus/bus"
)

const maxPreview = 1000

// Next is when a timer made now would fire, its jitter left out, at most n times (1 to 1000): in the time zone of its expression, else in
// UTC. What would be due at once is at now. It may be fewer, none where a recurrence ends before it begins. Errors are those of Create.
func Next(spec Spec, now time.Time, n int) ([]time.Time, error) {
	if n < 1 || n > maxPreview {
		return nil, bus.Errorf(bus.InvalidArgument, "scheduler: next %d times: it must be 1 to %d", n, maxPreview)
	}
	if err := checkAge(spec, now); err != nil {
		return nil, err
	}
	start, err := startOf(spec, now)
	if err != nil {
		return nil, err
	}
	if spec.Repeat == nil {
		return []time.Time{later(start, now).UTC()}, nil
	}
	return spec.Repeat.preview(start, now, n)
}

// preview is when it fires; start is Spec.At or After.
func (r *Repeat) preview(start, now time.Time, n int) ([]time.Time, error) {
	if err := r.check(nil); err != nil {
		return nil, err
	}
	plain := *r
	plain.Jitter = 0
	t, err := plain.timetable("", nil)
	if err != nil {
		return nil, err
	}
	loc := time.UTC
	if t.every == 0 {
		loc = t.cron.loc
	}
	var times []time.Time
	o, ok := t.first(now, start)
	if ok && !o.due.After(now) {
		s := t.step(o, now, 0)
		for range s.fire {
			times = append(times, now.In(loc))
		}
		o, ok = s.next, !s.done
	}
	for ; ok && len(times) < n; o, ok = t.after(o) {
		times = append(times, o.nominal.In(loc))
	}
	return times[:min(n, len(times))], nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
