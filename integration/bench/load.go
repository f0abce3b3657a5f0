package main

import (
	"cmp"
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
	P95     time.Duration `json:"p95"`
	P99     time.Duration `json:"p99"`
	Slowest time.Duration `json:"slowest"`

	// Only where failures are tolerated. They are not in Calls and not in the times above.
	Failed int           `json:"failed,omitempty"`
	Gap    time.Duration `json:"gap,omitempty"` // the longest time without an answer to anybody
}

// generate lets so many callers call for a time, each its next call when the last one is answered. A call that fails
// ends it, unless failures are tolerated: a window with failures measures something else.
func generate(ctx context.Context, call caller, o order) (load, error) {
	var running sync.WaitGroup
	var ids atomic.Int64
	ids.Store(firstID)
	errs := make([]error, o.Callers)
	seen := make([]callerView, o.Callers)
	start := time.Now()
	end := start.Add(o.For)
	for i := range o.Callers {
		running.Go(func() { errs[i] = seen[i].callUntil(ctx, call, end, &ids, o) })
	}
	running.Wait()
	elapsed := time.Since(start)
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return load{}, errs[i] // the others' are most likely the same
	}
	var all callerView
	for i := range seen {
		all.times.merge(&seen[i].times)
		all.answered = append(all.answered, seen[i].answered...)
		all.failed += seen[i].failed
		all.failure = cmp.Or(all.failure, seen[i].failure)
	}
	if all.times.total == 0 {
		return load{}, fmt.Errorf("not one of %d calls succeeded: %s", all.failed, all.failure)
	}
	times := &all.times
	return load{
		Calls: times.total, Elapsed: elapsed,
		P50: times.quantile(0.5), P95: times.quantile(0.95), P99: times.quantile(0.99), Slowest: times.quantile(1),
		Failed: all.failed, Gap: longestGap(all.answered, start, end),
	}, nil
}

// callerView is what one caller sees.
type callerView struct {
	times    histogram
	answered []time.Time // where failures are tolerated
	failed   int
	failure  string // the last of them
}

// callUntil makes at least one call.
func (v *callerView) callUntil(ctx context.Context, call caller, end time.Time, ids *atomic.Int64, o order) error {
	before := time.Now()
	begin, tolerate := before, o.Tolerate
	for n := 1; ; n++ {
		err := call(ctx, ids.Add(1))
		after := time.Now()
		switch {
		case err == nil && tolerate:
			v.answered = append(v.answered, after)
			v.times.add(after.Sub(before))
		case err == nil:
			v.times.add(after.Sub(before))
		case tolerate:
			v.failed++
			v.failure = err.Error()
		default:
			return fmt.Errorf("call: %w", err)
		}
		if !after.Before(end) {
			return nil
		}
		if before = after; o.Rate > 0 { // the wait is not the call's
			time.Sleep(time.Until(begin.Add(time.Duration(n*o.Callers) * time.Second / time.Duration(o.Rate))))
			before = time.Now()
		}
	}
}

// longestGap is the longest time between start and end in which nobody was answered; 0 where that was not asked.
func longestGap(answered []time.Time, start, end time.Time) time.Duration {
	if len(answered) == 0 {
		return 0
	}
	slices.SortFunc(answered, time.Time.Compare)
	longest := time.Duration(0)
	for _, t := range append(answered, end) {
		if t.After(end) {
			t = end
		}
		longest, start = max(longest, t.Sub(start)), t
	}
	return longest
}
