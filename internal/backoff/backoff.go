// Package backoff waits between attempts.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for d and tells whether it passed before ctx ended. A d of 0 or less has passed.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Full is how long to wait after attempt, counted from 1: a random time below first, doubled with each attempt up to last.
// This is what is called full jitter: callers that failed together do not come back together.
func Full(attempt int, first, last time.Duration) time.Duration {
	ceiling := last
	if shift := max(attempt, 1) - 1; shift < 32 && first<<shift>>shift == first {
		ceiling = min(last, first<<shift)
	}
	return rand.N(max(ceiling, 1))
}
