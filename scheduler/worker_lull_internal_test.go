package scheduler

import (
	"testing"
	"time"
)

// Of all who wait one tells, and what may be over in a moment, after the connection came back, nobody does before it lasts.
func TestLull(t *testing.T) {
	t.Parallel()
	var l lull
	start := time.Now()
	begin := func(after time.Duration, first, renewed, want bool) {
		t.Helper()
		if got := l.begin(first, renewed, start.Add(after)); got != want {
			t.Errorf("told after %s: %t, want %t", after, got, want)
		}
	}
	end := func(after time.Duration, want bool) {
		t.Helper()
		if took, got := l.end(start.Add(after)); got != want || got && took != after {
			t.Errorf("its end told after %s: %t, of %s, want %t", after, got, took, want)
		}
	}
	begin(0, true, true, false)
	begin(time.Second, true, true, false)
	begin(2*time.Second, false, false, false)
	end(3*time.Second, false)
	end(3*time.Second, false)

	begin(0, true, true, false)
	begin(lullPatience-1, false, true, false)
	begin(lullPatience, false, true, true)
	begin(lullPatience, true, false, false)
	end(time.Minute, false)
	end(2*time.Minute, true)

	begin(0, true, false, true)
	begin(0, true, false, false)
	begin(time.Hour, false, false, false)
	end(time.Hour, false)
	end(time.Hour, true)
}
