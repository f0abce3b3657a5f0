package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if !backoff.Sleep(t.Context(), time.Hour) || time.Since(begin) != time.Hour {
			t.Errorf("slept %v, want 1h", time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin = time.Now()
		if backoff.Sleep(ctx, time.Hour) || time.Since(begin) != time.Minute {
			t.Errorf("slept %v, want to be told that ctx ended after 1m", time.Since(begin))
		}
		if backoff.Sleep(ctx, 0) || !backoff.Sleep(t.Context(), -1) {
			t.Error("no time passes only while ctx lasts")
		}
	})
}

func TestFull(t *testing.T) {
	t.Parallel()
	const first, last = time.Second, time.Minute
	for attempt, ceiling := range map[int]time.Duration{
		-1: first, 0: first, 1: first, 2: 2 * first, 6: 32 * first, 7: last, 33: last, 1 << 40: last,
	} {
		var most time.Duration
		for range 1000 {
			d := backoff.Full(attempt, first, last)
			if d < 0 || d >= ceiling {
				t.Fatalf("attempt %d: %v, want less than %v", attempt, d, ceiling)
			}
			most = max(most, d)
		}
		if most < ceiling/2 {
			t.Errorf("attempt %d: %v at most of 1000, want up to %v", attempt, most, ceiling)
		}
	}
}
