package scheduler

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// The wait for the next attempt is random, below a bound that doubles with each one up to the longest.
func TestWaitGrows(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for tried, bound := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 8: 5 * time.Second} {
		most, least := time.Duration(0), time.Hour
		for range 1000 {
			at, why := afterAttempts(tried, now, Retry{First: time.Second, Last: 5 * time.Second}).next(now, nil)
			if why != "" {
				t.Fatalf("after %d attempts: %s", tried, why)
			}
			most, least = max(most, at.Sub(now)), min(least, at.Sub(now))
		}
		if most >= bound || most < bound*9/10 || least < 0 || least > bound/10 {
			t.Errorf("after %d attempts it waits %s to %s, want from nothing to %s", tried, least, most, bound)
		}
	}
}

// What a target asks for counts where it is longer than the wait, up to the end of the time that there is.
func TestNextAttempt(t *testing.T) {
	t.Parallel()
	now := time.Now()
	quick := Retry{First: 10 * time.Millisecond, Last: 10 * time.Millisecond, MaxAttempts: 3, MaxAge: 48 * time.Hour}
	short := quick
	short.MaxAge = time.Minute
	for name, tt := range map[string]struct {
		tried   int
		retry   Retry
		failure *DeliveryError
		after   time.Duration // at least, and not much more
		why     string
	}{
		"asks for a minute":         {1, quick, &DeliveryError{RetryAfter: time.Minute}, time.Minute, ""},
		"asks for days":             {1, quick, &DeliveryError{RetryAfter: 40 * time.Hour}, 40 * time.Hour, ""},
		"asks for centuries":        {1, quick, &DeliveryError{RetryAfter: math.MaxInt64}, 48 * time.Hour, ""},
		"asks for all there is":     {1, short, &DeliveryError{RetryAfter: time.Hour}, time.Minute, ""},
		"no attempt left":           {3, quick, nil, 0, "attempt 3 of 3"},
		"will never take it":        {1, quick, &DeliveryError{Permanent: true}, 0, "no attempt will succeed"},
		"no time left":              {1, Retry{MaxAge: time.Nanosecond}, nil, 0, "after it was due"},
		"never again":               {1, Retry{MaxAttempts: 1}, nil, 0, "attempt 1 of 1"},
		"ten attempts, if not said": {10, Retry{}, nil, 0, "attempt 10 of 10"},
	} {
		if tt.failure != nil {
			tt.failure.Err = errors.New("no")
		}
		at, why := afterAttempts(tt.tried, now, tt.retry).next(now.Add(time.Microsecond), tt.failure)
		if (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) {
			t.Errorf("%s: %q, want %q", name, why, tt.why)
		}
		if wait := at.Sub(now); why == "" && (wait < tt.after || wait > tt.after+time.Second) {
			t.Errorf("%s: in %s, want %s", name, wait, tt.after)
		}
	}
}

// afterAttempts is a delivery that was due and fired at a time, and tried so often.
func afterAttempts(n int, due time.Time, retry Retry) *parcel {
	return &parcel{stored: &stored{due: due.UnixNano(), fired: due.UnixNano(), record: record{Retry: retry}}, tried: make([]Attempt, n)}
}
