package scheduler

import "time"

// Repeat makes a timer recur. Exactly one of Every and Cron is given. The next occurrence comes from the one before, never from
// when that was delivered, so nothing drifts.
type Repeat struct {
	// Every is the interval, at least 100 ms.
	Every time.Duration `json:"every,omitempty"`
	// Cron is an expression of 5 fields (minute hour day month weekday), of 6 (second first), or one of @yearly, @monthly, @weekly, @daily, @hourly.
	Cron string `json:"cron,omitempty"`
	// Zone is the IANA time zone of Cron, such as Europe/Berlin. Empty means UTC.
	Zone string `json:"zone,omitempty"`
	// Start: no occurrence is before it. The zero time means now.
	Start time.Time `json:"start,omitzero"`
	// End: no occurrence is after it. The zero time means never.
	End time.Time `json:"end,omitzero"`
	// Max is how many occurrences there are. 0 means no limit.
	Max int64 `json:"max,omitempty"`
	// Jitter delays each occurrence by a random time below it, at most a day and, of Every, the interval itself.
	Jitter time.Duration `json:"jitter,omitempty"`
	// Overlap says what happens when an occurrence is due while an earlier one is still being delivered. Empty means skip.
	Overlap Overlap `json:"overlap,omitempty"`
	// Missed says what happens to occurrences that nobody could fire in time. Empty means once.
	Missed Missed `json:"missed,omitempty"`
	// CatchUp is how many missed occurrences are made up for, the latest ones, where Missed is catch_up: 1 to 1000. 0 means 10.
	CatchUp int `json:"catch_up,omitempty"`
	// Window is how far back a missed occurrence is made up for, by once and catch_up. 0 means a year, at least 10 s.
	Window time.Duration `json:"window,omitempty"`
}

// Overlap is a policy for occurrences that would overlap.
type Overlap string

// The overlap policies, those of Temporal's schedules of these names.
const (
	Skip      Overlap = "skip"       // the new one does not happen
	BufferOne Overlap = "buffer_one" // it waits for the earlier one; a third does not happen
	Allow     Overlap = "allow"      // both are delivered at the same time
)

// Missed is a policy for occurrences that were missed.
type Missed string

// The policies for what was missed.
const (
	Once       Missed = "once"     // the latest one fires, the others do not happen
	SkipMissed Missed = "skip"     // none fires
	CatchUp    Missed = "catch_up" // the latest CatchUp ones fire
)
