package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is what one window of calls was like for the callers.
type load struct {
	Calls   uint64        `json:"calls"`
	Elapsed time.Duration `json:"elapsed"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
}

// generate lets so many callers call for a time, each its next call when the last one is answered. A call that fails
// ends it: a window with failures measures something else.
func generate(ctx context.Context, call caller, callers int, d time.Duration) (load, error) {
	var running sync.WaitGroup
	var ids atomic.Int64
	ids.Store(firstID)
	errs := make([]error, callers)
	times := make([]histogram, callers)
	start := time.Now()
	end := start.Add(d)
	for i := range callers {
		running.Go(func() { errs[i] = callUntil(ctx, call, end, &ids, &times[i]) })
	}
	running.Wait()
	elapsed := time.Since(start)
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return load{}, errs[i] // the others' are most likely the same
	}
	var all histogram
	for i := range times {
		all.merge(&times[i])
	}
	return load{Calls: all.total, Elapsed: elapsed, P50: all.quantile(0.5), P99: all.quantile(0.99)}, nil
}

func callUntil(ctx context.Context, call caller, end time.Time, ids *atomic.Int64, times *histogram) error {
	before := time.Now()
	for before.Before(end) {
		if err := call(ctx, ids.Add(1)); err != nil {
			return fmt.Errorf("call: %w", err)
		}
		after := time.Now()
		times.add(after.Sub(before))
		before = after
	}
	return nil
}
