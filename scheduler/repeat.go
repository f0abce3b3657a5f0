package scheduler

import "time"

// Limits of a Repeat.
const (
	maxEvery       = 10 * 365 * 24 * time.Hour
	maxJitter      = 24 * time.Hour
	minWindow      = 10 * time.Second
	maxWindow      = maxEvery
	defaultWindow  = 365 * 24 * time.Hour
	maxCatchUp     = MaxUnderWay
	defaultCatchUp = 10
)

// Repeat makes a timer recur. Exactly one of Every and Cron is given. The next occurrence comes from the one before, never from
// when that was delivered, so nothing drifts.
//
// Every counts real time: 24h is 24 hours, also on a day of 23. Cron goes by the clock of its Zone, and when that is changed:
//   - Where the hour is fixed (30 2 * * *), each time comes once a day. One that the clock jumps over comes when it would have come had the clock
//     not been changed: in Berlin, where on one day of spring 03:00 follows 01:59, 02:30 comes at 03:30, and at 03:30 nothing more where that is in the
//     expression too. One that the clock shows twice comes the first time.
//   - Where the expression takes every hour (*/30 * * * *), it comes whenever the clock shows such a time: never while it jumps, and
//     both times when it shows one twice, so every half hour of real time.
//
// Occurrences are numbered from 1 as the schedule comes round, those that do not happen included: [Delivery.Occurrence] and Max count so.
type Repeat struct {
	// Every is the interval, 100 ms to 10 years. The first occurrence is one interval from now, or at Start where that is later. From
	// a Start that is past it goes by whole intervals.
	Every time.Duration `json:"every,omitempty"`
	// Cron is an expression of 5 fields (minute hour day month weekday), of 6 (second first), or one of @yearly, @annually, @monthly,
	// @weekly, @daily, @midnight, @hourly. A field is *, values, ranges and steps (1,15 or 9-17 or */5), months and weekdays also by
	// their first three letters; Sunday is 0. Where day and weekday are both restricted, either is enough.
	Cron string `json:"cron,omitempty"`
	// Zone is the IANA time zone of Cron, such as Europe/Berlin. Empty means UTC. The rules are those of the machine that computes; a program that
	// runs where there are none brings them along with import _ "time/tzdata", as skybus does.
	Zone string `json:"zone,omitempty"`
	// Start: no occurrence is before it. The zero time means now.
	Start time.Time `json:"start,omitzero"`
	// End: no occurrence is after it, its jitter left out. The zero time means never.
	End time.Time `json:"end,omitzero"`
	// Max is the number of the last occurrence, as they are counted above. 0 means no limit.
	Max int64 `json:"max,omitempty"`
	// Jitter delays each occurrence by a random time below it, at most a day and, of Every, the interval itself. It is never delayed
	// to the next one, and always the same for the same occurrence.
	Jitter time.Duration `json:"jitter,omitempty"`
	// Overlap says what happens when an occurrence is due while an earlier one is still being delivered or waits to be tried again, also one from before
	// an update. Empty means skip.
	Overlap Overlap `json:"overlap,omitempty"`
	// Missed says what happens to occurrences that nobody could fire in time. Empty means once.
	Missed Missed `json:"missed,omitempty"`
	// CatchUp is how many missed occurrences are made up for, the latest ones, where Missed is catch_up: 1 to 1000. 0 means 10.
	CatchUp int `json:"catch_up,omitempty"`
	// Window is how far back a missed occurrence is made up for, by once and catch_up: 10 s to 10 years. 0 means a year.
	Window time.Duration `json:"window,omitempty"`
}

// Overlap is a policy for occurrences that would overlap.
type Overlap string

// The overlap policies, those of Temporal's schedules of these names.
const (
	Skip      Overlap = "skip"       // the new one does not happen
	BufferOne Overlap = "buffer_one" // it waits for the earlier one; a third does not happen
	Allow     Overlap = "allow"      // both are delivered at the same time, up to MaxUnderWay of them
)

// Missed is a policy for occurrences that were missed.
type Missed string

// The policies for what was missed.
const (
	Once       Missed = "once"     // the latest one fires, the others do not happen
	SkipMissed Missed = "skip"     // none fires
	CatchUp    Missed = "catch_up" // the latest CatchUp ones fire: one after the other, unless Overlap is Allow
)

// waits tells whether an occurrence may have to wait for an earlier one.
func (r *Repeat) waits() bool {
	return r.Overlap == BufferOne || r.Overlap != Allow && r.Missed == CatchUp
}

// check tells whether r can be used, by an error with the code invalid_argument and the detail "field".
func (r *Repeat) check(zones *zones) error {
	if err := r.checkTimes(zones); err != nil {
		return err
	}
	if err := r.checkBounds(); err != nil {
		return err
	}
	return r.checkPolicies()
}

func (r *Repeat) checkTimes(zones *zones) error {
	if r.Cron == "" {
		switch {
		case r.Every == 0:
			return invalid("repeat", "needs every or cron")
		case r.Every < MinEvery || r.Every > maxEvery:
			return invalid("repeat.every", "is %s, it must be %s to %s", r.Every, MinEvery, maxEvery)
		case r.Zone != "":
			return invalid("repeat.zone", "is for cron: every counts real time, which is the same everywhere")
		}
		return nil
	}
	if r.Every != 0 {
		return invalid("repeat", "has every and cron, it must be one of them")
	}
	_, err := r.timetable("", zones)
	return err
}

func (r *Repeat) checkBounds() error {
	epoch := time.Unix(0, 0).UTC()
	switch {
	case !r.Start.IsZero() && (r.Start.Before(epoch) || r.Start.After(maxTime())):
		return invalid("repeat.start", "is %s, it must be %s to %s", when(r.Start), when(epoch), when(maxTime()))
	case !r.End.IsZero() && (r.End.Before(epoch) || r.End.UTC().Year() > 9999):
		return invalid("repeat.end", "is %s, it must be %s to the year 9999", when(r.End), when(epoch))
	case !r.Start.IsZero() && !r.End.IsZero() && r.End.Before(r.Start):
		return invalid("repeat.end", "is %s, before repeat.start, %s", when(r.End), when(r.Start))
	case r.Max < 0:
		return invalid("repeat.max", "is %d, it must not be negative", r.Max)
	case r.Jitter < 0 || r.Jitter > maxJitter:
		return invalid("repeat.jitter", "is %s, it must be 0 to %s", r.Jitter, maxJitter)
	case r.Every != 0 && r.Jitter > r.Every:
		return invalid("repeat.jitter", "is %s, it must be 0 to the interval, %s", r.Jitter, r.Every)
	}
	return nil
}

func (r *Repeat) checkPolicies() error {
	switch r.Overlap {
	case "", Skip, BufferOne, Allow:
	default:
		return invalid("repeat.overlap", "is %q, it must be %s, %s or %s", r.Overlap, Skip, BufferOne, Allow)
	}
	switch r.Missed {
	case "", Once, SkipMissed, CatchUp:
	default:
		return invalid("repeat.missed", "is %q, it must be %s, %s or %s", r.Missed, Once, SkipMissed, CatchUp)
	}
	switch {
	case r.CatchUp < 0 || r.CatchUp > maxCatchUp:
		return invalid("repeat.catch_up", "is %d, it must be 1 to %d", r.CatchUp, maxCatchUp)
	case r.CatchUp != 0 && r.Missed != CatchUp:
		return invalid("repeat.catch_up", "is for the policy %s in repeat.missed", CatchUp)
	case r.Window != 0 && (r.Window < minWindow || r.Window > maxWindow):
		return invalid("repeat.window", "is %s, it must be %s to %s", r.Window, minWindow, maxWindow)
	case r.Window != 0 && r.Missed == SkipMissed:
		return invalid("repeat.window", "is for the policies %s and %s in repeat.missed", Once, CatchUp)
	}
	return nil
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }
