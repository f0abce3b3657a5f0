package main

import (
	"math"
	"math/bits"
	"time"
)

const (
	stepBits         = 6 // 64 steps from one power of two to the next: at most 1.6 % wide
	histogramBuckets = (64 - stepBits + 1) << stepBits
)

// histogram counts durations to the nanosecond up to 128 ns and to 1.6 % above. Counting allocates nothing.
type histogram struct {
	counts [histogramBuckets]uint64
	total  uint64
}

func bucketOf(v uint64) int {
	if v < 1<<stepBits {
		return int(v)
	}
	e := bits.Len64(v) - stepBits - 1
	return e<<stepBits + int(v>>e)
}

// valueOf is the middle of a bucket.
func valueOf(bucket int) uint64 {
	if bucket < 2<<stepBits {
		return uint64(bucket)
	}
	e := bucket>>stepBits - 1
	low := uint64(bucket-e<<stepBits) << e
	return low + (uint64(1)<<e-1)/2
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 0)))]++
	h.total++
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// quantile is the smallest duration that q of all are not above, 0 without any.
func (h *histogram) quantile(q float64) time.Duration {
	want := max(1, uint64(math.Ceil(q*float64(h.total))))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen >= want {
			return time.Duration(valueOf(i))
		}
	}
	return 0
}
